"""NeverHeard: subscriptions that were confirmed and of which nothing has come since.

A confirmation proves nothing: some exchanges confirm any name. But a symbol may also be quiet for hours, so that
no connection is dropped for it: it is subscribed once more, reported, and reported again less and less often.

    confirmed -> `after_s` without data -> renewed, reported -> twice as long -> reported -> ... -> every hour

Time counts only while the connection is up and read. A new connection means new subscriptions: what was heard on the
last one must be heard again, and the time of what was not continues, so that reconnecting does not report it again.
Units: seconds on a steady clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from fastbars.bars import ExchangeBar
from fastbars.errors import SubscriptionError
from fastbars.exchanges.messages import Stream

_LONGEST_S = 3600.0  # between two reports
_MOST_COUNTED = 20_000
_NAMED = 20  # subscriptions in the text of an error; its `symbols` has them all


class CandleCount:
    """How many candles came of each subscription, of a bounded number of subscriptions.

    Args:
        channels: bar spec -> the channel of its candles.
    """

    def __init__(self, channels: Mapping[str, str]) -> None:
        self._channels = channels
        self.counts: dict[Stream, int] = {}

    def add(self, candle: ExchangeBar) -> None:
        """One more of its subscription."""
        stream = candle.symbol, self._channels.get(candle.spec, "")
        if stream in self.counts or len(self.counts) < _MOST_COUNTED:
            self.counts[stream] = self.counts.get(stream, 0) + 1


class Report(NamedTuple):
    """Subscriptions to be reported now.

    Attributes:
        streams: every subscription that is due, and for how long it has brought nothing, s.
        renew: those of them that are to be subscribed again.
    """

    streams: Mapping[Stream, float]
    renew: list[Stream]

    def error(self, exchange: str) -> SubscriptionError:
        """The error that names the symbols; its text shows the first few subscriptions."""
        names = [f"{symbol}@{channel}" for symbol, channel in self.streams]
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        longest_s = max(self.streams.values())
        return SubscriptionError(
            f"{exchange}: no data for {longest_s:.{0 if longest_s >= 10 else 2}f} s on {len(names)} confirmed"
            f" subscriptions: {shown}",
            tuple(dict.fromkeys(symbol for symbol, _ in self.streams)),
        )


class _Wait:
    __slots__ = ("due_s", "is_heard", "mark", "renewed", "reports", "silent_s")

    def __init__(self, mark: int, after_s: float) -> None:
        self.mark = mark
        self.is_heard = False
        self.silent_s = 0.0
        self.due_s = after_s
        self.reports = 0
        self.renewed = False


class NeverHeard:
    """Waits for the first data of each subscription.

    Args:
        after_s: a subscription is due after this long without data.

    Attributes:
        reported: how many subscriptions were reported, each once.
    """

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._waits: dict[Stream, _Wait] = {}
        self._before: dict[Stream, int] = {}  # their marks when they were subscribed
        self._judged_s: float | None = None
        self.reported = 0

    def connected(self, now_s: float, marks: Mapping[Stream, int]) -> None:
        """A connection is up: its subscriptions should bring data from here on.

        Args:
            now_s: as in `find_due`.
            marks: as in `find_due`, of everything that has ever come.
        """
        self._judged_s = now_s
        self._before = dict(marks)
        for stream, wait in self._waits.items():
            wait.mark = marks.get(stream, 0)
            if wait.is_heard:
                wait.is_heard = wait.renewed = False
                wait.silent_s, wait.due_s = 0.0, self._interval_s(wait)

    def pause(self, now_s: float) -> None:
        """Do not count the time until now: nothing was read."""
        self._judged_s = now_s

    def find_due(
        self, now_s: float, confirmed: Collection[Stream], desired: Collection[Stream], marks: Mapping[Stream, int]
    ) -> Report:
        """Find the subscriptions to be reported.

        Args:
            now_s: the time.
            confirmed: what the exchange has confirmed on the connection.
            desired: what the user wants; all else is forgotten.
            marks: a number for each subscription that changes whenever it brings data; 0 before the first.
        """
        passed_s = 0.0 if self._judged_s is None else now_s - self._judged_s
        self._judged_s = now_s
        for stream in [stream for stream in self._waits if stream not in desired]:
            del self._waits[stream]
            self._before[stream] = marks.get(stream, 0)
        found: dict[Stream, float] = {}
        renew: list[Stream] = []
        for stream in confirmed:
            mark = marks.get(stream, 0)
            wait = self._waits.get(stream)
            if wait is None:
                wait = self._waits[stream] = _Wait(self._before.get(stream, 0), self._after_s)
            elif not wait.is_heard:
                wait.silent_s += passed_s
            if wait.mark != mark:
                wait.mark, wait.is_heard = mark, True
            if wait.is_heard or wait.silent_s < wait.due_s:
                continue
            self.reported += wait.reports == 0
            wait.reports += 1
            wait.due_s = wait.silent_s + self._interval_s(wait)
            found[stream] = wait.silent_s
            if not wait.renewed:
                wait.renewed = True
                renew.append(stream)
        return Report(found, renew)

    def _interval_s(self, wait: _Wait) -> float:
        longest_s = max(_LONGEST_S, self._after_s)
        return float(min(self._after_s * 2.0 ** min(wait.reports, 32), longest_s))
