"""Tapes: the trades of one symbol and anchored spec from which its bars may have to be cut again.

A tape begins where bars may turn out to be wrong: at a hole, at the symbol's first trade, at the end of an anchor's
interval; where ids do not order trades it always holds the latest ones. It knows nothing of why it is kept.

Units: times int64 ns since the epoch, UTC; prices and sizes mantissas.
"""

from libc.math cimport fabs
from libc.stdint cimport int64_t, int8_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy, memmove
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from fastbars.kernel.passes cimport Columns, trades_of
from fastbars.kernel.paths cimport WidenState
from fastbars.kernel.scaled cimport HIGHEST, magnitude
from fastbars.kernel.summary cimport fits, is_beyond, quote_of, volume_of, widen_bar

cdef enum:
    FEWEST_ROWS = 64
    COLUMNS = 6

cdef struct Place:              # of a row, in the order that it is brought to
    int64_t anchor
    int64_t key
    Py_ssize_t row


cdef Tape *new_tape() noexcept nogil:
    cdef Tape *tape = <Tape *>calloc(1, sizeof(Tape))
    if tape is not NULL:
        tape.filled_from = HIGHEST
    return tape


cdef void free_tape(Tape *tape) noexcept nogil:
    if tape is not NULL:
        free(tape.time_ns)
        free(tape)


cdef void _point(Tape *tape, void *block, Py_ssize_t capacity) noexcept nogil:
    tape.time_ns = <int64_t *>block
    tape.price = tape.time_ns + capacity
    tape.size = tape.price + capacity
    tape.first_id = tape.size + capacity
    tape.last_id = tape.first_id + capacity
    tape.count = tape.last_id + capacity
    tape.side = <int8_t *>(tape.count + capacity)
    tape.capacity = capacity


cdef bint _grow(Tape *tape, Py_ssize_t capacity) noexcept nogil:
    cdef Tape old = tape[0]
    cdef void *block = malloc(capacity * ROW_BYTES)
    if block is NULL:
        return False
    _point(tape, block, capacity)
    if old.rows:
        memcpy(tape.time_ns, old.time_ns, old.rows * sizeof(int64_t))
        memcpy(tape.price, old.price, old.rows * sizeof(int64_t))
        memcpy(tape.size, old.size, old.rows * sizeof(int64_t))
        memcpy(tape.first_id, old.first_id, old.rows * sizeof(int64_t))
        memcpy(tape.last_id, old.last_id, old.rows * sizeof(int64_t))
        memcpy(tape.count, old.count, old.rows * sizeof(int64_t))
        memcpy(tape.side, old.side, old.rows * sizeof(int8_t))
    free(old.time_ns)
    return True


cdef bint put(Tape *tape, const Columns *batch, Py_ssize_t row, bint by_id) noexcept nogil:
    cdef Py_ssize_t i = tape.rows
    if i == tape.capacity and not _grow(tape, max(2 * tape.capacity, FEWEST_ROWS)):
        return False
    tape.time_ns[i] = batch.time_ns[row]
    tape.price[i] = batch.price[row]
    tape.size[i] = batch.size[row]
    tape.first_id[i] = batch.first_id[row] if by_id else batch.arrivals + row
    tape.last_id[i] = batch.last_id[row] if by_id else batch.arrivals + row
    tape.count[i] = trades_of(batch, row)
    tape.side[i] = batch.side[row & batch.side_mask]
    tape.rows += 1
    return True


cdef bint is_sorted(const Tape *tape, const int64_t *anchors) noexcept nogil:
    # By anchor, then key: by `first_id` or, where no anchors are given, by time.
    cdef const int64_t *major = tape.time_ns if anchors is NULL else anchors
    cdef Py_ssize_t i
    for i in range(1, tape.rows):
        if major[i] < major[i - 1] or (major[i] == major[i - 1] and tape.first_id[i] < tape.first_id[i - 1]):
            return False
    return True


cdef int _compare(const void *one, const void *other) noexcept nogil:
    cdef const Place *a = <const Place *>one
    cdef const Place *b = <const Place *>other
    if a.anchor != b.anchor:
        return -1 if a.anchor < b.anchor else 1
    return -1 if a.key < b.key else 1 if a.key > b.key else 0


