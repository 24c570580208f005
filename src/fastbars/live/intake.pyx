"""Intake: takes the trades of a wakeup to the kernel, in compiled code; and Feed, the wakeups of one connection.

    messages -+-> TradeScanner --+-> TickBatch -> Intake -> kernel -> bars
              +-> MessageReader -+                  |
                                                    +-> clock, delays, watermark

A wakeup is everything that one read of a socket has brought. It ends in one way, `Intake.close`: the last message sets
the event time, the trades go to the kernel, and the watermark closes bars. Where the scanner took every message, and there is neither
a bar to issue nor a new hole or symbol, that is all: `Feed.finish` returns True, and no object was made. In all
other cases `Session.receive` is called, which hands out what `close` has left.

Units: times int64 nanoseconds.
"""

cimport cython
from libc.stdint cimport int64_t

from fastbars.clocks cimport wall_ns
from fastbars.entry cimport TradeEntry, entry_of, fold_live, pass_watermark
from fastbars.kernel.batch cimport TickBatch, begin
from fastbars.kernel.scaled cimport LOWEST
from fastbars.live.clock cimport ExchangeClock, TradeDelays, difference
from fastbars.wire.scanner cimport TradeScanner
from fastbars.wire.wakeup cimport compiled_ending

cdef int64_t WALL_EVERY_NS = 100_000_000


