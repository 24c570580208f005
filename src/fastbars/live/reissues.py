"""EarlierBars: bars that an earlier process issued and this one may make again, knowing less.

Trades that a killed process received after its last snapshot are lost to the next one, unless REST has them. So it
makes some bars again, with fewer trades. The one in the delivery log stands as long as it is better, and what replaces
it continues its revisions:

    logged --made again, worse or the same--> logged        nothing is issued
    logged --made again, as good or better--> replaced      issued, with the next revision
    replaced --changed in any way--> replaced               issued, with the next revision

Better is the better status, best first in `BarStatus`; of two bars of one status, the one with more trades.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from fastbars.bars import STATUSES, OHLCVBar
from fastbars.live.delivery_log import decoded, encoded
from fastbars.specs import BarKind, BarSpec
from fastbars.ticks import to_nanoseconds

MOST_EARLIER = 4_000_000
_RANKS = {status: rank for rank, status in enumerate(STATUSES)}
_Key = tuple[datetime, int | None]


class EarlierBars:
    """Judges the bars that this process makes by those that an earlier one has issued.

    Args:
        identity: exchange and market of the bars; those of others are refused.
        specs: of the bars; those of others are refused.
        kept_s: how long after its close_time, by the bars behind it, a bar can still change.
    """

    def __init__(self, identity: tuple[str, str], specs: Iterable[BarSpec], kept_s: float) -> None:
        self._identity = identity
        self._is_timed = {str(spec): spec.kind is BarKind.TIME for spec in specs}
        self._kept_s = kept_s
        # By symbol and spec: the latest issue of each, and whether it is this process's or one that replaced it.
        self._bars: dict[tuple[str, str], dict[_Key, tuple[OHLCVBar, bool]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._bars.values()))

    def add(self, bar: OHLCVBar, *, is_replaced: bool = False) -> None:
        """Add a bar that was issued; of one bar the latest issue counts. Raises ValueError: it is of no such spec."""
        self.check(bar)
        self._bars.setdefault((bar.symbol, bar.spec), {})[self._key(bar)] = bar, is_replaced

    def check(self, bar: OHLCVBar) -> None:
        """Raise ValueError for a bar of another exchange, or of no such spec."""
        if (bar.exchange, bar.market) != self._identity:
            raise ValueError(f"it has a bar of {bar.exchange!a:.100} {bar.market!a:.100}, not {self._identity}")
        if bar.spec not in self._is_timed:
            raise ValueError(f"it has a bar of {bar.spec!a:.100}, which is not one of the specs")

    def judge(self, bar: OHLCVBar) -> OHLCVBar | None:
        """The bar as it is to be issued; None: what an earlier process has issued stands."""
        issued = self._bars.get((bar.symbol, bar.spec))
        if issued is None:
            return bar
        earlier = issued.get(self._key(bar))
        if earlier is None:
            self._forget(bar, issued)
            return bar
        before, is_replaced = earlier
        if not is_replaced and (_worth(bar) < _worth(before) or _is_same(bar, before)):
            return None
        bar = replace(bar, revision=max(bar.revision, before.revision + 1))
        issued[self._key(bar)] = bar, True
        return bar

    def ends_ns(self) -> dict[str, int]:
        """Symbol -> close_time of its latest bar, ns."""
        ends: dict[str, int] = {}
        for (symbol, _), issued in self._bars.items():
            latest = max(to_nanoseconds(bar.close_time) for bar, _ in issued.values())
            ends[symbol] = max(latest, ends.get(symbol, latest))
        return ends

    def dump(self) -> Callable[[], bytes]:
        """All of them, for `load`: copied now, put into words when it is called, in any thread."""
        bars = [one for issued in self._bars.values() for one in issued.values()]
        return lambda: b"[%s]" % b",\n".join(b"[%d,%b]" % (is_replaced, encoded(bar)) for bar, is_replaced in bars)

    def load(self, part: object) -> None:
        """Restore what `dump` returned. Raises ValueError: it is something else; nothing has changed."""
        listed: Any = orjson.loads(part) if isinstance(part, bytes) else None
        if not isinstance(listed, list) or len(listed) > MOST_EARLIER:
            raise ValueError("it does not list the bars of earlier processes")
        restored = EarlierBars(self._identity, (), 0)
        restored._is_timed = self._is_timed
        for one in listed:
            if not isinstance(one, list) or len(one) != 2 or one[0] not in (0, 1):
                raise ValueError("it lists something other than a bar of an earlier process")
            restored.add(decoded(one[1]), is_replaced=bool(one[0]))
        self._bars = restored._bars

    def _key(self, bar: OHLCVBar) -> _Key:
        # Several path-driven bars can begin with trades of one time.
        return bar.open_time, None if self._is_timed[bar.spec] else bar.first_trade_id

    def _forget(self, bar: OHLCVBar, issued: dict[_Key, tuple[OHLCVBar, bool]]) -> None:
        # Bars so far behind this one that they cannot change any more.
        now_s = bar.open_time.timestamp()
        for key, (before, _) in list(issued.items()):
            length_s = before.close_time.timestamp() - before.open_time.timestamp()
            if before.close_time.timestamp() + length_s + self._kept_s < now_s:
                del issued[key]
        if not issued:
            del self._bars[bar.symbol, bar.spec]


def _worth(bar: OHLCVBar) -> tuple[int, int]:
    return -_RANKS[bar.status], bar.trade_count or 0


def _is_same(bar: OHLCVBar, before: OHLCVBar) -> bool:
    return replace(bar, revision=before.revision, close_reason=before.close_reason) == before