cdef bint sort_tape(Tape *tape, const int64_t *anchors) noexcept nogil:
    # False: there is no memory.
    cdef const int64_t *major = tape.time_ns if anchors is NULL else anchors
    cdef Place *places
    cdef Tape old = tape[0]
    cdef void *block
    cdef Py_ssize_t i, row
    if is_sorted(tape, anchors):
        return True
    places = <Place *>malloc(tape.rows * sizeof(Place))
    block = malloc(tape.capacity * ROW_BYTES)
    if places is NULL or block is NULL:
        free(places)
        free(block)
        return False
    for i in range(tape.rows):
        places[i] = Place(major[i], tape.first_id[i], i)
    qsort(places, tape.rows, sizeof(Place), _compare)
    _point(tape, block, tape.capacity)
    for i in range(tape.rows):
        row = places[i].row
        tape.time_ns[i], tape.price[i], tape.size[i] = old.time_ns[row], old.price[row], old.size[row]
        tape.first_id[i], tape.last_id[i] = old.first_id[row], old.last_id[row]
        tape.count[i], tape.side[i] = old.count[row], old.side[row]
    free(places)
    free(old.time_ns)
    return True


cdef void cut_off(Tape *tape, Py_ssize_t rows) noexcept nogil:
    # The first ones.
    cdef Py_ssize_t left = tape.rows - rows
    if rows <= 0:
        return
    memmove(tape.time_ns, tape.time_ns + rows, left * sizeof(int64_t))
    memmove(tape.price, tape.price + rows, left * sizeof(int64_t))
    memmove(tape.size, tape.size + rows, left * sizeof(int64_t))
    memmove(tape.first_id, tape.first_id + rows, left * sizeof(int64_t))
    memmove(tape.last_id, tape.last_id + rows, left * sizeof(int64_t))
    memmove(tape.count, tape.count + rows, left * sizeof(int64_t))
    memmove(tape.side, tape.side + rows, left * sizeof(int8_t))
    tape.rows = left


cdef bint tape_fits(
    const Tape *tape, WidenState widen_state, int64_t price_factor, int64_t size_factor, int64_t quote_factor
) noexcept nogil:
    # Whether all that it has fits scales that are so much larger.
    cdef Mark copy = tape.mark
    cdef Py_ssize_t i
    if not fits(&copy.bar, price_factor) or widen_bar(&copy.bar, price_factor, size_factor, quote_factor) or is_beyond(&copy.bar):
        return False
    if widen_state is not NULL and widen_state(copy.state, price_factor, size_factor, quote_factor):
        return False
    for i in range(tape.rows):
        if magnitude(tape.price[i]) > HIGHEST // price_factor or tape.size[i] > HIGHEST // size_factor:
            return False
    return True


cdef void widen_tape(
    Tape *tape, WidenState widen_state, int64_t price_factor, int64_t size_factor, int64_t quote_factor
) noexcept nogil:
    cdef Py_ssize_t i
    widen_bar(&tape.mark.bar, price_factor, size_factor, quote_factor)
    if widen_state is not NULL:
        widen_state(tape.mark.state, price_factor, size_factor, quote_factor)
    for i in range(tape.rows):
        tape.price[i] *= price_factor
        tape.size[i] *= size_factor


cdef void add_taped(const Tape *tape, int64_t contract, double *volume, double *quote) noexcept nogil:
    # What it has may be cut into one bar.
    cdef Py_ssize_t i
    if tape is NULL:
        return
    volume[0] += volume_of(&tape.mark.bar)
    quote[0] += quote_of(&tape.mark.bar)
    for i in range(tape.rows):
        volume[0] += tape.size[i]
        quote[0] += <double>tape.size[i] * (contract if contract else fabs(<double>tape.price[i]))


cdef void read_tape(const Tape *tape, Columns *columns) noexcept nogil:
    # (Nobody reads symbols of it.)
    columns.time_ns, columns.price, columns.size = tape.time_ns, tape.price, tape.size
    columns.first_id, columns.last_id, columns.count = tape.first_id, tape.last_id, tape.count
    columns.side, columns.side_mask = tape.side, -1
    columns.places = NULL
    columns.symbol_id = NULL
    columns.arrivals = 0
    columns.symbols = 0
    columns.longest = 0