@cython.final
cdef class Intake:
    cdef readonly ExchangeClock clock
    cdef readonly TradeDelays delays
    cdef public TradeScanner scanner
    cdef readonly TickBatch batch
    cdef readonly object buffer  # a BarBuffer
    cdef TradeEntry entry        # that of the buffer
    cdef readonly object arbiter    # of redundant lines
    cdef object _on_leap
    cdef bint closes                # the watermark closes bars
    cdef list issued                # bars not handed out yet
    cdef int64_t event_ns           # the latest event time; LOWEST before the first
    cdef int64_t sent_ns            # when the last message of this wakeup was sent that says so; LOWEST: none did
    cdef bint interrupted           # Python has read a message of this wakeup, whose result must be handed out
    cdef int64_t begun              # holes and symbols that the healer knows of
    cdef int64_t counted            # messages of the scanner's that were counted as data

    def __cinit__(self, on_leap, *, bint closes=True, int64_t grace_ns=-1):
        self.clock = ExchangeClock()
        self.delays = TradeDelays(grace_ns)
        self.issued = []
        self._on_leap = on_leap
        self.closes = closes
        self.event_ns = self.sent_ns = LOWEST

    def begin(self, buffer not None, TickBatch batch not None, TradeScanner scanner=None, arbiter=None):
        self.entry = entry_of(buffer)
        self.buffer = buffer
        self.batch = batch
        self.scanner = scanner
        self.arbiter = arbiter

    @property
    def event_time_ns(self):
        return None if self.event_ns == LOWEST else self.event_ns

    @event_time_ns.setter
    def event_time_ns(self, time_ns):
        self.event_ns = LOWEST if time_ns is None else time_ns

    @property
    def holds(self):
        return self.is_holding()

    @property
    def scanned(self):
        cdef TradeScanner scanner = self.scanner
        cdef int64_t duplicates = 0 if self.arbiter is None else self.arbiter.duplicates
        if scanner is None:
            return 0, 0, 0, duplicates
        return (
            scanner.message_count, scanner.byte_count, scanner.trade_count, scanner.duplicate_count + duplicates)

    def interrupt(self):
        self.note_scanned()
        self.interrupted = True

    def note_sent(self, int64_t sent_ns):
        self.sent_ns = sent_ns

    def fold(self, int line, steady):
        if self.buffer is None:
            raise TypeError("Intake.begin was not called")
        self.fold_rows(line, 0 if steady is None else steady, steady is not None)

    def release(self, steady):
        # Releases rows that have waited long enough for another line (None: all) and returns their bars. Rows that no
        # scale fits together come in several batches.
        bars = []
        while True:
            bars += self.buffer.add_live(self.arbiter.flush() if steady is None else self.arbiter.expire(steady))
            if not self.arbiter.deferred:
                return bars

    def issue(self, list bars not None):
        self.issued += bars

    def end_wakeup(self, int64_t receive_time_ns, steady, int line):
        self.clock.note_wall(receive_time_ns, steady)
        self.close(line, 0 if steady is None else steady, steady is not None)
        self.interrupted = False
        issued, self.issued = self.issued, []
        return issued, self.take_scanned()

    def note_new_holes(self):
        cdef int64_t before = self.begun
        self.begun = self.count_begun()
        return self.begun != before

    cdef bint close(self, int line, int64_t steady, bint is_live) except -1:
        # Ends a wakeup. Idempotent: `Session.receive` may call it again. True: there is something to hand out, or the
        # healer has to know.
        cdef list bars
        self.note_scanned()
        if self.sent_ns != LOWEST:
            self.note_event_time(self.sent_ns, steady, is_live)
            self.sent_ns = LOWEST
        if self.buffer is not None:
            self.fold_rows(line, steady, is_live)
            if self.event_ns != LOWEST and self.closes and not self.is_holding():
                bars = pass_watermark(self.buffer, self.entry, self.event_ns, 0)
                if bars is not None:
                    self.issued += bars
        return self.interrupted or len(self.issued) > 0 or self.count_begun() != self.begun

    cdef void note_scanned(self) noexcept:
        # The last message of a wakeup counts, whether scanner or Python read it: so this is called before Python reads
        # one, and at the end.
        cdef TradeScanner scanner = self.scanner
        if scanner is not None and scanner.has_event:
            scanner.has_event = False
            self.sent_ns = scanner.event_ns

    cdef int64_t take_scanned(self) noexcept:
        # Messages that the scanner has taken since the last time.
        cdef int64_t before = self.counted
        self.counted = 0 if self.scanner is None else self.scanner.message_count
        return max(<int64_t>0, self.counted - before)

    cdef int note_event_time(self, int64_t time_ns, int64_t steady, bint is_live) except -1:
        # The last message with a time counts for all that arrived with it.
        if is_live and self.clock.knows and self.clock.leaps(time_ns, self.clock.at(steady)):
            self._on_leap(time_ns, self.clock.at(steady))
            return 0
        self.event_ns = max(self.event_ns, time_ns)
        if is_live:
            self.clock.observe(time_ns, steady)
        return 0

    cdef int fold_rows(self, int line, int64_t steady, bint is_live) except -1:
        # Folds the batch in; of redundant lines only the rows that are next, the rest waits in the arbiter.
        cdef TickBatch batch = self.batch
        cdef list bars
        if self.arbiter is not None and is_live:
            batch = self.arbiter.take(batch, line, steady)
            if batch is None:
                raise TypeError("the arbiter returned no batch")
        if is_live and batch.length and self.clock.knows:
            # The first trade of a wakeup, which has waited longest, stands for all of them.
            if self.delays.add(difference(self.clock.at(steady), batch.time_ns[0])):
                self.entry.grace_ns = self.delays.grace_ns
        while True:
            bars = fold_live(self.buffer, self.entry, batch)
            if bars is not None:
                self.issued += bars
            if self.arbiter is None or not self.arbiter.deferred:
                break
            batch = self.arbiter.expire(steady)
        begin(self.batch)
        return 0

    cdef int64_t count_begun(self) noexcept:
        if self.buffer is None:
            return 0
        return self.batch.instruments.count + (self.entry.kernel.table.ids.opened if self.entry.kernel.by_id else 0)

    cdef bint is_holding(self) noexcept:
        # Trades wait in the arbiter for earlier ones: no bar may be closed before they are folded in.
        return self.arbiter is not None and self.arbiter.held > 0


@cython.final
cdef class Feed:
    cdef Intake intake
    cdef object _on_failure
    cdef bint is_proven         # it has brought data, as the session must learn from `receive` once
    cdef readonly int64_t data_messages

    def __cinit__(self, Intake intake not None, on_failure):
        self.intake = intake
        self._on_failure = on_failure

    def note_data(self, int64_t messages):
        self.data_messages += messages
        self.is_proven = self.is_proven or messages > 0

    @property
    def ending(self):
        return compiled_ending(self, finish_feed)

    cpdef bint finish(self, int64_t steady_ns) except -1:
        cdef Intake intake = self.intake
        # Only `Session.receive` is given the number of the line.
        if not self.is_proven or intake.arbiter is not None:
            return False
        try:
            if intake.close(0, steady_ns, True):
                return False
            if not intake.clock.has_met or difference(steady_ns, intake.clock.met_steady_ns) >= WALL_EVERY_NS:
                intake.clock.meet(wall_ns(), steady_ns)  # for the statistics alone
        except Exception as error:  # nothing above it could: it logs and stops loudly
            self.is_proven = False
            self._on_failure(error)
            return False
        self.data_messages += intake.take_scanned()
        return True


cdef bint finish_feed(object feed, int64_t steady_ns) except -1:
    return (<Feed>feed).finish(steady_ns)
