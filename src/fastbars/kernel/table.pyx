"""The memory of a kernel: the open bar of every symbol and spec, the closed ones that can still be amended.

It knows how to grow, to follow the instruments' scales, and to be saved and restored. Which trade goes where is the
business of those who are handed the Table.
"""

import cython
import numpy as np

from libc.math cimport fabs
from libc.stdint cimport int8_t, int32_t, int64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, _PyBytes_Resize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_REFCNT

from fastbars.kernel.anew cimport Anew, anew_of, id_of_key, is_waiting
from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.coverage cimport Cover, Gap, begin_cover
from fastbars.kernel.groups cimport MOST_GROUPS, Group, Member, expect_all_at_once, watermark_of
from fastbars.kernel.ids cimport Ledger, catch_up
from fastbars.kernel.inside cimport (
    Detail, Level, asks_inside, begin_inside, clear_inside, copy_inside, free_inside, grow_inside,
    inside_of_record, put_inside, release_inside, show_inside, widen_inside,
)
from fastbars.kernel.instruments cimport Instrument, Instruments, Scale
from fastbars.kernel.limits cimport EARLIEST_NS, LATEST_NS
from fastbars.kernel.paths cimport GRID, MOST_STATE_BYTES, PRICES, QUOTES, TRADES, WidenState, least_scale_of, path_rule_of
from fastbars.kernel.rows cimport Row, free_rows, grow_table, new_row, reserve_rows
from fastbars.kernel.rules cimport interval_of, is_time_kind
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, POWER_OF_TEN, int128_from_int, magnitude, parse_number
from fastbars.kernel.summary cimport (
    Summary, clear_bar, fits, is_beyond, is_within, merge_bar, quote_of, sum_sides, volume_of, widen_bar,
)
from fastbars.kernel.tape cimport Tape, add_taped, clear_tapes, dump_tapes, dumped_tapes, pack_tapes, put_tapes, tape_fits, widen_tape
from fastbars.kernel.trees cimport SpecTrees

cdef enum:
    MOST_TAPED = 200_000        # trades of a symbol and spec, unless told otherwise
    MOST_LOADED = 1 << 30
    RECYCLED_BYTES = 1 << 17

assert sizeof(Slot) % LINE_BYTES == 0 and sizeof(Gate) + 112 == 2 * LINE_BYTES and sizeof(Summary) == SUMMARY_BYTES

# For those who watch memory: an open bar of a symbol and spec, and a closed one that can still be amended.
SLOT_BYTES = sizeof(Slot) + sizeof(Past)
RECORD_BYTES = sizeof(Record)


cdef bytes _copied(const void *memory, size_t size, dict recycled=None, str name=None):
    # For a snapshot, which the event loop waits for: most of that time would go into new pages, so that the bytes of an
    # earlier one are used again, where nobody else has them.
    cdef PyObject *part
    cdef bytes given = None
    if recycled is not None and size >= RECYCLED_BYTES and type(recycled.get(name)) is bytes:
        given = recycled.pop(name)
    if given is None or Py_REFCNT(given) > 1 or len(given) < <Py_ssize_t>RECYCLED_BYTES:
        return PyBytes_FromStringAndSize(<const char *>memory, size)
    part = <PyObject *>given
    Py_INCREF(given)
    given = None            # `part` is the only reference, as resizing asks for
    _PyBytes_Resize(&part, size)
    given = <bytes>part
    Py_DECREF(given)
    memcpy(PyBytes_AS_STRING(given), memory, size)
    return given


cdef void _put(void *memory, bytes part) noexcept:
    if len(part):       # a table without entries may have no memory
        memcpy(memory, <const char *>part, len(part))


cdef int64_t whole_number(str name, object value) except? -1:
    # Of a snapshot.
    if type(value) is not int or not -(1 << 63) <= value < (1 << 63):
        raise ValueError(f"the snapshot's {name} hold something else than whole numbers of 64 bits")
    return value


# Bars.

cdef bint total_bar(const Table *table, int spec, Py_ssize_t s, Summary *bar) noexcept nogil:
    cdef const Summary *part
    cdef int source = table.specs.source[spec]
    cdef bint overflow = False
    bar[0] = table.slots[spec][s].bar
    while source >= 0:
        part = &table.slots[source][s].bar
        if not is_within(part, bar):
            break
        overflow |= merge_bar(bar, part, table.terms.by_id)
        source = table.specs.source[source]
    return overflow | is_beyond(bar)