cdef bytes _pack(const Tape *tape):
    cdef Tape head = tape[0]
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, sizeof(Tape) + tape.rows * ROW_BYTES)
    cdef char *at = PyBytes_AS_STRING(packed)
    cdef Tape block
    head.time_ns = head.price = head.size = head.first_id = head.last_id = head.count = NULL
    head.side = NULL
    head.capacity = tape.rows
    memcpy(at, &head, sizeof(Tape))
    _point(&block, at + sizeof(Tape), tape.rows)
    memcpy(block.time_ns, tape.time_ns, tape.rows * sizeof(int64_t))
    memcpy(block.price, tape.price, tape.rows * sizeof(int64_t))
    memcpy(block.size, tape.size, tape.rows * sizeof(int64_t))
    memcpy(block.first_id, tape.first_id, tape.rows * sizeof(int64_t))
    memcpy(block.last_id, tape.last_id, tape.rows * sizeof(int64_t))
    memcpy(block.count, tape.count, tape.rows * sizeof(int64_t))
    memcpy(block.side, tape.side, tape.rows * sizeof(int8_t))
    return packed


cdef Tape *_unpack(bytes packed) except NULL:
    # Its size is checked here, its contents are not.
    cdef Tape *tape
    cdef Py_ssize_t rows
    cdef void *block
    if len(packed) < <Py_ssize_t>sizeof(Tape):
        raise ValueError(f"the snapshot has a tape of {len(packed)} bytes")
    rows = (<const Tape *><const char *>packed).rows
    if not 0 <= rows <= len(packed) or len(packed) != <Py_ssize_t>(sizeof(Tape) + rows * ROW_BYTES):
        raise ValueError(f"the snapshot has a tape of {rows} trades and {len(packed)} bytes")
    tape = new_tape()
    block = malloc(max(rows, 1) * ROW_BYTES)
    if tape is NULL or block is NULL:
        free(tape)
        free(block)
        raise MemoryError
    memcpy(tape, <const char *>packed, sizeof(Tape))
    memcpy(block, <const char *>packed + sizeof(Tape), rows * ROW_BYTES)
    _point(tape, block, rows)
    tape.whole = tape.whole != 0
    return tape


cdef void clear_tapes(Tape ***tapes, int specs, Py_ssize_t symbols) noexcept:
    cdef Py_ssize_t s
    cdef int k
    for k in range(specs if tapes is not NULL else 0):
        for s in range(symbols if tapes[k] is not NULL else 0):
            free_tape(tapes[k][s])
            tapes[k][s] = NULL


cdef list pack_tapes(Tape ***tapes, int specs, Py_ssize_t symbols):
    # [spec, symbol, bytes] of each.
    cdef Py_ssize_t s
    cdef int k
    packed = []
    for k in range(specs):
        for s in range(symbols if tapes[k] is not NULL else 0):
            if tapes[k][s] is not NULL:
                packed.append([k, s, _pack(tapes[k][s])])
    return packed


cdef int put_tapes(Tape ***tapes, list packed, int specs, Py_ssize_t symbols) except -1:
    # In place of those that there are. Sizes are checked here, what is in them is not.
    clear_tapes(tapes, specs, symbols)
    for k, s, part in packed:
        if not (0 <= k < specs and 0 <= s < symbols) or (
            tapes[<int>k] is NULL or tapes[<int>k][<Py_ssize_t>s] is not NULL
        ):
            raise ValueError("the snapshot has a tape of nobody, or two of somebody")
        tapes[<int>k][<Py_ssize_t>s] = _unpack(part)
    return 0


cdef dict dump_tapes(Tape ***tapes, int specs, Py_ssize_t symbols):
    packed = pack_tapes(tapes, specs, symbols)
    return {
        "tapes": [[k, s, len(part)] for k, s, part in packed], "taped": b"".join([part for _, _, part in packed])}


cdef list dumped_tapes(dict parts):
    listed, taped = parts.get("tapes"), parts.get("taped")
    if type(listed) is not list or type(taped) is not bytes:
        raise ValueError("the snapshot has no tapes")
    packed = []
    start = 0
    for each in listed:
        if type(each) is not list or len(each) != 3 or not all([type(number) is int for number in each]) or each[2] < 0:
            raise ValueError("the snapshot's tapes are not lists of three numbers")
        packed.append([each[0], each[1], taped[start:start + each[2]]])
        start += each[2]
    if start != len(taped):
        raise ValueError(f"the snapshot's tapes have {len(taped)} bytes, not {start}")
    return packed
