"""Intake: takes the trades of a wakeup to the kernel, in compiled code; and Feed, the wakeups of one connection.

    messages -+-> TradeScanner of the feed -+-> TickBatch -> Intake -> kernel -> bars
              +-> MessageReader ------------+                  |
                                                               +-> clock, delays, watermarks

A wakeup is everything that one read of a socket has brought. It ends in one way, `Intake.close`: the last message sets
the event time of its connection, the trades go to the kernel, and the watermark closes bars of the symbols that the connection
carries, no others. Where the scanner took every message, and there is neither a bar to issue nor a new hole or symbol,
that is all: `Feed.finish` returns True, and no object was made. In all other cases `Session.receive` is called, which hands out
what `close` has left.

What the feeds of a session share: the batch, the instruments, the keys seen before; the exchange's clock and the grace, which all
of them teach. Where no feed was opened, `everything` stands for all connections, and carries all symbols.

Units: times int64 nanoseconds.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from fastbars.clocks cimport wall_ns
from fastbars.entry cimport TradeEntry, entry_of, fold_live, pass_watermark
from fastbars.kernel.arbiter cimport Arbiter
from fastbars.kernel.batch cimport TickBatch, begin
from fastbars.kernel.scaled cimport LOWEST
from fastbars.live.clock cimport ExchangeClock, TradeDelays, difference, exchange_time
from fastbars.wire.scanner cimport TradeScanner
from fastbars.wire.wakeup cimport compiled_ending

cdef int64_t WALL_EVERY_NS = 100_000_000

MOST_FEEDS = 4096


@cython.final
cdef class Intake:
    cdef readonly ExchangeClock clock
    cdef readonly TradeDelays delays
    cdef readonly TickBatch batch
    cdef readonly object buffer     # a BarBuffer
    cdef TradeEntry entry           # that of the buffer
    cdef readonly Arbiter arbiter   # of redundant lines
    cdef readonly Feeds feeds
    cdef object _on_leap
    cdef object _on_symbols
    cdef bint closes                # watermarks close bars
    cdef list issued                # bars not handed out yet
    cdef bint interrupted           # Python has read a message of this wakeup, whose result must be handed out
    cdef int64_t series             # how often ids had begun anew, as far as the arbiter knows
    cdef int64_t begun              # holes and symbols that the healer knows of
    cdef Py_ssize_t placed          # symbols that `_on_symbols` knows of
    cdef public object tap          # called with each batch behind the kernel; None: nobody wants them

    def __cinit__(self, on_leap, *, bint closes=True, int64_t grace_ns=-1, on_symbols=None):
        self.clock = ExchangeClock()
        self.delays = TradeDelays(grace_ns)
        self.issued = []
        self.feeds = Feeds(self)
        self._on_leap = on_leap
        self._on_symbols = on_symbols
        self.closes = closes

    def begin(self, buffer not None, TickBatch batch not None, new_scanner=None, Arbiter arbiter=None):
        self.entry = entry_of(buffer)
        self.buffer = buffer
        self.batch = batch
        self.arbiter = arbiter
        self.feeds.take_scanners(new_scanner)

    @property
    def kernel(self):
        return None if self.buffer is None else self.entry.kernel

    @property
    def scanner(self):
        return self.feeds.everything.scanner

    @scanner.setter
    def scanner(self, scanner):
        self.feeds.everything.scanner = scanner

    @property
    def event_time_ns(self):
        return None if self.feeds.event_ns == LOWEST else self.feeds.event_ns

    @event_time_ns.setter
    def event_time_ns(self, time_ns):
        self.feeds.event_ns = self.feeds.everything.event_ns = LOWEST if time_ns is None else time_ns

    @property
    def scanned(self):
        messages, size, trades, duplicates = self.feeds.scanned
        return messages, size, trades, duplicates + (0 if self.arbiter is None else self.arbiter.duplicates)

    # Wakeups.

    def interrupt(self):
        self.feeds.current.note_scanned()
        self.interrupted = True

    def note_sent(self, int64_t sent_ns):
        self.feeds.current.sent_ns = sent_ns

    def fold(self, int line, steady):
        if self.buffer is None:
            raise TypeError("Intake.begin was not called")
        self.fold_rows(line, 0 if steady is None else steady, steady is not None)

    def release(self, steady):
        # Releases rows that have waited long enough for another line (None: all) and returns their bars. Rows that no
        # scale fits together come in several batches.
        bars = []
        while self.arbiter is not None:
            batch = self.arbiter.flush() if steady is None else self.arbiter.expire(steady)
            bars += self.buffer.add_live(batch)
            if self.tap is not None:
                self.tap(batch)
            if not self.arbiter.deferred and not self.follow_series():
                self.follow_arbiter()
                break
        return bars

    def issue(self, list bars not None):
        self.issued += bars

    def end_wakeup(self, int64_t receive_time_ns, steady):
        cdef Feed feed = self.feeds.current
        self.clock.note_wall(receive_time_ns, steady)
        self.close(feed, 0 if steady is None else steady, steady is not None)
        self.interrupted = False
        issued, self.issued = self.issued, []
        return issued, feed.take_scanned()

    def note_new_holes(self):
        cdef int64_t before = self.begun
        self.begun = self.count_begun()
        return self.begun != before

    def place_symbols(self):
        # Tells of symbols that are new, so that they come to the groups of those that carry them.
        cdef Py_ssize_t before = self.placed
        if self.buffer is not None and self.batch.instruments.count != before:
            self.placed = self.batch.instruments.count
            if self._on_symbols is not None:
                self._on_symbols(before)

    cdef bint close(self, Feed feed, int64_t steady, bint is_live) except -1:
        # Ends a wakeup. Idempotent: `Session.receive` may call it again. True: there is something to hand out, or the
        # healer has to know.
        feed.note_scanned()
        if feed.sent_ns != LOWEST:
            self.note_event_time(feed, steady, is_live)
        if self.buffer is not None:
            self.fold_rows(feed.line, steady, is_live)
            if feed.event_ns != LOWEST and self.closes:
                self.pass_event_time(feed)
        return self.interrupted or len(self.issued) > 0 or self.count_begun() != self.begun

    cdef int note_event_time(self, Feed feed, int64_t steady, bint is_live) except -1:
        # The last message with a time counts for all that arrived with it.
        cdef int64_t time_ns = feed.sent_ns
        feed.sent_ns = LOWEST
        if is_live and self.clock.knows and self.clock.leaps(time_ns, exchange_time(self.clock, steady)):
            self._on_leap(time_ns, exchange_time(self.clock, steady))
            return 0
        feed.event_ns = max(feed.event_ns, time_ns)
        self.feeds.event_ns = max(self.feeds.event_ns, time_ns)
        if is_live:
            self.clock.observe(time_ns, steady)
        return 0

    cdef int pass_event_time(self, Feed feed) except -1:
        # For the symbols that it carries; and those of which nobody knows who does.
        # Another may be ahead: what a trade that was held kept open then is over too.
        cdef Py_ssize_t i
        cdef list bars
        cdef int32_t group
        cdef bint is_all = feed is self.feeds.everything
        for i in range(self.entry.kernel.table.groups.count if is_all else feed.group_count):
            group = <int32_t>i if is_all else feed.groups[i]
            if not 0 <= group < self.entry.kernel.table.groups.count:
                self.entry.kernel.check_group(group)
            bars = pass_watermark(
                self.buffer, self.entry, max(feed.event_ns, self.entry.kernel.table.groups.items[group].watermark_ns), group)
            if bars is not None:
                self.issued += bars
        return 0

    cdef int fold_rows(self, int line, int64_t steady, bint is_live) except -1:
        # Folds the batch in; of redundant lines only the rows that are next, the rest waits in the arbiter.
        cdef TickBatch batch = self.batch
        cdef list bars
        if self.batch.instruments.count != self.placed:
            self.place_symbols()
        if self.arbiter is not None and is_live:
            batch = self.arbiter.take(batch, line, steady)
        if is_live and batch.length and self.clock.knows:
            # The first trade of a wakeup, which has waited longest, stands for all of them.
            if self.delays.add(difference(exchange_time(self.clock, steady), batch.time_ns[0])):
                self.entry.grace_ns = self.delays.grace_ns
        while True:
            bars = fold_live(self.buffer, self.entry, batch)
            if bars is not None:
                self.issued += bars
            if self.tap is not None:
                self.tap(batch)
            if self.arbiter is None or not (self.arbiter.deferred or self.follow_series()):
                break
            batch = self.arbiter.expire(steady)
        if self.arbiter is not None:
            self.follow_arbiter()
        begin(self.batch)
        return 0

    cdef bint follow_series(self) except -1:
        # Where the ids of a symbol began anew the arbiter begins anew. True: it may hold trades of the series before.
        cdef int64_t before = self.series
        if not self.entry.kernel.by_id or self.entry.kernel.table.ids.renewed.begun == before:
            return False
        self.series = self.entry.kernel.table.ids.renewed.begun
        for symbol_id, _, _, expected, since_ns in self.entry.kernel.ledger.begun_since(before):
            self.arbiter.begin_anew(symbol_id, expected, since_ns)
        return self.arbiter.held > 0

    cdef int follow_arbiter(self) except -1:
        # Time does not pass for a symbol whose trades wait there for earlier ones.
        cdef set turned = self.arbiter.turned
        if turned:
            self.arbiter.turned = set()
            for s in turned:
                self.entry.kernel.hold(s, self.arbiter.holds(s))
        return 0

    cdef int64_t count_begun(self) noexcept:
        if self.buffer is None:
            return 0
        return self.batch.instruments.count + (self.entry.kernel.table.ids.opened if self.entry.kernel.by_id else 0)


@cython.final
cdef class Feeds:
    cdef Intake intake
    cdef readonly Feed everything   # all connections that were not opened as feeds
    cdef readonly dict opened       # number -> Feed
    cdef readonly Feed current      # whose wakeup is being read
    cdef object new_scanner
    cdef tuple ended                # what the scanners of closed feeds have taken
    cdef dict last_times            # number of a closed feed -> its event time
    cdef int64_t event_ns           # the latest event time of any; LOWEST before the first

    def __cinit__(self, Intake intake not None):
        self.intake = intake
        self.opened = {}
        self.ended = 0, 0, 0, 0
        self.last_times = {}
        self.event_ns = LOWEST
        self.everything = self.current = Feed(intake)

    def open(self, int number, int line, on_failure=None):
        cdef Feed feed
        if number in self.opened:
            raise ValueError(f"the feed {number} is open")
        if number < 0 or len(self.opened) >= MOST_FEEDS:
            raise ValueError(f"feed {number}: numbers are not negative, and {MOST_FEEDS} feeds are open at most")
        if line < 0 or (self.intake.arbiter is not None and line >= self.intake.arbiter.lines):
            raise ValueError(f"feed {number}: there is no line {line}")
        feed = Feed(self.intake, on_failure, number, line)
        if self.new_scanner is not None:
            feed.scanner = self.new_scanner()
        self.opened[number] = feed
        self.last_times.pop(number, None)
        return feed

    def close(self, Feed feed not None):
        if self.opened.get(feed.number) is not feed:
            return
        del self.opened[feed.number]
        self.ended = _added(self.ended, feed.scanned)
        if len(self.last_times) >= MOST_FEEDS:
            del self.last_times[next(iter(self.last_times))]
        self.last_times[feed.number] = feed.event_time_ns
        if self.current is feed:
            self.current = self.everything

    def begin_wakeup(self, int number, int line):
        self.current = self.opened.get(number, self.everything)
        if self.current is self.everything:
            self.current.line = line
        return self.current

    def event_time_of(self, int number):
        cdef Feed feed = self.opened.get(number)
        return self.last_times.get(number) if feed is None else feed.event_time_ns

    def take_scanners(self, new_scanner):
        self.new_scanner = new_scanner
        for feed in (self.everything, *self.opened.values()):
            (<Feed>feed).scanner = None if new_scanner is None else new_scanner()

    def forget(self, symbol_ids):
        # Their spellings: the scanners ask for them again.
        ids = set(symbol_ids)
        for feed in (self.everything, *self.opened.values()):
            if (<Feed>feed).scanner is not None:
                (<Feed>feed).scanner.forget(ids)

    @property
    def scanned(self):
        counts = _added(self.ended, self.everything.scanned)
        for feed in self.opened.values():
            counts = _added(counts, (<Feed>feed).scanned)
        return counts


@cython.final
cdef class Feed:
    cdef Intake intake
    cdef object _on_failure
    cdef readonly int number
    cdef readonly int line
    cdef public TradeScanner scanner
    cdef int32_t *groups            # of the kernel: those of the symbols that it carries
    cdef Py_ssize_t group_count
    cdef int64_t event_ns           # the latest event time; LOWEST before the first
    cdef int64_t sent_ns            # when the last message of this wakeup was sent that says so; LOWEST: none did
    cdef int64_t counted            # messages of the scanner's that were counted as data
    cdef bint is_proven             # it has brought data, as the session must learn from `receive` once
    cdef readonly int64_t data_messages

    def __cinit__(self, Intake intake not None, on_failure=None, int number=-1, int line=0):
        self.intake = intake
        self._on_failure = on_failure
        self.number = number
        self.line = line
        self.event_ns = self.sent_ns = LOWEST
        self.groups = NULL
        self.carry([0])

    def __dealloc__(self):
        free(self.groups)

    def carry(self, groups not None):
        cdef list given = [int(group) for group in groups]
        cdef Py_ssize_t i
        cdef int32_t *own = <int32_t *>malloc((len(given) + 1) * sizeof(int32_t))
        if own is NULL:
            raise MemoryError
        try:
            for i in range(len(given)):
                own[i] = given[i]
        except BaseException:
            free(own)
            raise
        free(self.groups)
        self.groups, self.group_count = own, len(given)

    @property
    def event_time_ns(self):
        return None if self.event_ns == LOWEST else self.event_ns

    @property
    def scanned(self):
        cdef TradeScanner scanner = self.scanner
        if scanner is None:
            return 0, 0, 0, 0
        return scanner.message_count, scanner.byte_count, scanner.trade_count, scanner.duplicate_count

    def note_data(self, int64_t messages):
        self.data_messages += messages
        self.is_proven = self.is_proven or messages > 0

    @property
    def ending(self):
        return compiled_ending(self, finish_feed)

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

    cpdef bint finish(self, int64_t steady_ns) except -1:
        cdef Intake intake = self.intake
        if not self.is_proven:
            return False
        try:
            if intake.close(self, steady_ns, True):
                return False
            if not intake.clock.has_met or difference(steady_ns, intake.clock.met_steady_ns) >= WALL_EVERY_NS:
                intake.clock.meet(wall_ns(), steady_ns)  # for the statistics alone
        except Exception as error:  # nothing above it could: it logs and stops loudly
            self.is_proven = False
            if self._on_failure is not None:
                self._on_failure(error)
            return False
        self.data_messages += self.take_scanned()
        return True


cdef bint finish_feed(object feed, int64_t steady_ns) except -1:
    return (<Feed>feed).finish(steady_ns)


cdef tuple _added(tuple counts, tuple others):
    return tuple([one + other for one, other in zip(counts, others)])
