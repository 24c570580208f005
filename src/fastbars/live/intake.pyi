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
    """What a session does with the trades of each wakeup.

    Args:
        on_leap: called with an event time that is garbage, and with the exchange's time as known.
        closes: the watermark closes bars.
        grace_ns: how long watermark and clock wait; negative: as the delays teach.

    Attributes:
        scanner: takes trade messages before the session; None: there is none.
        buffer: makes the bars; None before `begin`.
        batch: where the trades of a wakeup go; there from `begin` on.
        arbiter: of redundant lines; None: there is one line, or ids do not rise.
        event_time_ns: the latest event time of the connection; None before the first.
        holds: trades wait for those before them, and nothing may be closed over their heads.
        scanned: messages that the scanner has taken, their bytes and trades; and trades dropped because they had come
            before, over another line or by their keys.
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
        """It is known what bars are made of.

        Args:
            buffer: makes the bars.
            batch: where scanner and session put the trades of a wakeup.
            scanner: takes trade messages before the session.
            arbiter: of redundant lines.
        """

    def interrupt(self) -> None:
        """A message comes that is not the scanner's."""

    def note_sent(self, sent_ns: int) -> None:
        """That message says that it was sent then, ns; the last one of a wakeup counts."""

    def fold(self, line: int, steady: int | None) -> None:
        """The trades so far go to the kernel."""

    def release(self, steady: int | None) -> list[OHLCVBar]:
        """The bars of what redundant lines have held back for long enough at this time (None: of all of it)."""

    def issue(self, bars: list[OHLCVBar]) -> None:
        """These bars are issued after those that there are already."""

    def end_wakeup(self, receive_time_ns: int, steady: int | None, line: int) -> tuple[list[OHLCVBar], int]:
        """End a wakeup: trades go to the kernel, event time to the clock, and the watermark closes bars.

        Args:
            receive_time_ns: of the local wall clock.
            steady: of a steady clock, ns; None in a replay of a plain tape.
            line: which of redundant lines brought the messages.

        Returns:
            All bars issued since the last call, and how many messages the scanner has taken since.
        """

    def take_begun(self) -> bool:
        """Whether there are holes or symbols that there were not at the last call."""

@final
class Feed:
    """The wakeups of one connection.

    Args:
        intake: where its trades go.
        on_failure: called with an internal error.

    Attributes:
        data_messages: that came on the connection, were data and could be read.
    """

    @property
    def data_messages(self) -> int: ...
    @property
    def ending(self) -> Ending:
        """`finish` as what a connection calls, without a Python frame."""
    def __new__(cls, intake: Intake, on_failure: Callable[[Exception], object]) -> Self: ...
    def note_data(self, messages: int) -> None:
        """So many messages of a wakeup that the session ended were data; from here on there can be others."""

    def finish(self, steady_ns: int) -> bool:
        """End a wakeup of which the scanner took every message; False: the session has to, by `receive`.

        It has to where a bar was issued or a trade came late, where a hole was opened or a symbol is new, where there
        are redundant lines, and until the connection has brought its first data.
        """
