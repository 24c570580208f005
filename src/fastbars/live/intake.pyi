from collections.abc import Callable
from typing import Self, final

from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.kernel.arbiter import Arbiter
from fastbars.kernel.batch import TickBatch
from fastbars.live.clock import ExchangeClock, TradeDelays
from fastbars.wire.scanner import TradeScanner
from fastbars.wire.wakeup import Ending

@final
class Intake:
    """Takes the trades of each wakeup of a session to the kernel.

    Args:
        on_leap: called with an event time that is garbage, and the exchange's time as estimated.
        closes: the watermark closes bars.
        grace_ns: how long watermark and clock wait; negative: learned from the delays.

    Attributes:
        scanner: takes trade messages before the session; None: there is none.
        buffer: makes the bars; None before `begin`.
        batch: where the trades of a wakeup go; there from `begin` on.
        arbiter: of redundant lines; None: there is one line, or ids do not rise.
        event_time_ns: the latest event time of the connection; None before the first.
        holds: trades wait for earlier ones of another line; no bar may be closed meanwhile.
        scanned: messages that the scanner has taken, their bytes and trades; and trades dropped because another line
            had brought them, or their keys were seen before.
    """

    scanner: TradeScanner | None
    event_time_ns: int | None
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
    def holds(self) -> bool: ...
    @property
    def scanned(self) -> tuple[int, int, int, int]: ...
    def __new__(cls, on_leap: Callable[[int, int], object], *, closes: bool = True, grace_ns: int = -1) -> Self: ...
    def begin(
        self,
        buffer: BarBuffer,
        batch: TickBatch,
        scanner: TradeScanner | None = None,
        arbiter: Arbiter | None = None,
    ) -> None:
        """Set the parts, which are known with the channel that bars are made from.

        Args:
            buffer: makes the bars.
            batch: where scanner and session put the trades of a wakeup.
            scanner: takes trade messages before the session.
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

    def end_wakeup(self, receive_time_ns: int, steady: int | None, line: int) -> tuple[list[OHLCVBar], int]:
        """End a wakeup: trades go to the kernel, event time to the clock, and the watermark closes bars.

        Args:
            receive_time_ns: of the local wall clock.
            steady: of a steady clock, ns; None in a replay of a plain tape.
            line: which of redundant lines brought the messages.

        Returns:
            All bars issued since the last call, and how many messages the scanner has taken since.
        """

    def note_new_holes(self) -> bool:
        """Whether holes were opened, or symbols appeared, since the last call."""

@final
class Feed:
    """The wakeups of one connection.

    Args:
        intake: where its trades go.
        on_failure: called with an internal error.

    Attributes:
        data_messages: messages of the connection that were data and could be read.
    """

    @property
    def data_messages(self) -> int: ...
    @property
    def ending(self) -> Ending:
        """`finish`, in the form that a connection calls without a Python frame."""
    def __new__(cls, intake: Intake, on_failure: Callable[[Exception], object]) -> Self: ...
    def note_data(self, messages: int) -> None:
        """Count the data messages of a wakeup that the session ended; after the first, `finish` may end wakeups."""

    def finish(self, steady_ns: int) -> bool:
        """End a wakeup of which the scanner took every message; False: the session has to, by `receive`.

        It has to where a bar was issued or a trade came late, where a hole was opened or a symbol is new, where there
        are redundant lines, and until the connection has brought its first data.
        """
