"""TradeEntry: how trades get into a buffer's kernel; one at a time, straight from text without an object between.

`add` and its like are methods of BarBuffer: a class in Python has them by their names, and each call gets the buffer as its
first argument. What they keep is the buffer's `entry`.

Units: time_ns int64 nanoseconds since the Unix epoch, UTC; price quote units; size base units (contracts on inverse
markets).
"""

from types import MemberDescriptorType as _MemberDescriptor

from cpython.object cimport PyObject
from libc.stdint cimport int8_t, int64_t, uint64_t

from fastbars._agg cimport BarKernel
from fastbars.kernel.batch cimport TickBatch, begin, is_doubtful, sign_of, write_row
from fastbars.kernel.amend cimport BY_WATERMARK
from fastbars.kernel.instruments cimport Instrument
from fastbars.kernel.objects cimport slot_offset
from fastbars.kernel.scaled cimport HIGHEST, LOWEST, POWER_OF_TEN, Written, magnitude, read_written
from fastbars.ticks cimport IN_FIELDS, TickData, TickFields

from fastbars.errors import InvalidTickError, PrecisionError

cdef object _NS = "ns"
cdef object _BY_IDS = 0, _ONE = 1       # of a trade_count


cdef class TradeEntry:
    def __init__(self, BarKernel kernel not None, TickBatch single not None, int64_t grace_ns):
        if self.kernel is not None:
            raise TypeError("an entry cannot be initialised twice")
        if single.instruments is not kernel.instruments:
            raise ValueError("the batch belongs to other instruments than the kernel")
        if single.capacity < 1 or single.side is NULL or single.count is NULL or (
            kernel.by_id and single.first_id is NULL
        ):
            raise ValueError("the batch lacks columns that trades are written to")
        if not 0 <= grace_ns <= HIGHEST // 2:
            raise ValueError(f"grace {grace_ns} ns is outside 0 to {HIGHEST // 2}")
        self.kernel = kernel
        self.single = single
        self.grace_ns = grace_ns

    cdef int take(self, str symbol, object time_ns, object price, object size, int sign, object trade_id,
                  object last_trade_id, object trade_count, object time_unit) except -1:
        cdef TickBatch batch = self.single
        cdef int64_t time
        if self.kernel.busy:
            self.kernel.check_unused()
        begin(batch)
        if type(time_ns) is int and (time_unit is None or time_unit is _NS):
            time = time_ns
            if time_unit is None and is_doubtful(time):
                time = batch.time_of(symbol, time_ns, time_unit)
        else:
            time = batch.time_of(symbol, time_ns, time_unit)
        if (
            (batch.first_id is not NULL and type(trade_id) is not int)
            or last_trade_id is not None or (trade_count is not _BY_IDS and trade_count is not _ONE)
            or not self.take_ordinary(symbol, time, price, size, sign, trade_id)
        ):
            batch.append_trade(symbol, time, price, size, sign, trade_id, last_trade_id, trade_count, None)
        return self.fold()

    cdef bint take_ordinary(
        self, str symbol, int64_t time_ns, object price, object size, int sign, object trade_id
    ) except -1:
        # Writes the row of an ordinary trade, as `append` would; False: it is not ordinary, and `append` must.
        cdef Written price_written, size_written
        cdef int64_t id = 0
        if not read_written(price, &price_written) or not read_written(size, &size_written):
            return False
        if self.single.first_id is not NULL:
            id = trade_id
        return self.write(symbol, time_ns, &price_written, &size_written, sign, id, id, 1)

    cdef bint take_fields(self, TickData tick) except -1:
        # The same of a tick with C fields: no Python object between them and the row.
        cdef TickFields *own = &tick.fields
        cdef int64_t first = 0, last = 0, count = own.count
        if self.kernel.busy:
            self.kernel.check_unused()
        if tick.state != IN_FIELDS or type(tick.symbol) is not str:
            return False
        if self.single.first_id is not NULL:
            if not own.has_first_id:
                return False
            first = own.first_id
            last = own.last_id if own.has_last_id else first
        if count == 0:
            count = <int64_t>(<uint64_t>last - <uint64_t>first + 1)
        begin(self.single)
        return self.write(<str>tick.symbol, own.time_ns, &own.price, &own.size, own.side, first, last, count)

    cdef bint write(self, str symbol, int64_t time_ns, const Written *price, const Written *size, int sign,
                    int64_t first_id, int64_t last_id, int64_t count) except -1:
        cdef TickBatch batch = self.single
        cdef Instrument *own
        cdef int64_t price_mantissa = price.mantissa, size_mantissa = size.mantissa, factor
        cdef int price_scale = price.scale, symbol_id
        if size_mantissa == 0 and batch.first_id is not NULL:
            price_mantissa = price_scale = 0    # a void id: its price means nothing
        elif size_mantissa <= 0 or (price_mantissa <= 0 and not batch.instruments.negative_prices):
            return False
        if batch.sequence is not NULL:
            return False
        symbol_id = batch.instruments.find(symbol)
        own = &batch.instruments.table[symbol_id]
        if price_scale > own.scale.price or size.scale > own.scale.size:
            return False
        if price_scale < own.scale.price:
            factor = POWER_OF_TEN[own.scale.price - price_scale]
            if magnitude(price_mantissa) > HIGHEST // factor:
                return False
            price_mantissa *= factor
        if size.scale < own.scale.size:
            factor = POWER_OF_TEN[own.scale.size - size.scale]
            if size_mantissa > HIGHEST // factor:
                return False
            size_mantissa *= factor
        write_row(
            batch, 0, symbol_id, time_ns, price_mantissa, size_mantissa, <int8_t>sign, first_id, last_id, count, 0)
        own.traded = True
        return True

    cdef int fold(self) except -1:
        self.kernel.fold(self.single)
        self.rows_taken += 1
        return 0


