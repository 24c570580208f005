"""Repairs: the side of a session that healing, outages and restarts use.

Units: times int64 nanoseconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer, shortened
from fastbars.clocks import wall_ns
from fastbars.errors import InvalidTickError, PrecisionError
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.history import Beginning, Hole
from fastbars.exchanges.messages import Trade
from fastbars.live.clock import ExchangeClock
from fastbars.live.config import StreamConfig
from fastbars.live.intake import Intake
from fastbars.live.journal import Recorder
from fastbars.live.snapshots import pack

_LATEST_NS = 4_600_000_000_000_000_000  # of an event, as of a trade
HISTORY_S = 1.0  # by then what some exchanges send of the past by themselves has come, and is not all there was


class Repairs(ABC):
    """What happens to a session's bars from elsewhere than its messages; the base of Session.

    Attributes:
        unheard: symbols that may not have been received although their subscriptions stood, and since when, ns.
    """

    exchange: Exchange
    recorder: Recorder | None
    intake: Intake
    config: StreamConfig
    _buffer: BarBuffer | None
    unheard: dict[str, int]
    _down_since_ns: int | None
    _last_outage: tuple[int, int] | None

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """The symbols that traded, by their ids."""

    @property
    @abstractmethod
    def channel(self) -> str:
        """The trade channel that bars are made from."""

    @abstractmethod
    def _begin(self, channel: str) -> None: ...

    @abstractmethod
    def _tell(self, bars: list[OHLCVBar], receive_time_ns: int) -> None: ...

    @abstractmethod
    def _warn(self, kind: str, **context: str) -> None: ...

    @property
    @abstractmethod
    def trade_times_ns(self) -> npt.NDArray[np.int64]:
        """int64[n], time of the latest trade of each symbol, ns."""

    # Clocks.

    @property
    def clock(self) -> ExchangeClock:
        """What is known of the exchange's clock."""
        return self.intake.clock

    @property
    def event_time_ns(self) -> int | None:
        """The latest event time of the connection; None before the first."""
        return self.intake.event_time_ns

    def now_ns(self, steady_ns: int) -> int | None:
        """The exchange's time, as estimated at `steady_ns`; None before it has told any."""
        return self.clock.now_ns(steady_ns)

    @property
    def grace_s(self) -> float:
        """How long watermark and clock wait now: as it was set, or as it was learned; s."""
        return self.intake.delays.grace_ns / 1e9 if self.config.grace == "auto" else self.config.grace

    def timing(self) -> dict[str, Any]:
        """What `StreamStats` says of clocks and delays."""
        offset_ns = self.clock.offset_ns
        return {
            "clock_offset_s": None if offset_ns is None else offset_ns / 1e9,
            "grace_s": self.grace_s,
            "delay_p50_s": self.intake.delays.quantile_ns(0.5) / 1e9,
            "delay_p999_s": self.intake.delays.quantile_ns(0.999) / 1e9,
        }

    # Outages.

    def note_state(self, state: str, url: str) -> None:
        """The connection's state, for whoever reads a recording."""
        if self.recorder is not None:
            self.recorder.note("state", wall_ns(), {"state": state, "url": url})

    @property
    def is_down(self) -> bool:
        """Whether an outage has begun and not ended."""
        return self._down_since_ns is not None

    def begin_outage(self, steady_ns: int) -> None:
        """From here on nothing can be received; the latest messages may be lost as well."""
        now_ns = self.now_ns(steady_ns)
        if self._down_since_ns is None and now_ns is not None:
            # Event times may be off; what is lost is not older than the latest trade that came.
            traded_ns = int(max(self.trade_times_ns, default=now_ns))
            since_ns = min(now_ns, self.event_time_ns or now_ns, traded_ns)
            self._down_since_ns = since_ns - round(self.grace_s * 1e9)
            # A subscription of which nothing has come since the last outage vouches for no time since then.
            if self._last_outage is not None:
                last_since_ns, last_until_ns = self._last_outage
                for symbol, time_ns in zip(self.symbols, self.trade_times_ns.tolist(), strict=False):
                    if time_ns <= last_until_ns:
                        self.unheard.setdefault(symbol, last_since_ns)
            self.feed_down(self._down_since_ns, wall_ns())

    def end_outage(self, steady_ns: int, receive_time_ns: int) -> tuple[int | None, int | None]:
        """Everything desired is received again. Returns (since, until) of the outage, ns of the exchange's clock."""
        since_ns, self._down_since_ns = self._down_since_ns, None
        until_ns = self.now_ns(steady_ns)
        if since_ns is not None and until_ns is not None:
            self._last_outage = since_ns, until_ns
            until_ns += round(self.grace_s * 1e9)  # the clock is an estimate
            self.note_down(since_ns, until_ns, receive_time_ns)
        if until_ns is not None:
            self.feed_up(until_ns, receive_time_ns)
        return since_ns, until_ns

    def note_down(self, since_ns: int, until_ns: int, receive_time_ns: int) -> None:
        """Nothing could be received between two times of the exchange, of what was unheard before since then."""
        self.note_outage(since_ns, until_ns, receive_time_ns)
        for unheard_ns in sorted(set(self.unheard.values())):
            symbols = [symbol for symbol, each_ns in self.unheard.items() if each_ns == unheard_ns]
            self.note_outage(unheard_ns, until_ns, receive_time_ns, symbols)

    def note_outage(
        self, since_ns: int, until_ns: int, receive_time_ns: int, symbols: Sequence[str] | None = None
    ) -> list[OHLCVBar]:
        """Nothing could be received between two times of the exchange: bars that no ids vouch for are GAP then.

        Args:
            symbols: those concerned; None: all that have traded.
        """
        if self._buffer is None or self._buffer.ids in ("contiguous", "sequenced"):
            return []
        if self.recorder is not None:
            self.recorder.event(
                "outage", receive_time_ns, {"since_ns": since_ns, "until_ns": until_ns, "symbols": symbols}
            )
        bars = self._buffer.note_outage(since_ns, until_ns, symbols)
        self._tell(bars, receive_time_ns)
        return bars

    def feed_down(self, since_ns: int, receive_time_ns: int) -> list[OHLCVBar]:
        """Nothing has been received since this time of the exchange: intervals without trades are GAP from here on."""
        if self._buffer is None:
            return []
        if self.recorder is not None:
            self.recorder.event("feed_down", receive_time_ns, {"time_ns": since_ns})
        self._buffer.feed_down(since_ns)
        return []

    def feed_up(self, until_ns: int, receive_time_ns: int) -> list[OHLCVBar]:
        """Everything is received again since this time of the exchange."""
        if self._buffer is None:
            return []
        if self.recorder is not None:
            self.recorder.event("feed_up", receive_time_ns, {"time_ns": until_ns})
        self._buffer.feed_up(until_ns)
        return []

    # Healing.

    @property
    def holes_opened(self) -> int:
        """How many holes there have been so far."""
        return 0 if self._buffer is None else self._buffer.holes_opened

    @property
    def symbols_begun(self) -> int:
        """How many symbols have traded so far."""
        return 0 if self._buffer is None else len(self._buffer.instruments)

    def holes(self, symbol: str | None = None) -> list[Hole]:
        """What is missing (of one symbol), where ids tell."""
        if self._buffer is None:
            return []
        symbols = self._buffer.instruments.symbols if symbol is None else (symbol,)
        return [hole for each in symbols for hole in self.holes_within(each, 0, 2**63 - 1)]

    def holes_within(self, symbol: str, first: int, last: int) -> list[Hole]:
        """What is missing of one symbol, of holes that reach into these ids; it takes no longer for all the others."""
        return [] if self._buffer is None else [Hole(symbol, *hole) for hole in self._buffer.holes(symbol, first, last)]

    def heal(self, symbol: str, trades: Sequence[Trade], receive_time_ns: int | None = None) -> list[OHLCVBar]:
        """Take the trades of one symbol that REST returned and that are missing; the others are passed over.

        `on_tick` is not called for them: they are late, and their order is not that of the stream.
        """
        if self._buffer is None or not trades:
            return []
        now_ns = wall_ns() if receive_time_ns is None else receive_time_ns
        if self.recorder is not None:
            self.recorder.event("heal", now_ns, {"symbol": symbol}, orjson.dumps([list(trade) for trade in trades]))
        batch = self._buffer.new_batch()
        for trade in trades:
            try:
                batch.append(*trade.row)
            except (PrecisionError, InvalidTickError, TypeError, OverflowError) as error:
                self._warn("healed_trade_refused", symbol=symbol, error=str(error))
        bars: list[OHLCVBar] = []
        while len(batch):
            try:
                bars += self._buffer.heal(batch)
                break
            except (PrecisionError, InvalidTickError) as error:
                if error.row is None:
                    raise
                self._warn("healed_trade_refused", symbol=symbol, error=str(error))
                batch = batch.without(error.row)
        self._tell(bars, now_ns)
        return bars

    def beginnings(self) -> list[Beginning]:
        """Symbols whose first bars lack their beginning, as far as `StreamConfig.backfill` goes."""
        longest_s = min(self.config.backfill, self.config.heal_horizon)
        if self._buffer is None or longest_s <= 0:
            return []
        symbols = self._buffer.instruments.symbols
        return [Beginning(each, *found) for each in symbols for found in self._buffer.beginning(each, longest_s)]

    def reach_back(
        self, symbol: str, trade_id: int, time_ns: int, receive_time_ns: int | None = None
    ) -> list[OHLCVBar]:
        """REST has a trade before the symbol's first one: what lies between them is a hole."""
        if self._buffer is None:
            return []
        now_ns = wall_ns() if receive_time_ns is None else receive_time_ns
        if self.recorder is not None:
            fields = {"symbol": symbol, "trade_id": trade_id, "time_ns": time_ns}
            self.recorder.event("reach_back", now_ns, fields)
        bars = self._buffer.reach_back(symbol, trade_id, time_ns)
        self._tell(bars, now_ns)
        return bars

    def leave_out(
        self, symbol: str, ranges: Sequence[tuple[int, int]], receive_time_ns: int | None = None
    ) -> list[OHLCVBar]:
        """REST leaves these ids out, though it has both their neighbours: nobody asks for them again."""
        if self._buffer is None:
            return []
        now_ns = wall_ns() if receive_time_ns is None else receive_time_ns
        if self.recorder is not None:
            self.recorder.event("leave_out", now_ns, {"symbol": symbol, "ranges": ranges})
        bars = self._buffer.leave_out(symbol, ranges)
        self._tell(bars, now_ns)
        return bars

    # Restarts.

    def dump(self) -> dict[str, Any] | None:
        """What `load` needs to go on from here; None before the first trade."""
        if self._buffer is None or not len(self._buffer.instruments):
            return None
        return self._buffer.dump() | {
            "exchange": self.exchange.name,
            "channel": self.channel,
            "event_time_ns": self.event_time_ns,
        }

    def load(self, content: Mapping[str, Any], receive_time_ns: int) -> list[OHLCVBar]:
        """Go on from what another process dumped; the feed was down since.

        Raises:
            ValueError: it is of another exchange, channel, specs, or build.
        """
        own = {"exchange": self.exchange.name, "channel": self.channel}
        for name, value in own.items():
            if content.get(name) != value:
                raise ValueError(f"its {name} is {shortened(content.get(name))}, not {value!r}")
        event_time_ns = content.get("event_time_ns")
        if event_time_ns is not None and not (type(event_time_ns) is int and 0 <= event_time_ns <= _LATEST_NS):
            raise ValueError(f"its event time is {shortened(event_time_ns)}")
        if not content.get("instruments"):
            raise ValueError("it has no symbols")
        if self._buffer is None:
            self._begin(self.channel)
        assert self._buffer is not None
        self._buffer.load(content)
        if self.recorder is not None:
            self.recorder.event("load", receive_time_ns, {}, pack(content))
        since_ns = max([int(self._buffer.trade_times_ns.max()), event_time_ns or 0])
        self.intake.event_time_ns = event_time_ns
        return self.feed_down(since_ns, receive_time_ns)