cdef int32_t new_record(Table *table) noexcept nogil:
    cdef Records *records = &table.records
    cdef int32_t r = records.free
    if r >= 0:
        records.free = records.items[r].next
    elif records.count < records.capacity or grow_table(
        <void **>&records.items, &records.capacity, sizeof(Record), 0
    ):
        r = records.count
        records.count += 1
    else:
        table.rows.no_memory = True
        return -1
    records.held += 1
    return r


cdef void free_record(Table *table, int32_t r) noexcept nogil:
    if r < table.inside.records:
        release_inside(&table.inside, &table.inside.of_records[r])
    table.records.items[r].next = table.records.free
    table.records.free = r
    table.records.held -= 1


cdef void issue(Table *table, int spec, int symbol_id, const Record *record, Py_ssize_t row) noexcept nogil:
    cdef const Slot *slot = &table.slots[spec][symbol_id]
    cdef Row *issued = new_row(&table.rows, row, spec)
    cdef bint kept
    if issued is NULL:
        return
    issued.bar = record.bar
    sum_sides(&issued.bar)
    issued.missing, issued.unpublished = record.missing, record.unpublished
    if table.terms.by_id and issued.bar.largest and issued.bar.first_id < 0:    # of an older series
        issued.bar.first_id = id_of_key(&table.ids.renewed, symbol_id, issued.bar.first_id)
        issued.bar.last_id = id_of_key(&table.ids.renewed, symbol_id, issued.bar.last_id)
    if table.specs.rules[spec].anchor is not NULL:
        issued.bar.open_time, issued.bar.close_time = record.bar.first_time, record.bar.last_time
        issued.index = record.index
    issued.symbol_id = symbol_id
    issued.revision = record.revision
    issued.status = record.status
    issued.reason = record.reason
    issued.price_scale = slot.scale.price
    issued.size_scale = slot.scale.size
    issued.quote_scale = slot.quote_scale
    if asks_inside(&table.inside, spec):
        # (A bar in progress, and a path-driven one, is no record of the table.)
        kept = table.records.items <= record < table.records.items + table.records.count
        show_inside(
            &table.inside, spec,
            inside_of_record(&table.inside, record - table.records.items) if kept else table.inside.of_slots[spec][symbol_id],
            &table.rows)


cdef void widen_bars_inside(
    Table *table, int spec, Py_ssize_t s, int64_t price_factor, int64_t size_factor
) noexcept nogil:
    cdef int32_t r = table.slots[spec][s].oldest
    if not asks_inside(&table.inside, spec):
        return
    widen_inside(&table.inside, table.inside.of_slots[spec][s], price_factor, size_factor)
    while r >= 0:
        widen_inside(&table.inside, inside_of_record(&table.inside, r), price_factor, size_factor)
        r = table.records.items[r].next


