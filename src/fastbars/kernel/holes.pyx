"""The holes in the ids of one symbol, kept in order of ids; see holes.pxd.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from fastbars.kernel.scaled cimport HIGHEST


cdef void begin_holes(Holes *holes) noexcept nogil:
    holes.nodes = NULL
    holes.root = holes.free = -1
    holes.count = holes.capacity = 0


cdef inline uint32_t _height(int32_t at) noexcept nogil:
    # Fixed for each place: the same trades build the same tree.
    cdef uint32_t mixed = <uint32_t>at * <uint32_t>0x9e3779b1
    mixed = (mixed ^ (mixed >> 15)) * <uint32_t>0x85ebca6b
    return mixed ^ (mixed >> 13)


cdef inline bint _reaches(const Hole *hole, int64_t open_time, int64_t close_time) noexcept nogil:
    # (Times may run backwards while ids go on.)
    return min(hole.since_ns, hole.until_ns) < close_time and max(hole.since_ns, hole.until_ns) >= open_time


cdef inline void _add_below(Node *node, const Node *below) noexcept nogil:
    node.since_ns, node.until_ns = min(node.since_ns, below.since_ns), max(node.until_ns, below.until_ns)
    node.missing += below.missing
    node.unpublished += below.unpublished
    node.kinds |= below.kinds


cdef void _sum_up(Node *nodes, int32_t at) noexcept nogil:
    # What a node knows of the holes below it and of its own.
    cdef Node *node = &nodes[at]
    cdef const Hole *hole = &node.hole
    node.since_ns, node.until_ns = min(hole.since_ns, hole.until_ns), max(hole.since_ns, hole.until_ns)
    node.missing = hole.last - hole.first + 1 if hole.kind == MISSING else 0
    node.unpublished = hole.last - hole.first + 1 if hole.kind == UNPUBLISHED else 0
    node.kinds = <uint8_t>(1 << hole.kind)
    if node.left >= 0:
        _add_below(node, &nodes[node.left])
    if node.right >= 0:
        _add_below(node, &nodes[node.right])


# Changes.

cdef void _split(Node *nodes, int32_t root, int64_t first, int32_t *below, int32_t *above) noexcept nogil:
    if root < 0:
        below[0] = above[0] = -1
    elif nodes[root].hole.first < first:
        _split(nodes, nodes[root].right, first, &nodes[root].right, above)
        _sum_up(nodes, root)
        below[0] = root
    else:
        _split(nodes, nodes[root].left, first, below, &nodes[root].left)
        _sum_up(nodes, root)
        above[0] = root


cdef int32_t _joined(Node *nodes, int32_t below, int32_t above) noexcept nogil:
    if below < 0 or above < 0:
        return max(below, above)
    if _height(below) > _height(above):
        nodes[below].right = _joined(nodes, nodes[below].right, above)
        _sum_up(nodes, below)
        return below
    nodes[above].left = _joined(nodes, below, nodes[above].left)
    _sum_up(nodes, above)
    return above


cdef int32_t _inserted(Node *nodes, int32_t root, int32_t at) noexcept nogil:
    cdef int64_t first = nodes[at].hole.first
    if root < 0 or _height(at) > _height(root):
        _split(nodes, root, first, &nodes[at].left, &nodes[at].right)
        root = at
    elif first < nodes[root].hole.first:
        nodes[root].left = _inserted(nodes, nodes[root].left, at)
    else:
        nodes[root].right = _inserted(nodes, nodes[root].right, at)
    _sum_up(nodes, root)
    return root


cdef int32_t _without(Node *nodes, int32_t root, int64_t first, int32_t *removed) noexcept nogil:
    if root < 0:
        return -1
    if nodes[root].hole.first == first:
        removed[0] = root
        return _joined(nodes, nodes[root].left, nodes[root].right)
    if first < nodes[root].hole.first:
        nodes[root].left = _without(nodes, nodes[root].left, first, removed)
    else:
        nodes[root].right = _without(nodes, nodes[root].right, first, removed)
    _sum_up(nodes, root)
    return root


cdef void _replace(Node *nodes, int32_t root, int64_t first, const Hole *hole) noexcept nogil:
    if root < 0:
        return
    if nodes[root].hole.first == first:
        nodes[root].hole = hole[0]
    else:
        _replace(nodes, nodes[root].left if first < nodes[root].hole.first else nodes[root].right, first, hole)
    _sum_up(nodes, root)


cdef bint insert_hole(Holes *holes, Hole hole) noexcept nogil:
    # Its ids are of no other. False: there is no memory.
    cdef int32_t at = holes.free, capacity
    cdef Node *grown
    if at < 0:
        if holes.count == holes.capacity:
            capacity = max(2 * holes.capacity, 2)
            grown = <Node *>realloc(holes.nodes, capacity * sizeof(Node))
            if grown is NULL:
                return False
            holes.nodes, holes.capacity = grown, capacity
        at = holes.count
    else:
        holes.free = holes.nodes[at].left
    holes.nodes[at].hole = hole
    holes.nodes[at].left = holes.nodes[at].right = -1
    holes.root = _inserted(holes.nodes, holes.root, at)
    holes.count += 1
    return True


cdef void replace_hole(Holes *holes, int64_t first, const Hole *hole) noexcept nogil:
    # The one that begins with this id, by one that lies between its neighbours.
    _replace(holes.nodes, holes.root, first, hole)


cdef void remove_hole(Holes *holes, int64_t first) noexcept nogil:
    cdef int32_t at = -1
    holes.root = _without(holes.nodes, holes.root, first, &at)
    if at >= 0:
        holes.nodes[at].left = holes.free
        holes.free = at
        holes.count -= 1


cdef void _lower(Node *nodes, int32_t root, int64_t by, int64_t lowest) noexcept nogil:
    while root >= 0:
        nodes[root].hole.first = max(nodes[root].hole.first - by, lowest)
        nodes[root].hole.last = max(nodes[root].hole.last - by, lowest)
        _lower(nodes, nodes[root].left, by, lowest)
        root = nodes[root].right


cdef void _sum_up_all(Node *nodes, int32_t root) noexcept nogil:
    if root >= 0:
        _sum_up_all(nodes, nodes[root].left)
        _sum_up_all(nodes, nodes[root].right)
        _sum_up(nodes, root)


cdef void lower_ids(Holes *holes, int64_t by, int64_t lowest) noexcept nogil:
    # Of all holes, none of which ends at `lowest` then, or below.
    _lower(holes.nodes, holes.root, by, lowest)
    _sum_up_all(holes.nodes, holes.root)


# What there is.

cdef int32_t find_hole(const Holes *holes, int64_t first) noexcept nogil:
    # The first one that ends at `first` or behind it; -1: none.
    cdef int32_t at = holes.root, found = -1
    while at >= 0:
        if holes.nodes[at].hole.last < first:
            at = holes.nodes[at].right
        else:
            found = at
            at = holes.nodes[at].left
    return found


cdef int32_t oldest_hole(const Holes *holes, uint8_t kinds) noexcept nogil:
    # Of some kinds; -1: none.
    cdef const Node *nodes = holes.nodes
    cdef int32_t at = holes.root
    if at < 0 or not nodes[at].kinds & kinds:
        return -1
    while True:
        if nodes[at].left >= 0 and nodes[nodes[at].left].kinds & kinds:
            at = nodes[at].left
        elif 1 << nodes[at].hole.kind & kinds:
            return at
        else:
            at = nodes[at].right


cdef bint _any_reaches(const Node *nodes, int32_t at, int64_t open_time, int64_t close_time) noexcept nogil:
    cdef const Node *node
    while at >= 0:
        node = &nodes[at]
        if not (node.since_ns < close_time and node.until_ns >= open_time and node.kinds & ~(1 << UNPUBLISHED)):
            return False
        if open_time <= node.since_ns and node.until_ns < close_time:
            return True
        if (node.hole.kind != UNPUBLISHED and _reaches(&node.hole, open_time, close_time)) or (
            _any_reaches(nodes, node.left, open_time, close_time)
        ):
            return True
        at = node.right
    return False


cdef bint any_reaches(const Holes *holes, int64_t open_time, int64_t close_time) noexcept nogil:
    # Whether some hole reaches into [open_time, close_time), but for those of unpublished ids.
    return _any_reaches(holes.nodes, holes.root, open_time, close_time)


cdef void _add_reaching(
    const Node *nodes, int32_t at, int64_t open_time, int64_t close_time, int64_t below, Reaching *found
) noexcept nogil:
    cdef const Node *node
    cdef bint within
    while at >= 0:
        node = &nodes[at]
        if not (node.since_ns < close_time and node.until_ns >= open_time):
            return
        if node.hole.first >= below:
            at = node.left
            continue
        if below == HIGHEST and open_time <= node.since_ns and node.until_ns < close_time:
            found.missing += node.missing
            found.unpublished += node.unpublished
            found.lacking |= node.kinds & ~(1 << UNPUBLISHED) != 0
            found.known &= not node.kinds & 1 << SEAM
            return
        if _reaches(&node.hole, open_time, close_time):
            within = open_time <= min(node.hole.since_ns, node.hole.until_ns) and (
                max(node.hole.since_ns, node.hole.until_ns) < close_time)
            if node.hole.kind == UNPUBLISHED:
                found.unpublished += node.hole.last - node.hole.first + 1
                found.published &= within
            else:
                found.lacking = True
                found.known &= within and node.hole.kind != SEAM
                found.missing += node.hole.last - node.hole.first + 1 if node.hole.kind == MISSING else 0
        _add_reaching(nodes, node.left, open_time, close_time, below, found)
        at = node.right


cdef void add_reaching(
    const Holes *holes, int64_t open_time, int64_t close_time, int64_t below, Reaching *found
) noexcept nogil:
    # All that reach into [open_time, close_time), and begin below an id.
    _add_reaching(holes.nodes, holes.root, open_time, close_time, below, found)


cdef Hole *_listed(const Node *nodes, int32_t at, Hole *listed) noexcept nogil:
    while at >= 0:
        listed = _listed(nodes, nodes[at].left, listed)
        listed[0] = nodes[at].hole
        listed += 1
        at = nodes[at].right
    return listed


cdef void list_holes(const Holes *holes, Hole *listed) noexcept nogil:
    # All of them, in order of ids; there is room for as many.
    _listed(holes.nodes, holes.root, listed)


cdef bint copy_holes(Holes *copy, const Holes *holes) noexcept nogil:
    # Into memory of their own. False: there is none.
    copy[0] = holes[0]
    copy.nodes = NULL
    if holes.capacity == 0:
        return True
    copy.nodes = <Node *>malloc(holes.capacity * sizeof(Node))
    if copy.nodes is NULL:
        begin_holes(copy)
        return False
    memcpy(copy.nodes, holes.nodes, holes.capacity * sizeof(Node))
    return True
