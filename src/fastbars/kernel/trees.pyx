"""The specs of a kernel as rules, and which of them feeds which.

Time specs whose intervals nest form a tree: its root takes the trades, every other spec the closed bars of the one that
feeds it, by the law that bars merge.

Units: times int64 ns since the epoch, UTC.
"""

import cython
import numpy as np

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free

from fastbars.kernel.limits cimport DAY_NS, EARLIEST_NS, LATEST_NS, LONGEST_MONTHS, LONGEST_NS
from fastbars.kernel.paths cimport TRADES, path_kind_of, path_rule_of
from fastbars.kernel.rules cimport FIXED, MONTHS, SESSIONS, ZONED, Rule, is_time_kind

from fastbars.errors import SpecError

_TIME_KINDS = {"time": FIXED, "zoned": ZONED, "sessions": SESSIONS, "months": MONTHS}


def _nests(inner, outer):
    # Whether intervals of `outer` are certain to be unions of such of `inner`.
    (kind, step, origin), (outer_kind, outer_step, outer_origin) = inner.rule, outer.rule
    if kind == "months":
        return outer_kind == "months" and outer_step % step == 0
    if kind == "sessions":
        return False            # a trade outside of them would be in no bar of `inner`
    if outer_kind == "sessions":
        return kind == "time" and not ((outer.boundaries[1:len(outer.boundaries) - 1] - origin) % step).any()
    if kind == "zoned":
        return outer_kind == "zoned" and _are_among(outer.boundaries, inner.boundaries)
    if outer_kind == "zoned":
        return not ((outer.boundaries - origin) % step).any()
    if outer_kind == "months":
        return DAY_NS % step == 0 and origin % step == 0
    return outer_step % step == 0 and (outer_origin - origin) % step == 0


def _asks(spec):
    # What is inside a bar does not pass on to those that it feeds: such a spec takes its own trades.
    return bool(getattr(spec, "features", ()))


cdef bint _are_among(times, others) except? False:
    within = times[(times > others[0]) & (times < others[len(others) - 1])]
    return np.isin(within, others).all()


cdef int _check_rule(const Rule *rule, object spec) except -1:
    # A spec may be any object: what the loops divide by, and use as intervals, is checked here.
    cdef int64_t longest = LONGEST_MONTHS if rule.kind == MONTHS else LONGEST_NS
    if not is_time_kind(rule.kind):
        if path_rule_of(rule.kind).step_unit == TRADES and rule.step < 1:
            raise SpecError(f"bar spec {spec} has a step of {rule.step} trades; it must be positive")
    elif rule.kind != ZONED and rule.kind != SESSIONS and not (1 <= rule.step <= longest and -LONGEST_NS <= rule.origin <= LONGEST_NS):
        raise SpecError(f"bar spec {spec} has a step of {rule.step} from {rule.origin}; it must be positive, and 100 years at most")
    return 0


def _checked_boundaries(spec, is_sessions):
    boundaries = np.ascontiguousarray(spec.boundaries, np.int64)
    if boundaries.flags.writeable:
        boundaries = boundaries.copy()
    if boundaries.ndim != 1 or len(boundaries) < 2 or boundaries[0] > EARLIEST_NS or boundaries[len(boundaries) - 1] <= LATEST_NS or not (
        _are_sessions(boundaries) if is_sessions else (np.diff(boundaries) > 0).all()
    ):
        raise SpecError(f"the boundaries of bar spec {spec} do not ascend from before {EARLIEST_NS} to behind {LATEST_NS}")
    return boundaries


cdef bint _are_sessions(boundaries) except? False:
    # Outside, session, outside, ..., outside: only that between two sessions may have no length.
    lengths = np.diff(boundaries)
    return len(lengths) % 2 == 1 and (lengths >= 0).all() and (lengths[1::2] > 0).all()


@cython.final
cdef class SpecTrees:
    def __cinit__(self, specs):
        cdef Specs *tables = &self.tables
        self.specs = tuple(specs)
        self.boundaries = []
        if not self.specs:
            raise ValueError("at least one bar spec is needed")
        tables.count = len(self.specs)
        tables.rules = <Rule *>calloc(tables.count, sizeof(Rule))
        tables.anchors = <Rule *>calloc(tables.count, sizeof(Rule))
        tables.trees = <Tree *>calloc(tables.count, sizeof(Tree))
        tables.order = <int *>calloc(tables.count, sizeof(int))
        tables.subtree_end = <int *>calloc(tables.count, sizeof(int))
        tables.source = <int *>calloc(tables.count, sizeof(int))
        if tables.rules is NULL or tables.anchors is NULL or tables.trees is NULL or (
            tables.order is NULL or tables.subtree_end is NULL or tables.source is NULL
        ):
            raise MemoryError
        self.read_rules()
        self.build_trees()

    def __dealloc__(self):
        free(self.tables.rules)
        free(self.tables.anchors)
        free(self.tables.trees)
        free(self.tables.order)
        free(self.tables.subtree_end)
        free(self.tables.source)

    cdef int read_rules(self) except -1:
        cdef int k
        for k, spec in enumerate(self.specs):
            self.read_rule(&self.tables.rules[k], spec)
            anchor = getattr(spec, "anchor", None)
            if anchor is None:
                continue
            self.read_rule(&self.tables.anchors[k], anchor)
            if is_time_kind(self.tables.rules[k].kind) or not is_time_kind(self.tables.anchors[k].kind):
                raise SpecError(f"bar spec {spec}: only path-driven specs have an anchor, and it is a time spec")
            self.tables.rules[k].anchor = &self.tables.anchors[k]
            self.tables.anchored = True
        return 0

    cdef int read_rule(self, Rule *rule, object spec) except -1:
        kind, step, origin = spec.rule
        rule[0] = Rule(_TIME_KINDS[kind] if kind in _TIME_KINDS else path_kind_of(kind), step, origin, NULL, 0, NULL)
        _check_rule(rule, spec)
        if rule.kind == ZONED or rule.kind == SESSIONS:
            boundaries = _checked_boundaries(spec, rule.kind == SESSIONS)
            self.boundaries.append(boundaries)
            rule.boundaries = <const int64_t *><size_t>boundaries.ctypes.data
            rule.boundary_count = len(boundaries)
        return 0

    cdef int build_trees(self) except -1:
        # Each time spec is fed by the longest one that nests in it.
        cdef Specs *tables = &self.tables
        cdef int k, place = 0
        for k in range(tables.count):
            tables.source[k] = -1
        timed = [k for k in range(tables.count) if is_time_kind(tables.rules[k].kind)]
        timed.sort(key=lambda k: (
            self.tables.rules[k].kind, self.tables.rules[k].step, -self.tables.rules[k].boundary_count))
        for number, k in enumerate(timed):
            for other in timed[:number]:
                if not (_asks(self.specs[other]) or _asks(self.specs[k])) and _nests(self.specs[other], self.specs[k]):
                    tables.source[k] = other
        for k in timed:
            if tables.source[k] < 0:
                tables.trees[tables.tree_count] = Tree(k, place, self.put_in_order(k, place, timed))
                place = tables.trees[tables.tree_count].stop
                tables.tree_count += 1
        return 0

    cdef int put_in_order(self, int spec, int place, list timed) except -1:
        # From `place` on: the spec and all that it feeds. Returns the place behind them.
        cdef int k, at = place
        self.tables.order[place] = spec
        place += 1
        for k in timed:
            if self.tables.source[k] == spec:
                place = self.put_in_order(k, place, timed)
        self.tables.subtree_end[at] = place
        return place