# The class of the last buffer that was asked for its entry, and where its objects have it; 0: not in a slot.
cdef type _kind = None
cdef Py_ssize_t _slot = 0


cdef int _note_kind(type kind) except -1:
    global _kind, _slot
    cdef object slot = getattr(kind, "entry", None)
    _slot = slot_offset(slot) if type(slot) is _MemberDescriptor and issubclass(kind, slot.__objclass__) else 0
    _kind = kind
    return 0


cdef TradeEntry entry_of(object buffer):
    # Every trade asks: a slot is read as it is, without a search among attributes.
    cdef object entry = None
    cdef PyObject *held
    if type(buffer) is not _kind:
        _note_kind(type(buffer))
    if _slot == 0:
        entry = getattr(buffer, "entry", None)
    else:
        held = (<PyObject **>(<char *><PyObject *>buffer + _slot))[0]
        if held is not NULL:
            entry = <object>held
    if type(entry) is not TradeEntry or (<TradeEntry>entry).kernel is None:
        raise TypeError(f"{type(buffer).__name__}.__init__ was not called")
    return <TradeEntry>entry


cdef list _issue_folded(object buffer, TradeEntry entry, TickBatch batch):
    if not entry.kernel.has_folded():
        return []
    rows, late = entry.kernel.take_folded()
    return buffer.issue(rows, late, batch)


# The methods of a buffer.

def add(buffer, str symbol not None, time_ns, price, size, side=0, trade_id=None, last_trade_id=None, trade_count=_BY_IDS,
        time_unit=None):
    cdef TradeEntry entry = entry_of(buffer)
    entry.take(symbol, time_ns, price, size, sign_of(symbol, side), trade_id, last_trade_id, trade_count, time_unit)
    return _issue_folded(buffer, entry, entry.single)


def add_tick(buffer, tick):
    cdef TradeEntry entry = entry_of(buffer)
    if type(tick) is TickData and entry.take_fields(<TickData>tick):
        entry.fold()
    else:
        entry.take(
            tick.symbol, tick.time_ns, tick.price, tick.volume, sign_of(tick.symbol, tick.side), tick.trade_id,
            tick.last_trade_id, tick.trade_count, _NS)
    return _issue_folded(buffer, entry, entry.single)


def add_batch(buffer, TickBatch batch not None):
    cdef TradeEntry entry = entry_of(buffer)
    entry.kernel.fold(batch)
    entry.rows_taken += batch.length
    return _issue_folded(buffer, entry, batch)


def add_live(buffer, TickBatch batch not None):
    bars = fold_live(buffer, entry_of(buffer), batch)
    return [] if bars is None else bars


def advance_watermark(buffer, int64_t event_time_ns):
    bars = pass_watermark(buffer, entry_of(buffer), event_time_ns, 0)
    return [] if bars is None else bars


# The same for compiled callers: None where nothing was issued.

cdef list fold_live(object buffer, TradeEntry entry, TickBatch batch):
    if batch.length == 0:
        return None
    try:
        entry.kernel.fold(batch)
    except (PrecisionError, InvalidTickError) as error:
        if error.row is None:
            raise
        return _add_around(buffer, batch)
    entry.rows_taken += batch.length
    if not entry.kernel.has_folded():
        return None
    return _issue_folded(buffer, entry, batch)


cdef list _add_around(object buffer, TickBatch batch):
    # Folds all rows but those that are refused.
    cdef list bars = []
    while batch.length:
        try:
            bars += buffer.add_batch(batch)
            break
        except (PrecisionError, InvalidTickError) as error:
            if error.row is None:
                raise
            # A rule that a row breaks is found before sums that rows in front of it would exceed.
            bars += _add_around(buffer, batch.part(0, error.row))
            bars += buffer.refuse(batch, error.row)
            batch = batch.part(error.row + 1, batch.length)
    return bars


cdef list pass_watermark(object buffer, TradeEntry entry, int64_t event_time_ns, int group):
    cdef int64_t grace_ns = max(<int64_t>0, entry.grace_ns)  # callers may set it to anything
    cdef int64_t until_ns = event_time_ns - grace_ns if event_time_ns > LOWEST + grace_ns else LOWEST
    cdef BarKernel kernel = entry.kernel
    if (
        0 <= group < kernel.table.groups.count and event_time_ns <= kernel.table.groups.items[group].watermark_ns
        and until_ns < kernel.table.groups.items[group].next_close_ns and kernel.table.floor_until_ns != HIGHEST
        and not kernel.busy
    ):
        return None     # another message of this time has told it all
    kernel.advance_watermark(event_time_ns, group)
    if until_ns < kernel.table.groups.items[group].next_close_ns:
        return None
    return buffer.issue(entry.kernel.close_until(until_ns, BY_WATERMARK, group))
