"""A bar's life: when it opens and closes, what a late trade amends, what its status is, and what is issued.

A trade of a later interval closes the open bar, or a watermark, a clock or the end does. A closed bar stays at
hand for `lateness_ns` (Record); whatever changes about it, a value or its status, is the same bar issued again
with the next revision. A status is not stored trade by trade but judged, from the ledger and the bar's flags.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.batch cimport TickBatch
from fastbars.ledger cimport Ledger
from fastbars.scaled cimport HIGHEST, LOWEST
from fastbars.state cimport BarState, Past, Record, Slot
from fastbars.summary cimport MONTHS, Summary, add_trade, clear_bar, interval_of, is_within, merge_bar

from fastbars.state import NO_ROWS as _NO_ROWS

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

# A watermark beyond every valid trade time says no more than this.
cdef int64_t LATEST_NS = 4_600_000_000_000_000_000


cdef class BarClosing(BarState):
    def __init__(self, instruments, specs, Ledger ledger=None, bint proof=True, int64_t lateness_ns=60_000_000_000):
        super().__init__(instruments, specs, ledger)
        if lateness_ns < 0:
            raise ValueError(f"lateness {lateness_ns} ns is negative")
        self.proof = proof and self.by_id
        self.lateness_ns = lateness_ns
        self.watermark_ns = LOWEST
        self.overflow_row = -1

    cdef int settle(self) except -1:
        # Makes room for new symbols, and follows widened scales.
        self.reserve()
        if self.rescale():
            self.bound = self.largest()
        if self.by_id and self.tree_count and not self.sequenced:
            self.ledger.tips = <const char *>&self.slots[self.trees[0].root][0].bar.last_time
            self.ledger.tip_stride = sizeof(Slot)
        return 0

    # Opening, closing, amending.

    cdef void overflowed(self, Py_ssize_t row) noexcept nogil:
        self.overflow_row = row if self.overflow_row < 0 else min(self.overflow_row, row)

    cdef void roll(self, int spec, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil:
        # Closes the bar that `time` has left behind, if one is open, and opens the one it lies in.
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef Record *record
        cdef uint8_t status
        cdef int64_t open_time = LOWEST, close_time = LOWEST
        if self.is_open(spec, symbol_id):
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
            self.pasts[spec][symbol_id].start_ns = open_time
            if spec == 0:
                self.appeared[self.appeared_count] = symbol_id
                self.appeared_count += 1

    cdef void close(self, int spec, int symbol_id, Py_ssize_t row, uint8_t reason, uint8_t flags) noexcept nogil:
        # The bars that feed this one were closed before it; event_ns is that of the symbol.
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef Record closed
        cdef Record *record = &closed
        cdef Past *past
        cdef int32_t r = -1, oldest
        cdef int k
        cdef bint timed = self.rules[spec].kind <= MONTHS
        if timed:
            r = self.new_record()
            if r < 0:
                return
            record = &self.records[r]
            if slot.bar.open_time <= self.pasts[spec][symbol_id].lost_ns < slot.bar.close_time:
                flags |= LOST
        else:
            slot.bar.open_time, slot.bar.close_time = slot.bar.first_time, slot.bar.last_time
        record.bar = slot.bar
        record.next = -1
        record.revision = 0
        record.reason = reason
        record.flags = slot.flags | flags
        record.status = self.judge(spec, symbol_id, &record.bar, record.flags)
        self.issue(spec, symbol_id, record, row)
        past = &self.pasts[spec][symbol_id]
        past.newest_ns = max(past.newest_ns, slot.bar.last_time)
        if not timed:
            clear_bar(&slot.bar, LOWEST, LOWEST)
            return
        for k in range(self.width):
            if self.source[k] == spec and is_within(&slot.bar, &self.slots[k][symbol_id].bar):
                merge_bar(&self.slots[k][symbol_id].bar, &slot.bar, self.by_id)
        if self.by_id and self.source[spec] < 0:
            self.ledger.catch_up(symbol_id)
        slot.gate.limit = LOWEST
        clear_bar(&slot.bar, record.bar.close_time, record.bar.close_time)
        if slot.newest >= 0:
            self.records[slot.newest].next = r
        else:
            slot.oldest = r
        slot.newest = r
        while slot.oldest != r and self.event_ns - self.records[slot.oldest].bar.close_time > self.lateness_ns:
            oldest = slot.oldest
            slot.oldest = self.records[oldest].next
            self.free_record_at(oldest)

    cdef bint fold_late(self, int spec, TickBatch batch, Py_ssize_t row) noexcept nogil:
        # A trade older than the open bar amends the closed bar it belongs to, and no other. False: too late.
        cdef int32_t symbol_id = batch.symbol_id[row]
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef const Past *past = &self.pasts[spec][symbol_id]
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
        if self.event_ns - close_time > self.lateness_ns or close_time <= past.let_go_ns:
            self.not_placed(row, spec)
            if r >= 0:
                self.records[r].flags |= LOST
                self.rejudge(spec, symbol_id, time, time, row)
            return False
        if r >= 0:
            record = &self.records[r]
            record.revision += 1
        else:
            r = self.new_record()
            if r < 0:
                return False
            record = &self.records[r]
            clear_bar(&record.bar, open_time, close_time)
            record.revision = 0
            record.reason = BY_TRADE
            record.flags = START if open_time < past.start_ns else 0
            if open_time <= past.lost_ns < close_time:
                record.flags |= LOST
            record.next = behind
            if before >= 0:
                self.records[before].next = r
            else:
                slot.oldest = r
            if behind < 0:
                slot.newest = r
        if add_trade(&record.bar, batch, row, slot.contract, self.by_id, self.arrivals + row):
            self.overflowed(row)
        record.status = self.judge(spec, symbol_id, &record.bar, record.flags)
        self.issue(spec, symbol_id, record, row)
        return True

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

    cdef int64_t event_time(self, int tree, int symbol_id) noexcept nogil:
        cdef int root = self.trees[tree].root
        cdef int64_t newest_ns = max(self.pasts[root][symbol_id].newest_ns, self.slots[root][symbol_id].bar.last_time)
        return max(self.watermark_ns, newest_ns)

    cdef bint is_open(self, int spec, int symbol_id) noexcept nogil:
        cdef const Summary *bar = &self.slots[spec][symbol_id].bar
        return bar.open_time < bar.close_time if self.rules[spec].kind <= MONTHS else bar.count > 0

    # Closing without a trade, and looking without closing.

    def close_until(self, int64_t time_ns, int reason):
        cdef uint8_t flags = UNPROVEN | (DOWN if reason == BY_GAP else 0)
        cdef Py_ssize_t i
        cdef int j, k, t
        if time_ns < self.next_close_ns:
            return _NO_ROWS
        self.row_count = 0
        self.next_close_ns = HIGHEST
        for i in range(self.appeared_count):
            for t in range(self.tree_count):
                self.event_ns = self.event_time(t, self.appeared[i])
                for j in range(self.trees[t].start, self.trees[t].stop):
                    k = self.order[j]
                    if not self.is_open(k, self.appeared[i]):
                        continue
                    if self.slots[k][self.appeared[i]].bar.close_time <= time_ns:
                        self.close(k, self.appeared[i], i, reason, flags)
                    else:
                        self.next_close_ns = min(self.next_close_ns, self.slots[k][self.appeared[i]].bar.close_time)
        return self.take(True)

    def flush(self, symbol_id=None):
        cdef Py_ssize_t i
        cdef int j, k, t
        self.row_count = 0
        for i in range(self.appeared_count):
            if symbol_id is not None and self.appeared[i] != symbol_id:
                continue
            for t in range(self.tree_count):
                self.event_ns = self.event_time(t, self.appeared[i])
                for j in range(self.trees[t].start, self.trees[t].stop):
                    if self.is_open(self.order[j], self.appeared[i]):
                        self.close(self.order[j], self.appeared[i], i, BY_END, END)
            for k in range(self.width):
                if self.rules[k].kind > MONTHS and self.is_open(k, self.appeared[i]):
                    self.close(k, self.appeared[i], i, BY_END, END)
        return self.take(True)

    def current(self, int symbol_id, int spec):
        cdef Record record
        cdef const Slot *slot
        if not (0 <= symbol_id < self.instruments.count and 0 <= spec < self.width):
            raise IndexError(f"symbol id {symbol_id} or spec {spec} is outside the {self.instruments.count} and {self.width}")
        self.settle()
        self.row_count = 0
        if not self.is_open(spec, symbol_id):
            return _NO_ROWS
        slot = &self.slots[spec][symbol_id]
        self.total(spec, symbol_id, &record.bar)
        record.revision = 0
        record.reason = NOT_CLOSED
        record.flags = slot.flags | UNPROVEN
        if self.rules[spec].kind > MONTHS:
            record.bar.open_time, record.bar.close_time = record.bar.first_time, record.bar.last_time
        elif record.bar.open_time <= self.pasts[spec][symbol_id].lost_ns < record.bar.close_time:
            record.flags |= LOST
        record.status = self.judge(spec, symbol_id, &record.bar, record.flags)
        self.issue(spec, symbol_id, &record, 0)
        return self.take()

    def advance_watermark(self, int64_t time_ns):
        self.watermark_ns = max(self.watermark_ns, min(time_ns, LATEST_NS))

    def note_lost(self, int symbol_id, int64_t time_ns):
        cdef Slot *slot
        cdef Past *past
        cdef int32_t r
        cdef int k
        self.settle()
        self.row_count = 0
        for k in range(self.width):
            slot = &self.slots[k][symbol_id]
            if self.rules[k].kind > MONTHS:
                slot.broken = 1
                continue
            past = &self.pasts[k][symbol_id]
            if self.is_open(k, symbol_id) and slot.bar.open_time <= past.lost_ns < slot.bar.close_time:
                slot.flags |= LOST
            past.lost_ns = time_ns
            r = slot.oldest
            while r >= 0:
                if self.records[r].bar.open_time <= time_ns < self.records[r].bar.close_time:
                    self.records[r].flags |= LOST
                r = self.records[r].next
            self.rejudge(k, symbol_id, time_ns, time_ns, 0)
        return self.take()
