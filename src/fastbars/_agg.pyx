"""The bar-aggregation kernel: columns of trades in, columns of bars out.

Each symbol and spec has one open bar (a Slot) and a short list of closed ones that can still be amended
(Records). A trade is folded into the open bar, closes it, or, when it is late, amends the closed bar that
it belongs to; whatever changes about an issued bar is the same bar issued again with the next revision.
The ledger is asked row by row, so the bars that come out do not depend on how trades were cut into batches.

A batch is all or nothing: its rows are checked before anything is touched, and where a bound cannot prove
that no 128-bit sum overflows, the state is saved first and restored if one does.

Units: times int64 ns since the epoch, UTC; prices and sizes mantissas at the instrument's scales; quote sums
at the sum of both scales.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy

from fastbars.batch cimport TickBatch
from fastbars.instruments cimport Instruments
from fastbars.ledger cimport AHEAD, DUPLICATE, FILLS, FIRST, FORGOTTEN, NO_MEMORY, OVERLAP, Ledger, Verdict
from fastbars.scaled cimport HIGHEST, LOWEST, POWER_OF_TEN, less128
from fastbars.state cimport BarState, Record, Row, Slot
from fastbars.summary cimport (
    MONTHS, TICK, VOLUME, Summary, add_trade, clear_bar, interval_of, merge_bar, widen_bar,
)

from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.state import NO_ROWS as _NO_ROWS, ROW_DTYPE as _ROW_DTYPE

cdef enum:                      # flags of a bar
    START = 1                   # the stream began inside it
    END = 2                     # the stream ended inside it
    UNPROVEN = 4                # closed by watermark or clock: the next trade will prove its end
    DOWN = 8                    # closed while the feed was down
    LOST = 16                   # a trade of it was refused, or came too late

cdef enum:                      # BarStatus, worst last
    COMPLETE
    HEALED
    PROVISIONAL
    UNVERIFIABLE
    SAMPLED
    PARTIAL
    GAP

cdef enum:                      # CloseReason
    BY_TRADE
    BY_WATERMARK
    BY_CLOCK
    BY_GAP
    BY_END

# A watermark beyond every valid trade time says no more than this.
cdef int64_t LATEST_NS = 4_600_000_000_000_000_000
# Sums below this cannot overflow 128 bits, rounding of the bound included.
cdef double SAFE_BOUND = 1.6e38


cdef class BarKernel(BarState):
    def __init__(self, Instruments instruments not None, specs, Ledger ledger=None, bint proof=True,
                 int64_t lateness_ns=60_000_000_000):
        super().__init__(instruments, specs, ledger)
        if lateness_ns < 0:
            raise ValueError(f"lateness {lateness_ns} ns is negative")
        self.by_id = ledger is not None
        self.proof = proof and self.by_id
        self.lateness_ns = lateness_ns
        self.watermark_ns = LOWEST
        self.overflow_row = -1

    # A batch.

    def update(self, TickBatch batch not None):
        self.fold(batch)
        return self.take_folded()

    cdef tuple take_folded(self):
        # What the last fold issued, and the trades that it could not place.
        late = [(self.late[i].row, self.late[i].spec) for i in range(self.late_count)]
        return self.take(), late

    cdef int fold(self, TickBatch batch) except -1:
        cdef double bound
        cdef Py_ssize_t failed
        if batch.instruments is not self.instruments:
            raise InvalidTickError("the batch belongs to other instruments than this kernel")
        self.row_count = self.late_count = 0
        if batch.length == 0:
            return 0
        if batch.rescaled != self.instruments.rescaled:
            raise InvalidTickError("a scale was widened after this batch was built; build it again")
        self.reserve()
        if self.rescale():
            self.bound = self.largest()
        if self.unfit:
            for i in range(batch.length):
                if batch.symbol_id[i] in self.unfit:
                    raise PrecisionError(
                        f"{self.instruments.label(batch.symbol_id[i])}: row {i}: the sums of its open bar do not fit 128"
                        " bits with the decimals that this symbol's trades need now", i)
        bound = self.bound + batch.length * batch.check(self.symbols, self.by_id)
        saved = bound > SAFE_BOUND
        if saved:
            self.save()
        self.row_count = self.late_count = 0
        self.overflow_row = -1
        if batch.length == 1:  # not worth handing the interpreter to others
            self.run(batch)
        else:
            with nogil:
                self.run(batch)
        if self.no_memory:
            raise MemoryError("the kernel ran out of memory; its state is undefined, start anew")
        failed = self.overflow_row
        if failed >= 0:
            self.restore()
        self.forget_saved()
        if failed >= 0:
            symbol_id = batch.symbol_id[failed]
            raise PrecisionError(
                f"{self.instruments.label(symbol_id)}: with row {failed} (price mantissa {batch.price[failed]}, size mantissa"
                f" {batch.size[failed]}) the volume or quote volume of a bar leaves 128 bits", failed)
        self.bound = self.largest() if saved else bound
        self.arrivals += batch.length
        return 0

    cdef void run(self, TickBatch batch) noexcept nogil:
        cdef Py_ssize_t start = 0, stop
        cdef int k
        while start < batch.length:
            stop = self.ledger.advance(batch, start, batch.length) if self.by_id else batch.length
            for k in range(self.width):
                if self.rules[k].kind <= MONTHS:
                    self.fold_time(k, batch, start, stop)
                else:
                    self.fold_path(k, batch, start, stop)
            if stop < batch.length:
                self.take_unexpected(batch, stop)
                stop += 1
            start = stop

    cdef void take_unexpected(self, TickBatch batch, Py_ssize_t row) noexcept nogil:
        # A trade whose id is not the next one.
        cdef int32_t s = batch.symbol_id[row]
        cdef Verdict verdict = self.ledger.resolve(batch, row)
        # Where times run backwards, a trade inside a hole makes what is left of it reach further in time.
        cdef int64_t time = batch.time_ns[row]
        cdef int64_t since = min(time, min(self.ledger.touched.since_ns, self.ledger.touched.until_ns))
        cdef int64_t until = max(time, max(self.ledger.touched.since_ns, self.ledger.touched.until_ns))
        cdef int k
        if verdict == DUPLICATE:
            self.duplicates += 1
            return
        if verdict == OVERLAP or verdict == FORGOTTEN:
            self.not_placed(row, -1)
            return
        if verdict == NO_MEMORY:
            self.no_memory = True
            return
        for k in range(self.width):
            if self.rules[k].kind > MONTHS:
                if verdict != FIRST:
                    self.slots[k][s].broken = 1
                self.fold_path(k, batch, row, row + 1)
                continue
            if verdict == AHEAD:
                self.rejudge(k, s, since, until, row)
            self.fold_time(k, batch, row, row + 1)
            if verdict == FILLS:
                self.rejudge(k, s, since, until, row)

    cdef void fold_time(self, int spec, TickBatch batch, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Slot *slots = self.slots[spec]
        cdef Slot *slot
        cdef int64_t time
        cdef Py_ssize_t i
        for i in range(start, stop):
            slot = &slots[batch.symbol_id[i]]
            time = batch.time_ns[i]
            if time >= slot.bar.close_time:
                self.roll(spec, batch.symbol_id[i], time, i)
            elif time < slot.bar.open_time:
                self.fold_late(spec, batch, i)
                continue
            if add_trade(&slot.bar, batch, i, slot.contract, self.by_id, self.arrivals + i):
                self.overflow_row = i if self.overflow_row < 0 else min(self.overflow_row, i)

    cdef void fold_path(self, int spec, TickBatch batch, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        # Count, volume and value bars take trades as they arrive; the one that reaches the step is the last.
        cdef Slot *slots = self.slots[spec]
        cdef Slot *slot
        cdef Summary *bar
        cdef Py_ssize_t i
        cdef int kind = self.rules[spec].kind
        cdef bint reached
        cdef int64_t opened, first, last
        for i in range(start, stop):
            slot = &slots[batch.symbol_id[i]]
            bar = &slot.bar
            if bar.count == 0:
                self.roll(spec, batch.symbol_id[i], batch.time_ns[i], i)
            opened = bar.open if bar.count else batch.price[i]
            first, last = bar.first_id, bar.last_id
            if add_trade(bar, batch, i, slot.contract, False, self.arrivals + i):
                self.overflow_row = i if self.overflow_row < 0 else min(self.overflow_row, i)
            bar.open, bar.close = opened, batch.price[i]
            if self.by_id:
                bar.first_id = min(first, batch.first_id[i])
                bar.last_id = max(last, batch.last_id[i])
            bar.open_time, bar.close_time = bar.first_time, bar.last_time
            if kind == TICK:
                reached = bar.count >= self.rules[spec].step
            elif kind == VOLUME:
                reached = not less128(&bar.volume, &slot.threshold)
            else:
                reached = not less128(&bar.quote, &slot.threshold)
            if reached:
                self.close(spec, batch.symbol_id[i], i, BY_TRADE, 0)

    cdef void roll(self, int spec, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil:
        # Closes the bar that `time` has left behind, if one is open, and opens the one it lies in.
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef Record *record
        cdef uint8_t status
        cdef int64_t open_time = LOWEST, close_time = LOWEST
        if slot.bar.count > 0:
            self.close(spec, symbol_id, row, BY_TRADE, 0)
        elif slot.newest >= 0 and self.records[slot.newest].flags & (UNPROVEN | END):
            # This trade is the proof that the bar closed early by watermark, clock or flush was waiting for.
            record = &self.records[slot.newest]
            record.flags &= ~(UNPROVEN | END)
            if self.by_id:
                record.flags &= ~DOWN
            status = self.judge(spec, symbol_id, &record.bar, record.flags)
            if status != record.status:
                record.status = status
                record.revision += 1
                self.issue(spec, symbol_id, record, row)
        if self.rules[spec].kind <= MONTHS:
            interval_of(&self.rules[spec], time, &open_time, &close_time)
            self.next_close_ns = min(self.next_close_ns, close_time)
        clear_bar(&slot.bar, open_time, close_time)
        slot.flags = 0
        if slot.fresh:
            slot.fresh = 0
            slot.flags = START
            slot.start_ns = open_time
            if spec == 0:
                self.appeared[self.appeared_count] = symbol_id
                self.appeared_count += 1

    cdef void close(self, int spec, int symbol_id, Py_ssize_t row, uint8_t reason, uint8_t flags) noexcept nogil:
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef Record closed
        cdef Record *record = &closed
        cdef int32_t r = -1, oldest
        cdef bint timed = self.rules[spec].kind <= MONTHS
        if timed:
            r = self.new_record()
            if r < 0:
                return
            record = &self.records[r]
            if slot.bar.open_time <= slot.lost_ns < slot.bar.close_time:
                flags |= LOST
        record.bar = slot.bar
        record.next = -1
        record.revision = 0
        record.reason = reason
        record.flags = slot.flags | flags
        record.status = self.judge(spec, symbol_id, &record.bar, record.flags)
        slot.newest_ns = max(slot.newest_ns, slot.bar.last_time)
        self.issue(spec, symbol_id, record, row)
        if not timed:
            clear_bar(&slot.bar, LOWEST, LOWEST)
            return
        clear_bar(&slot.bar, record.bar.close_time, record.bar.close_time)
        if slot.newest >= 0:
            self.records[slot.newest].next = r
        else:
            slot.oldest = r
        slot.newest = r
        while slot.oldest != r and (
            self.event_time(slot) - self.records[slot.oldest].bar.close_time > self.lateness_ns
        ):
            oldest = slot.oldest
            slot.oldest = self.records[oldest].next
            self.free_record_at(oldest)

    cdef void fold_late(self, int spec, TickBatch batch, Py_ssize_t row) noexcept nogil:
        # A trade older than the open bar: it amends the closed bar it belongs to, and no other.
        cdef int32_t symbol_id = batch.symbol_id[row]
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef int64_t time = batch.time_ns[row], open_time, close_time
        cdef int32_t r = slot.oldest, before = -1, behind
        cdef Record *record
        interval_of(&self.rules[spec], time, &open_time, &close_time)
        while r >= 0 and self.records[r].bar.open_time < open_time:
            before = r
            r = self.records[r].next
        if r >= 0 and self.records[r].bar.open_time != open_time:
            behind = r
            r = -1
        else:
            behind = -1
        if self.event_time(slot) - close_time > self.lateness_ns or close_time <= slot.let_go_ns:
            self.not_placed(row, spec)
            if r >= 0:
                self.records[r].flags |= LOST
                self.rejudge(spec, symbol_id, time, time, row)
            return
        slot.newest_ns = max(slot.newest_ns, time)
        if r >= 0:
            record = &self.records[r]
            record.revision += 1
        else:
            r = self.new_record()
            if r < 0:
                return
            record = &self.records[r]
            clear_bar(&record.bar, open_time, close_time)
            record.revision = 0
            record.reason = BY_TRADE
            record.flags = START if open_time < slot.start_ns else 0
            if open_time <= slot.lost_ns < close_time:
                record.flags |= LOST
            record.next = behind
            if before >= 0:
                self.records[before].next = r
            else:
                slot.oldest = r
            if behind < 0:
                slot.newest = r
        if add_trade(&record.bar, batch, row, slot.contract, self.by_id, self.arrivals + row):
            self.overflow_row = row if self.overflow_row < 0 else min(self.overflow_row, row)
        record.status = self.judge(spec, symbol_id, &record.bar, record.flags)
        self.issue(spec, symbol_id, record, row)

    cdef void rejudge(self, int spec, int symbol_id, int64_t since, int64_t until, Py_ssize_t row) noexcept nogil:
        # A hole between two times was opened or has shrunk: closed bars it reaches into may change status.
        cdef int32_t r = self.slots[spec][symbol_id].oldest
        cdef Record *record
        cdef uint8_t status
        while r >= 0:
            record = &self.records[r]
            if record.bar.open_time <= until and since < record.bar.close_time:
                status = self.judge(spec, symbol_id, &record.bar, record.flags)
                if status != record.status:
                    record.status = status
                    record.revision += 1
                    self.issue(spec, symbol_id, record, row)
            r = record.next

    cdef uint8_t judge(self, int spec, int symbol_id, const Summary *bar, uint8_t flags) noexcept nogil:
        if flags & (LOST | DOWN):
            return GAP
        if self.rules[spec].kind > MONTHS:
            if self.slots[spec][symbol_id].broken:
                return GAP
        elif self.by_id and self.ledger.in_doubt(symbol_id, bar.open_time, bar.close_time):
            return GAP
        if flags & (START | END):
            return PARTIAL
        if not self.proof:
            return UNVERIFIABLE
        return PROVISIONAL if flags & UNPROVEN else COMPLETE

    cdef int64_t event_time(self, const Slot *slot) noexcept nogil:
        return max(self.watermark_ns, max(slot.newest_ns, slot.bar.last_time))

    # Closing without a trade.

    def close_until(self, int64_t time_ns, int reason):
        cdef Py_ssize_t i
        cdef Summary *bar
        cdef int k
        if time_ns < self.next_close_ns:
            return _NO_ROWS
        self.row_count = 0
        self.next_close_ns = HIGHEST
        for i in range(self.appeared_count):
            for k in range(self.width):
                bar = &self.slots[k][self.appeared[i]].bar
                if bar.count == 0 or self.rules[k].kind > MONTHS:
                    continue
                if bar.close_time <= time_ns:
                    self.close(k, self.appeared[i], self.row_count, reason, UNPROVEN | (DOWN if reason == BY_GAP else 0))
                else:
                    self.next_close_ns = min(self.next_close_ns, bar.close_time)
        return self.take()

    def flush(self, symbol_id=None):
        cdef Py_ssize_t i
        cdef int k
        self.row_count = 0
        for i in range(self.appeared_count):
            if symbol_id is None or self.appeared[i] == symbol_id:
                for k in range(self.width):
                    if self.slots[k][self.appeared[i]].bar.count > 0:
                        self.close(k, self.appeared[i], self.row_count, BY_END, END)
        return self.take()

    def advance_watermark(self, int64_t time_ns):
        self.watermark_ns = max(self.watermark_ns, min(time_ns, LATEST_NS))

    def note_lost(self, int symbol_id, int64_t time_ns):
        cdef Slot *slot
        cdef int32_t r
        cdef int k
        self.reserve()
        self.row_count = 0
        for k in range(self.width):
            slot = &self.slots[k][symbol_id]
            if self.rules[k].kind > MONTHS:
                slot.broken = 1
                continue
            if slot.bar.count and slot.bar.open_time <= slot.lost_ns < slot.bar.close_time:
                slot.flags |= LOST
            slot.lost_ns = time_ns
            r = slot.oldest
            while r >= 0:
                if self.records[r].bar.open_time <= time_ns < self.records[r].bar.close_time:
                    self.records[r].flags |= LOST
                r = self.records[r].next
            self.rejudge(k, symbol_id, time_ns, time_ns, 0)
        return self.take()


def merge_rows(rows, others, bint by_id):
    cdef Row mine, other
    cdef Py_ssize_t i
    cdef size_t target, source
    merged = np.array(rows, dtype=_ROW_DTYPE)
    others = np.ascontiguousarray(others, dtype=_ROW_DTYPE)
    if len(merged) != len(others):
        raise ValueError(f"{len(merged)} bars cannot be merged with {len(others)}")
    for i in range(len(merged)):
        target = <size_t>merged.ctypes.data + i * sizeof(Row)
        source = <size_t>others.ctypes.data + i * sizeof(Row)
        memcpy(&mine, <void *>target, sizeof(Row))
        memcpy(&other, <void *>source, sizeof(Row))
        _to_scale(&other, mine.price_scale, mine.size_scale, mine.quote_scale)
        _to_scale(&mine, other.price_scale, other.size_scale, other.quote_scale)
        if merge_bar(&mine.bar, &other.bar, by_id):
            raise PrecisionError(f"row {i}: the merged sums do not fit 128 bits", i)
        mine.status = max(mine.status, other.status)
        mine.revision = max(mine.revision, other.revision)
        memcpy(<void *>target, &mine, sizeof(Row))
    return merged


cdef int _to_scale(Row *row, int price_scale, int size_scale, int quote_scale) except -1:
    # Widens `row` to scales that are larger than its own.
    cdef int price_shift = max(price_scale - row.price_scale, 0)
    cdef int size_shift = max(size_scale - row.size_scale, 0)
    cdef int quote_shift = max(quote_scale - row.quote_scale, 0)
    if row.bar.high > HIGHEST // POWER_OF_TEN[price_shift] or quote_shift < size_shift or widen_bar(
        &row.bar, POWER_OF_TEN[price_shift], POWER_OF_TEN[size_shift], POWER_OF_TEN[quote_shift - size_shift]
    ):
        raise PrecisionError(
            f"a bar with {row.price_scale} decimals of price and {row.size_scale} of size does not fit with"
            f" {price_scale} and {size_scale}"
        )
    row.price_scale += price_shift
    row.size_scale += size_shift
    row.quote_scale += quote_shift
    return 0
