"""A bar's life: when it is opened and closed, by a trade, by time or by the end; intervals without trades; and bars in
which the stream began.

A closed bar becomes a Record. So does an interval without trades where empty intervals are filled, or where the feed
was down in it: flat at the last close where it is known that nothing was traded, else without prices.

Units: times int64 ns since the epoch, UTC.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.batch cimport EARLIEST_NS, LATEST_NS
from fastbars.kernel.amend cimport (
    BY_END, BY_GAP, BY_TRADE, DOWN, END, FILLED, LOST, NOT_CLOSED, START, UNPROVEN, BarRecords, Judgement,
    take_judgement,
)
from fastbars.kernel.restored cimport check_bars, check_times, follow_scales
from fastbars.kernel.scaled cimport HIGHEST, LOWEST
from fastbars.kernel.table cimport Past, Record, Slot, whole_number
from fastbars.kernel.summary cimport MONTHS, Summary, clear_bar, interval_of, is_within, merge_bar

from fastbars.errors import InvalidTickError
from fastbars.kernel.rows import NO_ROWS as _NO_ROWS

cdef enum:
    MOST_EMPTY = 100_000        # intervals without trades that one call issues for a symbol and spec


cdef class BarClosing(BarRecords):
    cdef int settle(self) except -1:
        cdef int first
        # Makes room for new symbols, and follows widened scales.
        self.reserve()
        if self.rescale():
            self.bound = self.largest()
        if self.by_id and not self.sequenced and self.symbols:
            first = self.trees[0].root if self.tree_count else 0
            self.ledger.tip_times = <const char *>&self.slots[first][0].bar.last_time
            self.ledger.tip_stride = sizeof(Slot)
            if self.tree_count:
                self.ledger.tip_ids = <const char *>&self.slots[first][0].gate.next.id
                self.ledger.tip_step = 0
            else:       # the gate of these has another use
                self.ledger.tip_ids = <const char *>&self.slots[first][0].bar.last_id
                self.ledger.tip_step = 1
        return 0

    # A snapshot, for another process of the same build.

    def dump(self):
        self.check_unused()
        parts = BarRecords.dump(self)
        parts["times"] = [self.watermark_ns, self.down_since_ns, self.down_until_ns, self.arrivals, self.healed,
                          self.sequenced]
        return parts

    def load(self, dict parts not None):
        cdef int64_t[5] times
        cdef int i
        self.check_unused()
        if not self.is_blank:
            raise ValueError("a snapshot is loaded into a kernel that has seen no trade")
        self.reserve()
        given = parts.get("times")
        if type(given) is not list or len(given) != 6:
            raise ValueError("the snapshot has no times")
        for i in range(5):
            times[i] = whole_number(parts, "times", given[i])
        if type(given[5]) is not bool or (given[5] and not self.by_id):
            raise ValueError("the snapshot does not say whether its messages were numbered")
        try:
            self.take_memory(parts)
            check_bars(self)
            check_times(self, times[0], times[1], times[2], times[3], times[4])
            if self.ledger is not None:
                self.ledger.load(parts, self.symbols)
        except BaseException:
            self.restore()      # to what it was before: blank
            raise
        self.watermark_ns, self.down_since_ns, self.down_until_ns = times[0], times[1], times[2]
        self.arrivals, self.healed, self.sequenced = times[3], times[4], given[5]
        if self.sequenced:
            self.ledger.tip_ids = self.ledger.tip_times = NULL
        follow_scales(self)
        self.widenings = len(self.instruments.widened)
        self.blank = False
        self.bound = self.largest()

    # Opening and closing.

    cdef void roll(self, int spec, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil:
        # Closes the bar that `time` has left behind, if one is open, and opens the one it lies in.
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef int64_t open_time = LOWEST, close_time = LOWEST
        cdef bint timed = self.rules[spec].kind <= MONTHS
        cdef bint ended = not self.is_open(spec, symbol_id) and slot.flags & END
        if timed:
            interval_of(&self.rules[spec], time, &open_time, &close_time)
        if self.is_open(spec, symbol_id):
            self.close(spec, symbol_id, row, BY_TRADE, 0)
        if not self.fills:
            # This trade is the proof that bars closed early by watermark, clock or flush were waiting for.
            self.prove(spec, symbol_id, HIGHEST, row)
        if timed:
            if not ended:
                self.pass_time(spec, symbol_id, open_time, BY_TRADE, 0, row)
            self.next_close_ns = min(self.next_close_ns, close_time)
        clear_bar(&slot.bar, open_time, close_time)
        slot.flags = DOWN if timed and self.is_down_in(open_time, close_time) else 0
        slot.contained = 1      # until it is found that it is not
        if slot.fresh:
            slot.fresh = 0
            self.pasts[spec][symbol_id].start_ns = open_time
            if timed and self.by_id and self.ledger.lines[symbol_id].start_ns < open_time:
                self.pasts[spec][symbol_id].start_ns = self.ledger.lines[symbol_id].start_ns + 1    # a void id came first
            else:
                slot.flags |= START
            if spec == 0:
                self.appeared[self.appeared_count] = symbol_id
                self.appeared_count += 1

    cdef void close(self, int spec, int symbol_id, Py_ssize_t row, uint8_t reason, uint8_t flags) noexcept nogil:
        # The bars that feed this one were closed before it; event_ns is that of the symbol.
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef Record closed
        cdef Record *record = &closed
        cdef Judgement judgement
        cdef Past *past
        cdef int32_t r = -1
        cdef int k
        cdef bint timed = self.rules[spec].kind <= MONTHS
        if timed:
            flags = self.without_proof(spec, symbol_id, slot.bar.close_time, flags)
            r = self.new_record()
            if r < 0:
                return
            record = &self.records[r]
            if slot.bar.open_time <= self.pasts[spec][symbol_id].lost_ns < slot.bar.close_time:
                flags |= LOST
        else:
            slot.bar.open_time, slot.bar.close_time = slot.bar.first_time, slot.bar.last_time
        record.bar = slot.bar
        record.revision = 0
        record.reason = reason
        record.flags = slot.flags | flags
        record.lost = 0
        judgement = self.judge(spec, symbol_id, record)
        take_judgement(record, judgement)
        self.issue(spec, symbol_id, record, row)
        past = &self.pasts[spec][symbol_id]
        past.newest_ns = max(past.newest_ns, slot.bar.last_time)
        if self.by_id and self.source[spec] < 0:
            self.ledger.catch_up(symbol_id)
        if not timed:
            clear_bar(&slot.bar, LOWEST, LOWEST)
            return
        for k in range(self.width):
            if self.source[k] == spec and is_within(&slot.bar, &self.slots[k][symbol_id].bar):
                merge_bar(&self.slots[k][symbol_id].bar, &slot.bar, self.by_id)
        slot.gate.next.limit = LOWEST
        slot.flags = 0
        clear_bar(&slot.bar, record.bar.close_time, record.bar.close_time)
        slot.unproven |= (record.flags & (UNPROVEN | END)) != 0
        self.link(spec, symbol_id, slot.newest, r, -1)
        self.evict(spec, symbol_id)

    # Intervals without trades.

    cdef void pass_time(
        self, int spec, int symbol_id, int64_t until, uint8_t reason, uint8_t flags, Py_ssize_t row
    ) noexcept nogil:
        # Time has passed up to `until`, and no bar is open: issues the empty intervals that are to be issued.
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef int64_t open_time, close_time
        cdef bint down
        cdef uint8_t own
        cdef int left = MOST_EMPTY
        while left and self.next_empty(spec, symbol_id, &open_time, &close_time) and close_time <= until:
            left -= 1
            down = self.is_down_in(open_time, close_time)
            # Where a trade behind it came with the next id, it is proven that the feed missed nothing.
            own = self.without_proof(spec, symbol_id, close_time, flags)
            if self.fill or own & UNPROVEN or not self.by_id or self.ledger.in_doubt(symbol_id, open_time, close_time):
                self.issue_empty(
                    spec, symbol_id, open_time, close_time, BY_GAP if down and reason != BY_TRADE else reason,
                    own | (DOWN if down else 0), row)
            clear_bar(&slot.bar, close_time, close_time)

    cdef void pass_void(self, int tree, int symbol_id, int64_t time, Py_ssize_t row) noexcept nogil:
        # The id is used up, which proves what the next trade would prove: bars before its interval are over.
        cdef Summary *bar = &self.slots[self.trees[tree].root][symbol_id].bar
        cdef Past *past
        cdef int64_t open_time, close_time
        cdef int j, k
        if self.fills:
            return
        if bar.open_time <= time < bar.close_time:
            bar.last_time = max(bar.last_time, time)
        for j in range(self.trees[tree].start, self.trees[tree].stop):
            k = self.order[j]
            past = &self.pasts[k][symbol_id]
            past.newest_ns = max(past.newest_ns, time)
            interval_of(&self.rules[k], time, &open_time, &close_time)
            self.prove(k, symbol_id, open_time, row)

    cdef uint8_t without_proof(self, int spec, int symbol_id, int64_t close_time, uint8_t flags) noexcept nogil:
        # A bar that no trade closes has no proof of its end, unless a void id behind it has come.
        if self.by_id and self.rules[spec].kind <= MONTHS and self.pasts[spec][symbol_id].newest_ns >= close_time:
            return flags & ~(UNPROVEN | END)
        return flags

    cdef bint next_empty(self, int spec, int symbol_id, int64_t *open_time, int64_t *close_time) noexcept nogil:
        # The next interval that is issued if it stays empty; False: there is none.
        cdef const Slot *slot = &self.slots[spec][symbol_id]
        if slot.fresh or slot.newest < 0 or self.is_open(spec, symbol_id) or slot.flags & END:
            return False
        if slot.bar.close_time > LATEST_NS:     # no trade can be as late, and the interval behind it may not fit 64 bits
            return False
        interval_of(&self.rules[spec], slot.bar.close_time, open_time, close_time)
        if self.fill:
            return True
        if close_time[0] <= self.down_since_ns:
            if self.down_since_ns == HIGHEST:
                return False
            interval_of(&self.rules[spec], self.down_since_ns, open_time, close_time)
        return open_time[0] < self.down_until_ns

    cdef void issue_empty(
        self, int spec, int symbol_id, int64_t open_time, int64_t close_time, uint8_t reason, uint8_t flags,
        Py_ssize_t row,
    ) noexcept nogil:
        cdef Slot *slot = &self.slots[spec][symbol_id]
        cdef Past *past = &self.pasts[spec][symbol_id]
        cdef int32_t r = self.new_record()
        cdef Record *record
        cdef Judgement judgement
        if r < 0:
            return
        record = &self.records[r]
        clear_bar(&record.bar, open_time, close_time)
        if open_time <= past.lost_ns < close_time:
            flags |= LOST
        record.revision = 0
        record.reason = reason
        record.flags = flags
        record.lost = 0
        judgement = self.judge(spec, symbol_id, record)
        take_judgement(record, judgement)
        self.flatten(record, self.records[slot.newest].bar.close, record.status)
        self.issue(spec, symbol_id, record, row)
        slot.unproven |= (flags & UNPROVEN) != 0
        self.link(spec, symbol_id, slot.newest, r, -1)
        self.evict(spec, symbol_id)

    # Without a trade.

    def close_until(self, int64_t time_ns, int reason):
        cdef uint8_t flags = UNPROVEN | (DOWN if reason == BY_GAP else 0)
        cdef int64_t open_time, close_time
        cdef Py_ssize_t i
        cdef int j, k, t, s
        self.check_unused()
        if not 0 <= reason <= NOT_CLOSED:
            raise ValueError(f"reason {reason} is outside 0 to {NOT_CLOSED}")
        if time_ns < self.next_close_ns:
            return _NO_ROWS
        self.row_count = 0
        self.next_close_ns = HIGHEST
        for i in range(self.appeared_count):
            s = self.appeared[i]
            for t in range(self.tree_count):
                self.event_ns = self.event_time(t, s)
                for j in range(self.trees[t].start, self.trees[t].stop):
                    k = self.order[j]
                    if self.is_open(k, s) and self.slots[k][s].bar.close_time <= time_ns:
                        self.close(k, s, i, reason, flags)
                    if self.is_open(k, s):
                        self.next_close_ns = min(self.next_close_ns, self.slots[k][s].bar.close_time)
                        continue
                    self.pass_time(k, s, time_ns, reason, UNPROVEN, i)
                    if self.next_empty(k, s, &open_time, &close_time):
                        self.next_close_ns = min(self.next_close_ns, close_time)
        return self.take(True)

    def flush(self, symbol_id=None):
        self.check_unused()
        self.row_count = 0
        self.end_bars(symbol_id, 0)
        return self.take(True)

    cdef int end_bars(self, object symbol_id, Py_ssize_t behind) except -1:
        # Those of one symbol, or of all; they are issued behind so many rows of a batch.
        cdef Py_ssize_t i
        cdef int j, k, t
        for i in range(self.appeared_count):
            if symbol_id is not None and self.appeared[i] != symbol_id:
                continue
            for t in range(self.tree_count):
                self.event_ns = self.event_time(t, self.appeared[i])
                for j in range(self.trees[t].start, self.trees[t].stop):
                    if self.is_open(self.order[j], self.appeared[i]):
                        self.close(self.order[j], self.appeared[i], behind + i, BY_END, END)
                    self.slots[self.order[j]][self.appeared[i]].flags = END     # until its next trade
            for k in range(self.width):
                if self.rules[k].kind > MONTHS and self.is_open(k, self.appeared[i]):
                    self.close(k, self.appeared[i], behind + i, BY_END, END)
        return 0

    def current(self, int symbol_id, int spec):
        cdef Record record
        cdef Judgement judgement
        cdef const Slot *slot
        self.check_unused()
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
        record.flags = slot.flags | self.without_proof(spec, symbol_id, slot.bar.close_time, UNPROVEN)
        if self.rules[spec].kind > MONTHS:
            record.bar.open_time, record.bar.close_time = record.bar.first_time, record.bar.last_time
        elif record.bar.open_time <= self.pasts[spec][symbol_id].lost_ns < record.bar.close_time:
            record.flags |= LOST
        record.lost = 0
        judgement = self.judge(spec, symbol_id, &record)
        take_judgement(&record, judgement)
        self.issue(spec, symbol_id, &record, 0)
        return self.take()

    def feed_down(self, int64_t time_ns):
        self.check_unused()
        if self.down_since_ns < HIGHEST and self.down_until_ns == HIGHEST:
            return
        self.down_since_ns = max(EARLIEST_NS, min(time_ns, LATEST_NS))    # no trade is beyond
        self.down_until_ns = HIGHEST
        self.next_close_ns = LOWEST     # quiet symbols have intervals to be issued now

    def feed_up(self, int64_t time_ns):
        cdef Slot *slot
        cdef Py_ssize_t i
        cdef int k
        self.check_unused()
        if self.down_until_ns != HIGHEST:
            return
        self.down_until_ns = max(time_ns, self.down_since_ns + 1)
        for i in range(self.appeared_count):
            for k in range(self.width):
                slot = &self.slots[k][self.appeared[i]]
                if self.rules[k].kind > MONTHS:
                    slot.broken |= not self.by_id
                elif self.is_open(k, self.appeared[i]) and self.is_down_in(slot.bar.open_time, slot.bar.close_time):
                    slot.flags |= DOWN

    cpdef int advance_watermark(self, int64_t time_ns) except -1:
        # One beyond every valid trade time says no more than that.
        self.check_unused()
        self.watermark_ns = max(self.watermark_ns, min(time_ns, LATEST_NS))
        return 0

    def note_lost(self, int symbol_id, int64_t time_ns):
        cdef Slot *slot
        cdef Past *past
        cdef int32_t r
        cdef int k
        self.check_unused()
        if not 0 <= symbol_id < self.instruments.count:
            raise IndexError(f"symbol id {symbol_id} is outside the {self.instruments.count}")
        self.settle()
        self.blank = False
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

    # Bars in which the stream began, and trades before it.

    def beginning(self, int symbol_id, int64_t longest_ns):
        cdef const Past *past
        cdef int32_t r
        cdef int k
        cdef bint partial
        self.check_unused()
        if not self.proof or self.sequenced or not 0 <= symbol_id < self.symbols:
            return []
        opened = set()
        line = self.ledger.lines[symbol_id]
        for k in range(self.width):
            past = &self.pasts[k][symbol_id]
            if self.rules[k].kind > MONTHS or past.start_ns == HIGHEST or line.expected < 0 or line.start_ns - past.start_ns > longest_ns:
                continue
            partial = self.is_open(k, symbol_id) and self.slots[k][symbol_id].flags & START
            r = self.slots[k][symbol_id].oldest
            while r >= 0 and not partial:
                partial = self.records[r].flags & START and not self.records[r].flags & END
                r = self.records[r].next
            if partial:
                opened.add(past.start_ns)
        return [(line.start, line.start_ns, open_time) for open_time in sorted(opened)]

    def reach_back(self, int symbol_id, int64_t trade_id, int64_t time_ns):
        cdef Slot *slot
        cdef Past *past
        cdef int32_t r
        cdef int64_t until
        cdef int k
        self.check_unused()
        if not self.proof or self.sequenced or not 0 <= symbol_id < self.symbols:
            return self.take()
        if not (0 <= trade_id < HIGHEST and EARLIEST_NS <= time_ns <= LATEST_NS):
            raise InvalidTickError(
                f"{self.instruments.label(symbol_id)}: no trade has the id {trade_id} and the time {time_ns} ns")
        self.settle()
        self.row_count = 0
        self.note_safe(symbol_id)
        until = self.ledger.lines[symbol_id].start_ns
        if time_ns > until or not self.ledger.reach_back(symbol_id, trade_id, time_ns):
            return self.take()
        for k in range(self.width):
            slot, past = &self.slots[k][symbol_id], &self.pasts[k][symbol_id]
            if self.rules[k].kind > MONTHS or past.start_ns <= time_ns:
                continue
            past.start_ns = time_ns + 1
            if self.is_open(k, symbol_id) and slot.bar.open_time > time_ns and slot.flags & START:
                slot.flags = (slot.flags & ~START) | FILLED
            r = slot.oldest
            while r >= 0:
                if self.records[r].bar.open_time > time_ns and self.records[r].flags & START:
                    self.records[r].flags = (self.records[r].flags & ~START) | FILLED
                r = self.records[r].next
            if self.ledger.touched.first > self.ledger.touched.last:
                self.rejudge(k, symbol_id, time_ns, until, 0)
        return self.take()

    def leave_out(self, int symbol_id, ranges not None):
        cdef int64_t first, last, since = HIGHEST, until = LOWEST
        cdef int k
        self.check_unused()
        if not self.by_id or self.sequenced or not 0 <= symbol_id < self.symbols:
            return self.take()
        given = [(int(a), int(b)) for a, b in ranges]
        for a, b in given:
            if not 0 <= a <= b < HIGHEST:
                raise InvalidTickError(f"{self.instruments.label(symbol_id)}: there are no ids from {a} to {b}")
        self.settle()
        self.row_count = 0
        for first, last in given:
            if self.ledger.leave_out(symbol_id, first, last):
                since, until = min(since, self.ledger.touched.since_ns), max(until, self.ledger.touched.until_ns)
        for k in range(self.width):
            if since <= until and self.rules[k].kind <= MONTHS:
                self.rejudge(k, symbol_id, since, until, 0)
        return self.take()

    cdef void note_safe(self, int symbol_id) noexcept nogil:
        # No bar that closes later than this was let go.
        cdef int t
        cdef int64_t event_ns
        self.ledger.safe_ns = LOWEST
        for t in range(self.tree_count):
            event_ns = self.event_time(t, symbol_id)
            if event_ns > LOWEST + self.lateness_ns:
                self.ledger.safe_ns = max(self.ledger.safe_ns, event_ns - self.lateness_ns)
