from collections.abc import Callable
from typing import Self, final

from fastbars.bars import OHLCVBar
from fastbars.entry import TradeEntry
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
        learns: the buffer's grace follows the delays.
        lines: how many redundant lines there are.

    Attributes:
        scanner: takes trade messages before the session; None: there is none.
        event_time_ns: the latest event time of the connection; None before the first.
        holds: trades wait for those before them, and nothing may be closed over their heads.
        quiet_messages: of the wakeups that no session finished.
    """

    scanner: TradeScanner | None
    event_time_ns: int | None
    @property
    def clock(self) -> ExchangeClock: ...
    @property
    def delays(self) -> TradeDelays: ...
    @property
    def holds(self) -> bool: ...
    @property
    def quiet_messages(self) -> int: ...
    def __new__(
        cls,
        on_leap: Callable[[int, int], object],
        *,
        closes: bool = True,
        learns: bool = False,
        lines: int = 1,
    ) -> Self: ...
    def begin(
        self,
        buffer: TradeEntry,
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

    def take_counts(self) -> tuple[int, int, int, int]:
        """Messages that the scanner has taken, their bytes, trades, and duplicates, since the last call."""

    def fold(self, line: int, steady: int | None) -> None:
        """The trades so far go to the kernel."""

    def issue(self, bars: list[OHLCVBar]) -> None:
        """These bars are issued behind what there is already."""

    def finish(self, receive_time_ns: int, steady: int | None, line: int) -> list[OHLCVBar]:
        """End a wakeup: trades go to the kernel, event time to the clock, and the watermark closes bars.

        Args:
            receive_time_ns: of the local wall clock.
            steady: of a steady clock, ns; None in a replay of a plain tape.
            line: which of redundant lines brought the messages.

        Returns:
            All bars issued since the last call.
        """

@final
class Feed(Ending):
    """The wakeups of one line.

    Args:
        intake: where its trades go.
        on_failure: called with an error of our own, which nobody expected.

    Attributes:
        is_proven: wakeups may end without the session, because what it has to learn of the line is known.
        messages: of the wakeups that did.
    """

    is_proven: bool
    @property
    def messages(self) -> int: ...
    def __new__(cls, intake: Intake, on_failure: Callable[[Exception], object]) -> Self: ...
    def finish(self, steady_ns: int) -> bool:
        """End a wakeup of which the scanner took every message; False: the session must, by `receive`.

        It must where a bar was issued or a trade came late, where a hole was opened or a symbol is new, where there are
        redundant lines, and before the line has been proven.
        """
