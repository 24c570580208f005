"""Intake: how a session ends a wakeup, in compiled code; and Feed, the same for one line whose wakeup was an ordinary one.

    messages -+-> TradeScanner -+-> TickBatch -> Intake -> kernel -> bars
              +-> Session.take -+                  |
                                                   +-> clock, delays, watermark

Where the scanner took every message, nothing was issued and nothing has to be healed, the whole wakeup is one call from
the connection, and no object is made. In all other cases the session has the last word.

Units: times int64 nanoseconds.
"""

cimport cython
from libc.stdint cimport int64_t

from fastbars.clocks cimport wall_ns
from fastbars.kernel.batch cimport TickBatch
from fastbars.entry cimport TradeEntry
from fastbars.live.clock cimport ExchangeClock, TradeDelays, difference
from fastbars.wire.scanner cimport TradeScanner
from fastbars.wire.wakeup cimport Ending

cdef int64_t WALL_EVERY_NS = 100_000_000


@cython.final
cdef class Intake:
    cdef readonly ExchangeClock clock
    cdef readonly TradeDelays delays
    cdef public TradeScanner scanner
    cdef TickBatch batch
    cdef TradeEntry buffer
    cdef object arbiter         # of redundant lines
    cdef object _on_leap
    cdef bint closes            # the watermark closes bars
    cdef bint learns            # the grace follows the delays
    cdef int lines
    cdef list issued            # since the session last asked
    cdef bint has_event_time
    cdef int64_t event_ns       # the latest of the connection
    cdef bint was_sent          # a message of this wakeup says when
    cdef int64_t sent_ns
    cdef bint interrupted       # a message of this wakeup was not the scanner's
    cdef int64_t begun          # holes and symbols that the session has seen
    cdef readonly int64_t quiet_messages
    # What the scanner has taken and the session has not counted yet.
    cdef int64_t messages
    cdef int64_t bytes
    cdef int64_t trades
    cdef int64_t duplicates

    def __cinit__(self, on_leap, *, bint closes=True, bint learns=False, int lines=1):
        if lines < 1:
            raise ValueError(f"lines must be positive, got {lines}")
        self.clock = ExchangeClock()
        self.delays = TradeDelays()
        self.issued = []
        self._on_leap = on_leap
        self.closes = closes
        self.learns = learns
        self.lines = lines

    def begin(self, TradeEntry buffer not None, TickBatch batch not None, TradeScanner scanner=None, arbiter=None):
        buffer.check_made()
        self.buffer = buffer
        self.batch = batch
        self.scanner = scanner
        self.arbiter = arbiter

    @property
    def event_time_ns(self):
        return self.event_ns if self.has_event_time else None

    @event_time_ns.setter
    def event_time_ns(self, time_ns):
        self.has_event_time = time_ns is not None
        self.event_ns = time_ns if self.has_event_time else 0

    @property
    def holds(self):
        return self.is_holding()

    def interrupt(self):
        self.note_scanned()
        self.interrupted = True

    def note_sent(self, int64_t sent_ns):
        self.was_sent = True
        self.sent_ns = sent_ns

    def take_counts(self):
        self.note_scanned()
        counts = self.messages, self.bytes, self.trades, self.duplicates
        self.messages = self.bytes = self.trades = self.duplicates = 0
        return counts

    def fold(self, int line, steady):
        if self.buffer is None:
            raise TypeError("Intake.begin was not called")
        self.fold_rows(line, 0 if steady is None else steady, steady is not None)

    def issue(self, list bars not None):
        self.issued += bars

    def finish(self, int64_t receive_time_ns, steady, int line):
        self.clock.note_wall(receive_time_ns, steady)
        self.end(0 if steady is None else steady, steady is not None, line)
        self.interrupted = False
        self.begun = self.count_begun()
        issued, self.issued = self.issued, []
        return issued

    cdef int64_t note_scanned(self) noexcept:
        # What the scanner has taken since the last time; returns how many messages.
        cdef TradeScanner scanner = self.scanner
        cdef int64_t messages
        if scanner is None or scanner.message_count == 0:
            return 0
        messages = scanner.message_count
        self.messages += messages
        self.bytes += scanner.byte_count
        self.trades += scanner.trade_count
        self.duplicates += scanner.duplicate_count
        scanner.message_count = scanner.byte_count = scanner.trade_count = scanner.duplicate_count = 0
        if scanner.has_event:
            scanner.has_event = False
            self.was_sent = True
            self.sent_ns = scanner.event_ns
        return messages

    cdef int end(self, int64_t steady, bint is_live, int line) except -1:
        cdef list bars
        self.note_scanned()
        if self.was_sent:
            self.was_sent = False
            self.note_event_time(self.sent_ns, steady, is_live)
        if self.buffer is None:
            return 0
        self.fold_rows(line, steady, is_live)
        if self.has_event_time and self.closes and not self.is_holding():
            bars = self.buffer.pass_watermark(self.event_ns)
            if bars is not None:
                self.issued += bars
        return 0

    cdef int note_event_time(self, int64_t time_ns, int64_t steady, bint is_live) except -1:
        # The last message that says when it was sent stands for all that arrived with it.
        if is_live and self.clock.knows and self.clock.leaps(time_ns, self.clock.at(steady)):
            self._on_leap(time_ns, self.clock.at(steady))
            return 0
        if not self.has_event_time or time_ns > self.event_ns:
            self.has_event_time = True
            self.event_ns = time_ns
        if is_live:
            self.clock.observe(time_ns, steady)
        return 0

    cdef int fold_rows(self, int line, int64_t steady, bint is_live) except -1:
        # The batch goes to the kernel; of redundant lines what is next, and the rest waits.
        cdef TickBatch batch = self.batch
        cdef list bars
        cdef int64_t before
        if self.arbiter is not None and is_live:
            before = self.arbiter.duplicates
            batch = self.arbiter.take(batch, line % self.lines, steady)
            if batch is None:
                raise TypeError("the arbiter returned no batch")
            self.duplicates += self.arbiter.duplicates - before
        if is_live and batch.length and self.clock.knows:
            # The first trade of a wakeup, which has waited longest, stands for all of them.
            if self.delays.add(difference(self.clock.at(steady), batch.time_ns[0])) and self.learns:
                self.buffer.grace_ns = self.delays.grace_ns
        bars = self.buffer.fold_live(batch)
        if bars is not None:
            self.issued += bars
        self.batch.length = 0
        return 0

    cdef int64_t count_begun(self) noexcept:
        # A new hole or symbol is something to heal.
        if self.buffer is None:
            return 0
        return self.batch.instruments.count + (self.buffer.kernel.ledger.opened if self.buffer.kernel.by_id else 0)

    cdef bint is_holding(self) noexcept:
        # Trades wait for those before them: nothing is closed over their heads.
        return self.arbiter is not None and self.arbiter.held > 0

    cdef bint finish_quietly(self, int64_t steady, int64_t *messages) except -1:
        # Ends an ordinary wakeup, of so many messages; False: the session has to.
        messages[0] = self.note_scanned()
        if self.interrupted or self.arbiter is not None:
            return False
        if messages[0] == 0:
            return True
        if not self.clock.has_met or difference(steady, self.clock.met_steady_ns) >= WALL_EVERY_NS:
            self.clock.meet(wall_ns(), steady)  # for the statistics alone
        self.end(steady, True, 0)
        if self.issued or self.count_begun() != self.begun:
            return False
        self.quiet_messages += messages[0]
        return True


@cython.final
cdef class Feed(Ending):
    cdef Intake intake
    cdef object _on_failure
    cdef public bint is_proven
    cdef readonly int64_t messages

    def __cinit__(self, Intake intake not None, on_failure):
        self.intake = intake
        self._on_failure = on_failure

    cpdef bint finish(self, int64_t steady_ns) except -1:
        cdef int64_t messages
        if not self.is_proven:
            return False
        try:
            if not self.intake.finish_quietly(steady_ns, &messages):
                return False
        except Exception as error:  # nothing above it could: it logs and stops loudly
            self.is_proven = False
            self._on_failure(error)
            return False
        self.messages += messages
        return True
