from collections.abc import Callable, Iterable
from typing import Self, final

from fastbars._agg import BarKernel
from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.kernel.arbiter import Arbiter
from fastbars.kernel.batch import TickBatch
from fastbars.live.clock import ExchangeClock, TradeDelays
from fastbars.wire.scanner import TradeScanner
from fastbars.wire.wakeup import Ending

MOST_FEEDS: int

@final
class Intake:
    """Takes the trades of each wakeup of a session to the kernel.

    Args:
        on_leap: called with an event time that is garbage, and the exchange's time as estimated.
        closes: watermarks close bars.
        grace_ns: how long watermark and clock wait; negative: learned from the delays.
        on_symbols: called where symbols are new to the kernel, with the id of the first.

    Attributes:
        clock: the exchange's, as all feeds show it.
        delays: of trades, on all feeds.
        buffer: makes the bars; None before `begin`.
        batch: where the trades of a wakeup go; there from `begin` on.
        arbiter: of redundant lines; None: there is one line, or ids do not rise.
        feeds: the connections.
        scanner: that of `feeds.everything`.
        event_time_ns: the latest event time of any feed; None before the first. Setting it sets that of
            `feeds.everything` too.
        kernel: that of the buffer; None before `begin`.
        tap: called with each batch that was folded into the kernel, to be read at once; None: nobody wants them.
        scanned: messages that the scanners have taken, their bytes and trades; and trades dropped because another line
            had brought them, or their keys were seen before.
    """

    scanner: TradeScanner | None
    event_time_ns: int | None
    tap: Callable[[TickBatch], object] | None
    @property
    def clock(self) -> ExchangeClock: ...
    @property
    def delays(self) -> TradeDelays: ...
    @property
    def buffer(self) -> BarBuffer | None: ...
    @property
    def batch(self) -> TickBatch: ...
    @property
    def arbiter(self) -> Arbiter | None: ...
    @property
    def feeds(self) -> Feeds: ...
    @property
    def kernel(self) -> BarKernel | None: ...
    @property
    def scanned(self) -> tuple[int, int, int, int]: ...
    def __new__(
        cls,
        on_leap: Callable[[int, int], object],
        *,
        closes: bool = True,
        grace_ns: int = -1,
        on_symbols: Callable[[int], object] | None = None,
    ) -> Self: ...
    def begin(
        self,
        buffer: BarBuffer,
        batch: TickBatch,
        new_scanner: Callable[[], TradeScanner] | None = None,
        arbiter: Arbiter | None = None,
    ) -> None:
        """Set the parts, which are known with the channel that bars are made from.

        Args:
            buffer: makes the bars.
            batch: where scanners and session put the trades of a wakeup.
            new_scanner: makes what takes a feed's trade messages before the session; None: nothing does.
            arbiter: of redundant lines.
        """

    def interrupt(self) -> None:
        """Python is about to read a message that the scanner did not take."""

    def note_sent(self, sent_ns: int) -> None:
        """Note when that message was sent, ns; the last one of a wakeup counts."""

    def fold(self, line: int, steady: int | None) -> None:
        """Fold the trades so far into the kernel."""

    def release(self, steady: int | None) -> list[OHLCVBar]:
        """Fold in the trades that waited long enough for another line (None: all of them); returns their bars."""

    def issue(self, bars: list[OHLCVBar]) -> None:
        """Add bars to those that `end_wakeup` will return."""

    def end_wakeup(self, receive_time_ns: int, steady: int | None) -> tuple[list[OHLCVBar], int]:
        """End a wakeup of `feeds.current`: trades go to the kernel, event time to the clock, the watermark closes bars.

        Args:
            receive_time_ns: of the local wall clock.
            steady: of a steady clock, ns; None in a replay of a plain tape.

        Returns:
            All bars issued since the last call, and how many messages the scanner of the feed has taken since.
        """

    def note_new_holes(self) -> bool:
        """Whether holes were opened, or symbols appeared, since the last call."""

    def place_symbols(self) -> None:
        """Call `on_symbols`, where symbols are new."""

@final
class Feeds:
    """The feeds of one session.

    Args:
        intake: where their trades go.

    Attributes:
        opened: those that are open, by their numbers.
        everything: stands for all connections without a feed of their own, and carries all symbols.
        current: whose wakeup is being read.
        scanned: messages that the scanners have taken, their bytes and trades, and trades whose keys were seen before.
    """

    @property
    def opened(self) -> dict[int, Feed]: ...
    @property
    def everything(self) -> Feed: ...
    @property
    def current(self) -> Feed: ...
    @property
    def scanned(self) -> tuple[int, int, int, int]: ...
    def __new__(cls, intake: Intake) -> Self: ...
    def open(self, number: int, line: int, on_failure: Callable[[Exception], object] | None = None) -> Feed:
        """Make the feed of a connection. Raises ValueError: the number is in use, or too many are open."""

    def close(self, feed: Feed) -> None:
        """Its connection brings nothing any more; what it has counted stays. Idempotent."""

    def begin_wakeup(self, number: int, line: int) -> Feed:
        """Let Python read messages of a connection; returns its feed, or `everything`, which is the line given then."""

    def event_time_of(self, number: int) -> int | None:
        """The latest event time of a feed, ns, also of one that is closed; None before the first."""

    def take_scanners(self, new_scanner: Callable[[], TradeScanner] | None) -> None:
        """Give each feed a scanner of its own; None: none."""

    def forget(self, symbol_ids: Iterable[int]) -> None:
        """Let the scanners ask again what is meant by the names of these symbols."""

@final
class Feed:
    """The wakeups of one connection; made by `Feeds.open`.

    Args:
        intake: where its trades go.
        on_failure: called with an internal error.
        number: of the connection.
        line: which of redundant lines it is.

    Attributes:
        scanner: takes trade messages before the session; None: there is none.
        event_time_ns: the latest event time of the connection, ns; None before the first.
        data_messages: messages of the connection that were data and could be read.
        scanned: messages that the scanner has taken, their bytes and trades, and trades whose keys were seen before.
    """

    scanner: TradeScanner | None
    @property
    def number(self) -> int: ...
    @property
    def line(self) -> int: ...
    @property
    def event_time_ns(self) -> int | None: ...
    @property
    def data_messages(self) -> int: ...
    @property
    def scanned(self) -> tuple[int, int, int, int]: ...
    @property
    def ending(self) -> Ending:
        """`finish`, in the form that a connection calls without a Python frame."""

    def __new__(
        cls, intake: Intake, on_failure: Callable[[Exception], object] | None = None, number: int = -1, line: int = 0
    ) -> Self: ...
    def carry(self, groups: Iterable[int]) -> None:
        """Set the groups of the kernel whose watermark is the event time of this connection."""

    def note_data(self, messages: int) -> None:
        """Count the data messages of a wakeup that the session ended; after the first, `finish` may end wakeups."""

    def finish(self, steady_ns: int) -> bool:
        """End a wakeup of which the scanner took every message; False: the session has to, by `receive`.

        It has to where a bar was issued or a trade came late, where a hole was opened or a symbol is new, and until the
        connection has brought its first data.
        """