@cython.final
@cython.no_gc_clear     # the ledger must be there when the tips that it reads are freed
cdef class BarTable:
    def __cinit__(self, Instruments instruments not None, SpecTrees trees not None, Ledger ledger):
        cdef Table *table = &self.table
        self.instruments = instruments
        self.trees = trees
        self.version = instruments.version
        self.unfit = set()
        self.blank = True
        table.specs = trees.tables
        table.rows.width = table.specs.count
        table.records.free = table.coverage.free = -1
        table.coverage.covers_itself = True
        table.floor_until_ns = table.floor_seen_ns = LOWEST
        if ledger is not None:
            if ledger.is_taken:
                raise ValueError("the ledger belongs to another kernel")
            ledger.is_taken = True
            self.ledger = ledger
            table.ids = &ledger.ids
            table.terms.by_id = True
        begin_inside(&table.inside, trees.specs)
        self.allocate()

    def __dealloc__(self):
        cdef Table *table = &self.table
        cdef int k
        if self.ledger is not None:
            self.ledger.ids.tip_ids = NULL
        for k in range(table.specs.count):
            if self.blocks is not NULL:
                free(self.blocks[k])
            if table.pasts is not NULL:
                free(table.pasts[k])
            if table.states is not NULL:
                free(table.states[k])
        free(self.blocks)
        free(table.slots)
        free(table.pasts)
        free(table.states)
        free(table.state_bytes)
        clear_tapes(table.tapes, table.specs.count, table.symbols)
        for k in range(table.specs.count if table.tapes is not NULL else 0):
            free(table.tapes[k])
        free(table.tapes)
        free(table.appeared)
        free(table.groups.items)
        free(table.groups.members)
        free(table.records.items)
        free(table.coverage.covers)
        free(table.coverage.gaps)
        free_inside(&table.inside)
        free_rows(&table.rows)

    cdef int allocate(self) except -1:
        cdef Table *table = &self.table
        cdef int k, count = table.specs.count
        self.blocks = <void **>calloc(count, sizeof(void *))
        table.slots = <Slot **>calloc(count, sizeof(Slot *))
        table.pasts = <Past **>calloc(count, sizeof(Past *))
        table.states = <char **>calloc(count, sizeof(char *))
        table.state_bytes = <size_t *>calloc(count, sizeof(size_t))
        table.tapes = <Tape ***>calloc(count, sizeof(Tape **))
        table.most_taped = MOST_TAPED
        if self.blocks is NULL or table.slots is NULL or table.pasts is NULL or (
            table.states is NULL or table.state_bytes is NULL or table.tapes is NULL
        ):
            raise MemoryError
        for k in range(count):
            if not is_time_kind(table.specs.rules[k].kind):
                table.state_bytes[k] = path_rule_of(table.specs.rules[k].kind).state_bytes
        self.add_group()
        return 0

    cdef int add_group(self) except -1:
        cdef Groups *groups = &self.table.groups
        cdef Group *grown
        if groups.count == MOST_GROUPS:
            raise ValueError(f"a kernel has {MOST_GROUPS} groups of symbols at most")
        grown = <Group *>realloc(groups.items, (groups.count + 1) * sizeof(Group))
        if grown is NULL:
            raise MemoryError
        groups.items = grown
        grown[groups.count] = Group(LOWEST, HIGHEST, -1, -1)
        groups.count += 1
        return 0

    cdef void clear_groups(self) noexcept:
        cdef Groups *groups = &self.table.groups
        cdef Py_ssize_t s
        groups.count = 1
        groups.items[0] = Group(LOWEST, HIGHEST, -1, -1)
        memset(groups.members, 0, self.table.symbols * sizeof(Member))
        for s in range(self.table.symbols):
            groups.members[s].floor_ns = LOWEST
        groups.unlinked = True

    cdef int assign(self, Py_ssize_t s, int32_t group) except -1:
        # Its next closing there is the caller's to say.
        cdef Groups *groups = &self.table.groups
        if has_appeared(&self.table, s):    # else no bar of it was closed by any watermark
            groups.members[s].floor_ns = watermark_of(groups, s)
        groups.members[s].group = group
        groups.unlinked = True
        return 0

    cdef int grow(self, int spec, Py_ssize_t capacity) except -1:
        cdef Table *table = &self.table
        cdef void *block
        cdef Slot *slots
        cdef void *grown = realloc(table.pasts[spec], capacity * sizeof(Past))
        if grown is NULL:
            raise MemoryError
        table.pasts[spec] = <Past *>grown
        if table.state_bytes[spec]:
            grown = realloc(table.states[spec], capacity * table.state_bytes[spec])
            if grown is NULL:
                raise MemoryError
            table.states[spec] = <char *>grown
        if table.specs.rules[spec].anchor is not NULL:
            grown = realloc(table.tapes[spec], capacity * sizeof(Tape *))
            if grown is NULL:
                raise MemoryError
            table.tapes[spec] = <Tape **>grown
            memset(&table.tapes[spec][table.symbols], 0, (capacity - table.symbols) * sizeof(Tape *))
        block = malloc(capacity * sizeof(Slot) + LINE_BYTES)
        if block is NULL:
            raise MemoryError
        slots = <Slot *>((<size_t>block + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES)
        if table.symbols:
            memcpy(slots, table.slots[spec], table.symbols * sizeof(Slot))
        grow_inside(&table.inside, spec, table.symbols, capacity)
        free(self.blocks[spec])
        self.blocks[spec] = block
        table.slots[spec] = slots
        self.point_tips()
        return 0

    cdef void point_tips(self) noexcept:
        # The open bars of the first tree, or spec, know the ids that were folded in without asking the ledger. Sequence
        # numbers they do not know.
        cdef Table *table = &self.table
        cdef const Slot *slot
        if table.ids is NULL:
            return
        if table.sequenced or table.symbols == 0:
            table.ids.tip_ids = table.ids.tip_times = NULL
            return
        slot = table.slots[table.specs.trees[0].root if table.specs.tree_count else 0]
        table.ids.tip_times = <const char *>&slot.bar.last_time
        table.ids.tip_stride = sizeof(Slot)
        if table.specs.tree_count:
            table.ids.tip_ids = <const char *>&slot.gate.next.id
            table.ids.tip_step = 0
        else:       # the gate of these has another use
            table.ids.tip_ids = <const char *>&slot.bar.last_id
            table.ids.tip_step = 1

    cdef void count_sequences(self) noexcept:
        # From here on the ledger counts sequence numbers.
        cdef Py_ssize_t s
        for s in range(self.table.symbols):
            catch_up(self.table.ids, s)
        self.table.sequenced = True
        self.point_tips()

    cdef int reserve(self) except -1:
        cdef Table *table = &self.table
        cdef Py_ssize_t count = self.instruments.count
        cdef Py_ssize_t capacity = self.capacity
        cdef Py_ssize_t s
        cdef void *grown
        cdef int k
        if count == table.symbols:
            return 0
        if count > capacity:
            capacity = max(count, 2 * capacity, 16)
            grown = realloc(table.appeared, capacity * sizeof(int32_t))
            if grown is NULL:
                raise MemoryError
            table.appeared = <int32_t *>grown
            grown = realloc(table.groups.members, capacity * sizeof(Member))
            if grown is NULL:
                raise MemoryError
            table.groups.members = <Member *>grown
            grown = realloc(table.coverage.covers, capacity * sizeof(Cover))
            if grown is NULL:
                raise MemoryError
            table.coverage.covers = <Cover *>grown
            for k in range(table.specs.count):
                self.grow(k, capacity)
            self.capacity = capacity
        if self.ledger is not None:
            self.ledger.reserve(count)
        self.set_up(table.symbols, count)
        memset(&table.groups.members[table.symbols], 0, (count - table.symbols) * sizeof(Member))
        for s in range(table.symbols, count):
            table.groups.members[s].floor_ns = LOWEST
            table.groups.members[s].next = -1
        table.symbols = count
        self.point_tips()
        return 0

    cdef int set_up(self, Py_ssize_t start, Py_ssize_t stop) except -1:
        cdef Table *table = &self.table
        cdef Py_ssize_t s
        cdef Slot *slot
        cdef Slot blank
        cdef int k, kind
        memset(&blank, 0, sizeof(Slot))
        clear_bar(&blank.bar, LOWEST, LOWEST)
        blank.gate.next = Next(LOWEST, LOWEST)
        blank.oldest = blank.newest = -1
        blank.never_opened = 1
        for s in range(start, stop):
            begin_cover(&table.coverage.covers[s])
        for k in range(table.specs.count):
            kind = table.specs.rules[k].kind
            if not is_time_kind(kind):
                for s in range(start, stop):
                    self.instruments.widen(s, least_scale_of(kind, parse_number(self.trees.specs[k].step)[1]))
        for k in range(table.specs.count):
            for s in range(start, stop):
                slot = &table.slots[k][s]
                slot[0] = blank
                slot.contract = self.instruments.table[s].contract
                table.pasts[k][s] = Past(LOWEST, LOWEST, LOWEST, LOWEST, LOWEST)
                if table.state_bytes[k]:
                    clear_state(table, k, s)
                self.take_scale(k, s, self.instruments.table[s].scale)
        return 0

    cdef int take_scale(self, int spec, Py_ssize_t s, Scale scale) except -1:
        cdef Table *table = &self.table
        cdef Instrument *own = &self.instruments.table[s]
        cdef Slot *slot = &table.slots[spec][s]
        table.largest_contract = max(table.largest_contract, own.contract)
        slot.scale = scale
        slot.quote_scale = scale.size + (own.contract_scale if own.contract else scale.price)
        self.take_step(spec, slot)
        return 0

    cdef int take_step(self, int spec, Slot *slot) except -1:
        # Of path-driven bars that do not count trades: the step, at the scales of the slot.
        cdef int kind = self.table.specs.rules[spec].kind, unit
        if is_time_kind(kind) or path_rule_of(kind).step_unit == TRADES:
            return 0
        unit = path_rule_of(kind).step_unit
        scale = slot.scale.price if unit in (PRICES, GRID) else slot.quote_scale if unit == QUOTES else slot.scale.size
        numerator, denominator = self.trees.specs[spec].step.as_integer_ratio()
        # A step beyond 128 bits is never reached: the sum leaves its range first, and says so.
        late = began_late(slot)
        int128_from_int(max(1, min(-(-numerator * 10**scale // denominator), (1 << 127) - 1)), &slot.gate.step)
        mark_begun_late(slot, late)
        return 0

    cdef double follow_instruments(self) except? -1:
        # Brings the bars of the symbols whose scales others have widened to the new ones. Returns what no sum of those that
        # changed is above.
        cdef double largest = 0
        if self.version == self.instruments.version and not self.unfit:
            return largest
        symbols = self.unfit.union([change[0] for change in self.instruments.changes[self.version :]])
        self.version = self.instruments.version
        self.unfit = {s for s in symbols if not self.rescale(s, self.instruments.table[<int>s].scale)}
        for s in symbols.difference(self.unfit):
            largest = max(largest, self.largest_of(s, <Py_ssize_t>s + 1))
        return largest

    cdef bint rescale(self, Py_ssize_t s, Scale scale) except? False:
        # Brings the bars of a symbol to a scale that is as fine at least. False: an open bar does not fit, and nothing was
        # changed. Closed bars that do not fit are let go.
        cdef Table *table = &self.table
        cdef Instrument *own = &self.instruments.table[s]
        cdef Slot *slot
        cdef Summary copy
        cdef char[MOST_STATE_BYTES] state
        cdef Tape *tape
        cdef WidenState widen_state
        cdef bint trial
        cdef int k
        cdef int32_t r
        cdef int64_t price_factor, size_factor, quote_factor
        price_factor = POWER_OF_TEN[scale.price - table.slots[0][s].scale.price]
        size_factor = POWER_OF_TEN[scale.size - table.slots[0][s].scale.size]
        quote_factor = 1 if own.contract else price_factor
        for trial in (True, False):
            if not self.widen_waiting(s, price_factor, size_factor, trial):
                return False
            for k in range(table.specs.count):
                slot = &table.slots[k][s]
                tape = tape_of(table, k, s)
                widen_state = NULL if is_time_kind(table.specs.rules[k].kind) else path_rule_of(table.specs.rules[k].kind).widen
                if trial:
                    total_bar(table, k, s, &copy)
                    if not fits(&slot.bar, price_factor) or (
                        widen_bar(&copy, price_factor, size_factor, quote_factor) or is_beyond(&copy)
                    ):
                        return False
                    if widen_state is not NULL:
                        memcpy(state, state_of(table, k, s), table.state_bytes[k])
                        if widen_state(state, price_factor, size_factor, quote_factor):
                            return False
                    if tape is not NULL and not tape_fits(tape, widen_state, price_factor, size_factor, quote_factor):
                        return False
                    continue
                widen_bar(&slot.bar, price_factor, size_factor, quote_factor)
                if widen_state is not NULL:
                    widen_state(state_of(table, k, s), price_factor, size_factor, quote_factor)
                if tape is not NULL:
                    widen_tape(tape, widen_state, price_factor, size_factor, quote_factor)
                slot.contract = own.contract
                r = slot.oldest
                while r >= 0 and fits(&table.records.items[r].bar, price_factor) and not widen_bar(
                    &table.records.items[r].bar, price_factor, size_factor, quote_factor
                ) and not is_beyond(&table.records.items[r].bar):
                    r = table.records.items[r].next
                if r >= 0:
                    while slot.oldest >= 0:
                        r = slot.oldest
                        slot.oldest = table.records.items[r].next
                        table.pasts[k][s].let_go_ns = table.pasts[k][s].evicted_ns = table.records.items[r].bar.close_time
                        free_record(table, r)
                    slot.newest = -1
                widen_bars_inside(table, k, s, price_factor, size_factor)
                self.take_scale(k, s, scale)
        return True

    cdef bint widen_waiting(self, Py_ssize_t s, int64_t price_factor, int64_t size_factor, bint trial) noexcept nogil:
        # Of trades that wait for others of their series. False: one does not fit.
        cdef Anew *anew = anew_of(&self.table.ids.renewed, s) if self.table.ids is not NULL else NULL
        cdef int32_t i
        if anew is NULL:
            return True
        for i in range(anew.waiting_count):
            if magnitude(anew.waiting[i].price) > HIGHEST // price_factor or anew.waiting[i].size > HIGHEST // size_factor:
                return False
            if not trial:
                anew.waiting[i].price *= price_factor
                anew.waiting[i].size *= size_factor
        return True

    cdef void add_waiting(self, Py_ssize_t s, double *volume, double *quote) noexcept nogil:
        # They will be added to its bars.
        cdef const Anew *anew = anew_of(&self.table.ids.renewed, s) if self.table.ids is not NULL else NULL
        cdef double contract = self.instruments.table[s].contract
        cdef int32_t i
        if anew is not NULL:
            for i in range(anew.waiting_count):
                volume[0] += anew.waiting[i].size
                quote[0] += <double>anew.waiting[i].size * (contract if contract else fabs(<double>anew.waiting[i].price))

    cdef bint has_room(self, Py_ssize_t s, Scale scale, double *largest) noexcept nogil:
        # Whether all bars of a symbol, the closed ones too, are certain to fit a scale that is as fine at least. Raises
        # `largest` to what no sum of them is above there.
        cdef const Table *table = &self.table
        cdef int64_t price_factor = POWER_OF_TEN[scale.price - table.slots[0][s].scale.price]
        cdef double size_factor = <double>POWER_OF_TEN[scale.size - table.slots[0][s].scale.size]
        cdef double quote_factor = size_factor if self.instruments.table[s].contract else size_factor * price_factor
        cdef double volume = 0, quote = 0
        cdef const Summary *bar
        cdef int32_t r
        cdef int k
        if table.ids is not NULL and is_waiting(&table.ids.renewed, <int32_t>s):
            return False
        for k in range(table.specs.count):
            if (table.state_bytes[k] and not table.slots[k][s].never_opened) or tape_of(table, k, s) is not NULL:
                return False        # what its rule or its tape keeps is not known here
            bar = &table.slots[k][s].bar
            r = table.slots[k][s].oldest
            while True:
                if not fits(bar, price_factor) or bar.largest > HIGHEST // <int64_t>size_factor:
                    return False
                # Open bars add up: one is merged into another.
                volume += volume_of(bar)
                quote += quote_of(bar)
                if r < 0:
                    break
                bar = &table.records.items[r].bar
                r = table.records.items[r].next
        largest[0] = max(largest[0], max(volume * size_factor, quote * quote_factor))
        return True

    cdef double largest(self) noexcept nogil:
        return self.largest_of(0, self.table.symbols)

    cdef double largest_of(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        # Of some symbols, signs apart: no sum is larger, nor is any on the way to it.
        cdef Table *table = &self.table
        cdef double largest = 0
        cdef double volume, quote
        cdef Summary bar
        cdef Py_ssize_t s
        cdef int32_t r
        cdef int k, source
        for k in range(table.specs.count):
            for s in range(start, stop):
                bar = table.slots[k][s].bar
                volume, quote = volume_of(&bar), quote_of(&bar)
                source = table.specs.source[k]
                while source >= 0 and is_within(&table.slots[source][s].bar, &bar):
                    volume += volume_of(&table.slots[source][s].bar)
                    quote += quote_of(&table.slots[source][s].bar)
                    source = table.specs.source[source]
                self.add_waiting(s, &volume, &quote)
                add_taped(tape_of(table, k, s), table.slots[k][s].contract, &volume, &quote)
                largest = max(largest, max(volume, quote))
                r = table.slots[k][s].oldest
                while r >= 0:
                    largest = max(largest, max(volume_of(&table.records.items[r].bar), quote_of(&table.records.items[r].bar)))
                    r = table.records.items[r].next
        return largest

    # Undoing a batch, and snapshots for another process: memory as it is, so that it fits the same build alone.

    cdef Py_ssize_t size(self) noexcept nogil:
        # Bytes to copy when the state is saved.
        cdef Table *table = &self.table
        cdef Py_ssize_t bytes_a_symbol = 0
        cdef int k
        if self.blank:
            return 0
        for k in range(table.specs.count):
            bytes_a_symbol += sizeof(Slot) + sizeof(Past) + table.state_bytes[k]
        bytes_a_symbol += sizeof(Cover)
        return (
            table.symbols * bytes_a_symbol + table.records.count * sizeof(Record) + table.coverage.count * sizeof(Gap)
            + table.inside.detail_count * sizeof(Detail) + table.inside.level_count * sizeof(Level))

    cdef dict copy_parts(self, dict recycled=None):
        cdef Table *table = &self.table
        cdef int k
        parts = {
            "records": _copied(table.records.items, table.records.count * sizeof(Record), recycled, "records"),
            "appeared": _copied(table.appeared, table.appeared_count * sizeof(int32_t), recycled, "appeared"),
            "covers": _copied(table.coverage.covers, table.symbols * sizeof(Cover), recycled, "covers"),
            "gaps": _copied(table.coverage.gaps, table.coverage.count * sizeof(Gap), recycled, "gaps"),
        }
        for k in range(table.specs.count):
            parts[f"slots{k}"] = _copied(table.slots[k], table.symbols * sizeof(Slot), recycled, f"slots{k}")
            parts[f"pasts{k}"] = _copied(table.pasts[k], table.symbols * sizeof(Past), recycled, f"pasts{k}")
            parts[f"states{k}"] = _copied(table.states[k], table.symbols * table.state_bytes[k], recycled, f"states{k}")
        parts.update(copy_inside(&table.inside, table.symbols))
        return parts

    cdef int put_parts(self, dict parts) except -1:
        # Their sizes are those of `copy_parts`, or were checked.
        cdef Table *table = &self.table
        cdef int k
        _put(table.records.items, parts["records"])
        _put(table.appeared, parts["appeared"])
        _put(table.coverage.covers, parts["covers"])
        _put(table.coverage.gaps, parts["gaps"])
        for k in range(table.specs.count):
            _put(table.slots[k], parts[f"slots{k}"])
            _put(table.pasts[k], parts[f"pasts{k}"])
            _put(table.states[k], parts[f"states{k}"])
        put_inside(&table.inside, parts, table.symbols)
        return 0

    cdef list counters(self):
        # What a batch changes besides memory, and what goes back with it.
        cdef Table *table = &self.table
        return [table.records.count, table.records.held, table.records.free, table.appeared_count, table.duplicates,
                table.voids, table.coverage.count, table.coverage.held, table.coverage.free, table.floor,
                table.floor_until_ns]

    cdef int put_counters(self, list counters) except -1:
        cdef Table *table = &self.table
        (table.records.count, table.records.held, table.records.free, table.appeared_count, table.duplicates,
         table.voids, table.coverage.count, table.coverage.held, table.coverage.free, table.floor,
         table.floor_until_ns) = counters
        table.groups.unlinked = True
        return 0

    cdef list closings(self):
        # Of the groups: all of them that a batch changes.
        return [self.table.groups.items[i].next_close_ns for i in range(self.table.groups.count)]

    cdef int save(self) except -1:
        if self.blank:
            return 0
        self.saved = self.copy_parts(), self.counters(), self.closings(), self.table.sequenced, pack_tapes(self.table.tapes, self.table.specs.count, self.table.symbols)
        if self.ledger is not None:
            self.ledger.save()
        return 0

    cdef int forget_saved(self) except -1:
        self.saved = None
        if self.ledger is not None:
            self.ledger.forget_saved()
        return 0

    cdef int restore(self) except -1:
        if self.blank:
            clear_inside(&self.table.inside, self.table.symbols)
            clear_tapes(self.table.tapes, self.table.specs.count, self.table.symbols)
            self.set_up(0, self.table.symbols)
            self.put_counters([0, 0, -1, 0, 0, 0, 0, 0, -1, 0, LOWEST])
            expect_all_at_once(&self.table.groups, HIGHEST)
            self.table.sequenced = False
            if self.ledger is not None:
                self.ledger.clear()
        else:
            parts, counters, closings, self.table.sequenced, tapes = self.saved
            put_tapes(self.table.tapes, tapes, self.table.specs.count, self.table.symbols)
            self.put_parts(parts)
            self.put_counters(counters)
            for group, close_time in enumerate(closings):
                self.table.groups.items[<Py_ssize_t>group].next_close_ns = close_time
            if self.ledger is not None:
                self.ledger.restore()
        self.point_tips()
        return 0

    cdef list layout(self):
        cdef Table *table = &self.table
        return [
            sizeof(Slot), sizeof(Past), sizeof(Record), table.specs.count, table.symbols, sizeof(Cover), sizeof(Gap),
            sizeof(Tape)]

    cdef dict dump(self, dict recycled=None):
        cdef Py_ssize_t s
        self.reserve()
        parts = self.copy_parts(recycled)
        parts["layout"], parts["counters"] = self.layout(), self.counters()
        parts.update(dump_tapes(self.table.tapes, self.table.specs.count, self.table.symbols))
        parts["groups"] = [
            [self.table.groups.items[i].watermark_ns, self.table.groups.items[i].next_close_ns]
            for i in range(self.table.groups.count)
        ]
        parts["members"] = _copied(self.table.groups.members, self.table.symbols * sizeof(Member))
        if self.ledger is not None:
            for s in range(self.table.symbols):
                catch_up(self.table.ids, s)
            parts.update(self.ledger.dump(self.table.symbols))
        return parts

    cdef int take_memory(self, dict parts) except -1:
        # Takes the memory of a snapshot in place of a blank state. Sizes are checked here, contents are not.
        cdef Table *table = &self.table
        cdef Py_ssize_t s
        cdef int k
        layout = self.layout()
        if parts.get("layout") != layout:
            raise ValueError(f"the snapshot's layout {parts.get('layout')} is not that of this build, {layout}")
        counters = parts.get("counters")
        if type(counters) is not list or len(counters) != 11:
            raise ValueError("the snapshot has no counters")
        counters = [whole_number("counters", each) for each in counters]
        count, held, free_one, appeared, duplicates, voids, gaps, held_gaps, free_gap, floor, _ = counters
        if not (0 <= held <= count <= MOST_LOADED and -1 <= free_one < count and 0 <= appeared <= table.symbols
                and duplicates >= 0 and voids >= 0 and 0 <= held_gaps <= gaps <= MOST_LOADED and -1 <= free_gap < gaps
                and 0 <= floor <= MOST_LOADED):
            raise ValueError(f"the snapshot's counters {counters} contradict each other")
        groups = parts.get("groups")
        if type(groups) is not list or not 0 < len(groups) <= MOST_GROUPS:
            raise ValueError("the snapshot has no groups of symbols, or too many")
        for group in groups:
            if type(group) is not list or len(group) != 2:
                raise ValueError("the snapshot's groups of symbols are not pairs of times")
            for time_ns in group:
                whole_number("groups", time_ns)
        own = {}
        sizes = {"appeared": appeared * sizeof(int32_t), "records": count * sizeof(Record),
                 "covers": table.symbols * sizeof(Cover), "gaps": gaps * sizeof(Gap)}
        sizes["members"] = table.symbols * sizeof(Member)
        for k in range(table.specs.count):
            sizes[f"slots{k}"] = table.symbols * sizeof(Slot)
            sizes[f"pasts{k}"] = table.symbols * sizeof(Past)
            sizes[f"states{k}"] = table.symbols * table.state_bytes[k]
        for name, size in sizes.items():
            # What has no bytes may be missing: snapshots, those in recordings too, are older than some parts.
            part = parts.get(name) if size or name in parts else b""
            if type(part) is not bytes:
                raise ValueError(f"the snapshot has no {name}")
            if len(part) != size:
                raise ValueError(f"the snapshot's {name} have {len(part)} bytes, not {size}")
            own[name] = part
        if table.records.capacity < count and not grow_table(
            <void **>&table.records.items, &table.records.capacity, sizeof(Record), count
        ):
            raise MemoryError
        if table.coverage.capacity < gaps and not grow_table(
            <void **>&table.coverage.gaps, &table.coverage.capacity, sizeof(Gap), gaps
        ):
            raise MemoryError
        members = own["members"]
        for s in range(table.symbols):
            if not 0 <= (<const Member *><const char *>members)[s].group < len(groups):
                raise ValueError(f"the snapshot has no group for {self.instruments.label(s)}")
        own.update({name: part for name, part in parts.items() if name not in own})
        put_tapes(table.tapes, dumped_tapes(parts), table.specs.count, table.symbols)
        self.put_parts(own)
        _put(table.groups.members, members)
        self.put_counters(counters)
        while table.groups.count < len(groups):
            self.add_group()
        for i, (watermark_ns, close_time) in enumerate(groups):
            table.groups.items[<Py_ssize_t>i] = Group(watermark_ns, close_time, -1, -1)
        for s in range(table.symbols):      # whoever held its trades holds them no more
            if table.groups.members[s].held:    # it was left out of what closes next
                table.groups.items[table.groups.members[s].group].next_close_ns = LOWEST
            table.groups.members[s].held = 0
        return 0

    cdef void make_room(self, TickBatch batch, Py_ssize_t more) noexcept:
        # For what a long batch is likely to close, and `more` bars: tables that double while they are filled are copied
        # as often, and memory that is not needed has to be fetched from the operating system all the same. A guess:
        # where it is wrong, or there is no memory, they grow when they are full.
        cdef Table *table = &self.table
        cdef Py_ssize_t bars = 0, records = table.records.held
        cdef int64_t first = batch.time_ns[0], last = batch.time_ns[batch.length - 1]
        cdef int64_t since, until, open_time, close_time, ended
        cdef int k
        if not EARLIEST_NS <= first <= last <= LATEST_NS:
            return
        for k in range(table.specs.count):
            if is_time_kind(table.specs.rules[k].kind):
                interval_of(&table.specs.rules[k], first, &since, &until)
                interval_of(&table.specs.rules[k], last, &open_time, &close_time)
                ended = min((open_time - since) // (close_time - open_time), batch.length) * table.symbols
                bars += ended
                records += min(ended, 2 * table.symbols)
        bars = min(bars, batch.length) + more
        reserve_rows(&table.rows, bars)
        if table.records.capacity < records:
            grow_table(<void **>&table.records.items, &table.records.capacity, sizeof(Record), records)

