"""BarBuffer: trades into bars, with the closing by watermark and clock, late trades, callbacks and snapshots.

Source: the semantics in docs/semantics.md. Units: times int64 nanoseconds since the Unix epoch, UTC; grace
and lateness in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import astuple, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

import numpy as np
import numpy.typing as npt

from fastbars._agg import BarKernel
from fastbars.bars import REASONS, CloseReason, OHLCVBar
from fastbars.callbacks import call, check_callbacks
from fastbars.entry import TradeEntry, add, add_batch, add_live, add_tick, advance_watermark
from fastbars.errors import SpecError
from fastbars.id_policy import IdPolicy, Ids
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.fields import IDENTITY
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.limits import MAX_SCALE
from fastbars.kernel.objects import BarMaker
from fastbars.kernel.progress import Progress
from fastbars.kernel.rows import IssuedRows
from fastbars.kernel.scaled import to_decimal
from fastbars.specs import BarSpec, Origin, parse_specs
from fastbars.ticks import TickData, TickSide, tick_of

if TYPE_CHECKING:
    from fastbars.log import SparseLog

Empty = Literal["skip", "fill"]
RowSink = Callable[["BarBuffer", IssuedRows], object]
_LONGEST_S = 4e9
_LONGEST_WAIT_NS = 2**61
_MOST_ROWS = 2**60
_LONGEST_SYMBOL = 1024
_MOST_SHOWN = 100


@dataclass(slots=True)
class BufferStats:
    """Counters since the buffer was made; every row given to it is in one of the first four, or in `void_ids`.

    Attributes:
        trades: rows folded into bars of every spec.
        duplicates: rows dropped because their id was seen before.
        late: rows that came after `lateness` for at least one spec, or whose place in the id order is lost.
        refused: rows that cannot be represented or break a rule (only `add_live` continues after one).
        bars: bars issued, revisions included.
        callback_errors: times that a callback raised; those of a stream are counted in its SessionStats.
        healed: trades taken from REST; they are not in `trades`.
        void_ids: rows of size 0, where ids prove completeness: their ids are used up, nothing was traded.
        series: how often the trade ids of a symbol began anew.
        footprints_lost: bars whose footprint is None because they have more levels than are kept.
    """

    trades: int = 0
    duplicates: int = 0
    late: int = 0
    refused: int = 0
    bars: int = 0
    callback_errors: int = 0
    healed: int = 0
    void_ids: int = 0
    series: int = 0
    footprints_lost: int = 0


class Gap(NamedTuple):
    """A span of exchange time in which not every trade of a symbol would have been received, ns, both ends inclusive.

    Attributes:
        until_ns: 2**63 - 1 while it is open.
        lost: trades may be missing; else nobody wanted them.
    """

    since_ns: int
    until_ns: int
    lost: bool


_MOST_RECUT = 100_000_000


class _Terms(NamedTuple):
    # What a kernel is made with, as it was given.
    lateness_s: float
    heal_horizon_s: float
    empty: Empty
    first_id: int | None
    recut_trades: int


class BarBuffer:
    """Trades in, bars out.

    Args:
        bars: bar specs, such as "1m" or ["1m", "5m", "tick:1000"].
        ids: what the trade ids are. "contiguous": they rise by one from trade to trade and prove completeness,
            detect duplicates and order trades. "sequenced": the exchange numbers its messages so, but they do
            not stand for every trade; bars are UNVERIFIABLE at best. "none": trades are ordered by time, then
            arrival, and bars are UNVERIFIABLE at best. "unique": likewise; the reader of the trades drops
            duplicates, by ids that are not numbers. "sampled": likewise, and they are last prices, not trades; bars are
            SAMPLED at best.
        timezone, origin: of day and longer bars that do not name their own: an IANA name, and where they begin,
            such as "17:00" (see `BarSpec.parse`).
        exchange, market: whose trades these are, such as "binance" and "usdm": bars and error messages name both.
        instruments: symbols and scales; made anew if not given.
        negative_prices: prices may be zero or negative (spreads, oil); else such a price is refused. Instruments that
            are given say this, exchange and market themselves, as in `Instruments(negative_prices=True)`.
        grace_s: how long watermark and clock wait behind close_time before they close a bar.
        lateness_s: how long after its close_time, in event time, a bar can still be amended.
        heal_horizon_s: how long a bar into which a hole reaches can be, where ids are numbers.
        recut_trades: most trades of a symbol and anchored spec that are kept, from a hole on, so that its bars can be
            cut again when the hole is filled, 49 bytes each; beyond that they stay GAP up to the next anchor.
        empty: "skip": an interval without trades has no bar. "fill": it has a flat one at the last close, where it is
            known that nothing was traded. Either way it has a GAP without prices where the feed was down.
        on_bar: called for each issued bar; on_bars: for each list of bars issued together. One that raises is
            logged and counted, and no bar is lost.
        on_late: called with each trade that came too late for a bar.
        first_id: where ids are contiguous, the id of a symbol's first trade, such as 1: the bar that begins with it is
            whole. None: not known.

    Trades come in by `add` (one, from text), `add_tick` (one, as an object) or `add_batch` (columns); see
    `fastbars.entry`. Every method that issues bars returns them, after the callbacks were called.
    `grace_ns`, `grace_s` in nanoseconds, may be set at any time. `spec_names` are the specs as texts. `sink`, where it
    is set, gets the rows of all bars in place of the callbacks, and no bars are made or returned.

    A buffer belongs to one thread at a time. While a batch is folded in, the interpreter lock is given up, and whatever
    another thread asks of this buffer, or of that batch, raises RuntimeError and changes nothing; callbacks may call
    the buffer. Threads that share one take turns with a lock of their own, or each has a buffer, whose bars merge.
    """

    # A slot: each trade asks for its entry (see entry_of).
    __slots__ = ("__dict__", "__weakref__", "entry")

    def __init__(
        self,
        bars: str | int | BarSpec | Sequence[str | int | BarSpec] = "1m",
        *,
        ids: Ids = "none",
        timezone: str | None = None,
        origin: Origin | None = None,
        exchange: str = "",
        market: str = "",
        instruments: Instruments | None = None,
        negative_prices: bool = False,
        grace_s: float = 1.0,
        lateness_s: float = 60.0,
        heal_horizon_s: float = 3600.0,
        recut_trades: int = 200_000,
        empty: Empty = "skip",
        on_bar: Callable[[OHLCVBar], object] | None = None,
        on_bars: Callable[[list[OHLCVBar]], object] | None = None,
        on_late: Callable[[TickData], object] | None = None,
        first_id: int | None = None,
    ) -> None:
        policy = IdPolicy.of(ids)
        if empty not in get_args(Empty):
            raise ValueError(f"empty {empty!r} is not one of {', '.join(get_args(Empty))}")
        if not 0 <= recut_trades <= _MOST_RECUT:
            raise ValueError(f"recut_trades {recut_trades} is outside 0 to {_MOST_RECUT}")
        if grace_s < 0 or lateness_s < 0 or heal_horizon_s < 0:
            raise ValueError(
                f"grace {grace_s} s, lateness {lateness_s} s and heal horizon {heal_horizon_s} s must not be negative"
            )
        self.specs = parse_specs(bars, timezone=timezone, origin=origin)
        self.instruments = Instruments(exchange, negative_prices, market) if instruments is None else instruments
        for name, given in (("exchange", exchange), ("market", market), ("negative_prices", negative_prices)):
            if given and getattr(self.instruments, name) != given:
                raise ValueError(f"{name}={given!r} needs Instruments({name}={given!r})")
        self.policy = policy
        self.spec_names = tuple(map(str, self.specs))
        check_callbacks(on_bar=on_bar, on_bars=on_bars, on_late=on_late)
        self.on_bar = on_bar
        self.on_bars = on_bars
        self.on_late = on_late
        self.sink: RowSink | None = None
        self._stats = BufferStats()
        self._warnings: SparseLog | None = None
        self._terms = _Terms(lateness_s, heal_horizon_s, empty, first_id if policy.proves else None, recut_trades)
        self._up_ns = -(2**63)  # the clock was last told that the feed is up
        self._kernel = self._new_kernel(self.instruments)
        self.entry = TradeEntry(self._kernel, self.new_batch(), wait_ns_of(grace_s))

    # Compiled: one trade, from text or as an object; a batch, all or nothing; a batch, less the rows that are refused.
    add = add
    add_tick = add_tick
    add_batch = add_batch
    add_live = add_live
    advance_watermark = advance_watermark

    @property
    def grace_ns(self) -> int:
        """How long watermark and clock wait behind close_time, ns; it may be set at any time."""
        return self.entry.grace_ns

    @grace_ns.setter
    def grace_ns(self, grace_ns: int) -> None:
        self.entry.grace_ns = grace_ns

    @property
    def rows_taken(self) -> int:
        """Rows folded in so far, duplicates and late ones among them."""
        return self.entry.rows_taken

    def _new_kernel(self, instruments: Instruments) -> BarKernel:
        return BarKernel(
            instruments,
            self.specs,
            Ledger(first_id=self._terms.first_id) if self.policy.numbered else None,
            self.policy.proves,
            wait_ns_of(self._terms.lateness_s),
            wait_ns_of(self._terms.heal_horizon_s),
            self._terms.empty == "fill",
            self._terms.recut_trades,
        )

    def new_batch(self) -> TickBatch:
        """An empty batch with the columns that this buffer needs."""
        policy = self.policy
        return TickBatch(self.instruments, ids=policy.numbered, counts=True, sequences=policy.counts_messages)

    @property
    def ids(self) -> Ids:
        """What the trade ids are, as given."""
        return self.policy.name

    @property
    def stats(self) -> BufferStats:
        """The counters, live."""
        self._stats.duplicates = self._kernel.duplicates
        self._stats.healed = self._kernel.healed
        self._stats.void_ids = self._kernel.voids
        self._stats.footprints_lost = self._kernel.footprints_lost
        self._stats.trades = self.rows_taken - self._stats.duplicates - self._stats.late - self._stats.void_ids
        return self._stats

    @property
    def trade_times_ns(self) -> npt.NDArray[np.int64]:
        """int64[n], time of the latest trade of each symbol by its id, ns; -(2**63) or so where there was none."""
        return self._kernel.trade_times_ns

    def next_id(self, symbol: str) -> int | None:
        """The id after the newest one; None where ids prove nothing, or before the first trade."""
        ledger = self._kernel.ledger
        return (
            None if ledger is None or symbol not in self.instruments else ledger.expected(self.instruments.id(symbol))
        )

    def missing(self, symbol: str) -> list[tuple[int, int]]:
        """Ids known to be missing: (first, last) of each hole, ascending."""
        ledger = self._kernel.ledger
        if ledger is None or symbol not in self.instruments:
            return []
        return ledger.missing(self.instruments.id(symbol))

    def dump(self, recycled: dict[str, Any] | None = None) -> dict[str, Any]:
        """The whole state as numbers, text and bytes, for `load` in another process of the same build.

        Args:
            recycled: what an earlier `dump` returned, if nobody needs it any more: its memory is used again.
        """
        instruments = [
            (symbol, *self.instruments.scales(symbol), None if contract is None else str(contract))
            for symbol in self.instruments.symbols
            for contract in [self.instruments.contract_size(symbol)]
        ]
        return self._kernel.dump(recycled) | {
            "exchange": self.instruments.exchange,
            "market": self.instruments.market,
            "specs": [str(spec) for spec in self.specs],
            "ids": self.ids,
            "negative_prices": self.instruments.negative_prices,
            "instruments": instruments,
            "rows": self.rows_taken,
            "late": self._stats.late,
            "refused": self._stats.refused,
            "up_ns": self._up_ns,
        }

    def load(self, content: Mapping[str, Any], *, continues: bool = False) -> None:
        """Restore what `dump` returned. The buffer must be new.

        Bars that may have been issued since it was dumped, those that open up to the first event behind it (a trade,
        clock or watermark), continue at a revision that is surely higher: at the next multiple of 1,000.

        Everything is checked before it is used: indices, lists, times, sums. A state that is refused changes nothing.

        Raises:
            ValueError: the state belongs to another exchange or market, other specs, ids or negative_prices, or to
                another build, or is damaged; the message says which.
        """
        for name in IDENTITY:
            if content.get(name) != getattr(self.instruments, name):
                found = shortened(content.get(name))
                raise ValueError(f"its {name} is {found}, not {getattr(self.instruments, name)!r}")
        for name, own in (("specs", [str(spec) for spec in self.specs]), ("ids", self.ids)):
            if content.get(name) != own:
                found = shortened(content.get(name)).strip("'")
                raise ValueError(f"its {name} are {found}, not {own}")
        own_sign, sign = self.instruments.negative_prices, content.get("negative_prices", False)
        if sign is not own_sign:
            raise ValueError(f"its negative_prices are {shortened(sign)}, not {own_sign}")
        if not self._kernel.is_blank:
            raise ValueError("a snapshot can be loaded only into a buffer without trades")
        up_ns = content.get("up_ns")
        if type(up_ns) is not int or not -(2**63) <= up_ns < 2**63:
            raise ValueError(f"its time of the clock is {shortened(up_ns)}")
        rows, late, refused = (_counter_of(content, name) for name in ("rows", "late", "refused"))
        listed = _instruments_of(content, self.instruments)
        # First into a kernel that is thrown away, so that a state that is refused leaves no trace in this one.
        trial = copy(self.instruments)
        for instrument in listed:
            trial.add(*instrument)
        self._new_kernel(trial).load(dict(content))
        for instrument in listed:
            self.instruments.add(*instrument)
        self._kernel.load(dict(content), continues)
        self._stats.series = self._kernel.begun
        self.entry.rows_taken = rows
        self._stats.late, self._stats.refused = late, refused
        self._up_ns = up_ns

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle is a dump, checked when it is loaded; callbacks are included, and must be picklable.
        return _restored, self._restore_args(self.instruments)

    def __copy__(self) -> Self:
        # Independent of the original, scales included: neither sees what the other does from here on.
        made: Self = _restored(*self._restore_args(copy(self.instruments)))
        return made

    def _restore_args(self, instruments: Instruments) -> tuple[Any, ...]:
        rebuilt = {"specs", "instruments", "policy", "entry", "spec_names", "_kernel", "_stats", "_warnings", "_terms"}
        settings = {"ids": self.ids, "instruments": instruments, **self._terms._asdict()}
        others = {name: value for name, value in vars(self).items() if name not in rebuilt}
        counted = astuple(self.stats)
        return type(self), self.specs, settings, self.grace_ns, self.covers_itself, self.dump(), counted, others

    @property
    def holes_opened(self) -> int:
        """How many holes were opened so far; it rises with each new one."""
        return 0 if self._kernel.ledger is None else self._kernel.ledger.opened

    def holes(self, symbol: str, first: int = 0, last: int = 2**63 - 1) -> list[tuple[int, int, int, int]]:
        """(first, last, since_ns, until_ns) of each hole, ascending by id: missing ids, and when they traded.

        Args:
            first, last: only holes that overlap these ids, both inclusive; fast, however many others there are.
        """
        ledger = self._kernel.ledger
        if ledger is None or symbol not in self.instruments:
            return []
        return ledger.holes(self.instruments.id(symbol), first, last)

    def heal(self, batch: TickBatch) -> list[OHLCVBar]:
        """Fold in those trades of one symbol, fetched from REST, that are missing; the others are ignored.

        Each bar that changes is issued once, HEALED unless something else is wrong with it.

        Raises:
            PrecisionError, InvalidTickError: the message and `row` name the offending row; nothing was taken.
        """
        rows, _ = self._kernel.heal(batch)
        return self.issue(rows)

    def beginning(self, symbol: str, longest_s: float) -> list[tuple[int, int, int]]:
        """Where a symbol began inside bars that can still be amended: (id, time_ns, open_time_ns) of each, ascending.

        Bars that open more than `longest_s` before its first trade do not count.
        """
        if symbol not in self.instruments:
            return []
        return self._kernel.beginning(self.instruments.id(symbol), round(min(longest_s, _LONGEST_S) * 1e9))

    def reach_back(self, symbol: str, trade_id: int, time_ns: int) -> list[OHLCVBar]:
        """Open a hole, for `heal`, between a trade from REST and the symbol's first one.

        Time bars that open after that trade are no longer PARTIAL for lack of their beginning.
        """
        if symbol not in self.instruments:
            return []
        return self.issue(self._kernel.reach_back(self.instruments.id(symbol), trade_id, time_ns))

    def leave_out(self, symbol: str, ranges: Iterable[tuple[int, int]]) -> list[OHLCVBar]:
        """Mark ids that the exchange's history leaves out for good: missing ones are unpublished from here on.

        Bars that lack nothing else are issued as PUBLISHED.

        Args:
            ranges: first and last id of each run, both inclusive.

        Raises:
            InvalidTickError: a range holds something other than ids; nothing has changed.
        """
        if symbol not in self.instruments:
            return []
        return self.issue(self._kernel.leave_out(self.instruments.id(symbol), ranges))

    def unpublished(self, symbol: str) -> list[tuple[int, int]]:
        """(first, last) of each run of ids that the exchange's history leaves out, ascending."""
        ledger = self._kernel.ledger
        if ledger is None or symbol not in self.instruments:
            return []
        return [hole[:2] for hole in ledger.holes(self.instruments.id(symbol), unpublished=True)]

    def feed_down(self, exchange_time_ns: int) -> list[OHLCVBar]:
        """Nothing is received since this time: `uncover`, for all symbols that are wanted; idempotent."""
        return self.issue(self._kernel.feed_down(exchange_time_ns))

    def feed_up(self, exchange_time_ns: int) -> list[OHLCVBar]:
        """Everything is received again since this time: `cover`, for all symbols that were not since `feed_down`."""
        return self.issue(self._kernel.feed_up(exchange_time_ns))

    @property
    def covers_itself(self) -> bool:
        """True: a symbol's first trade covers it, and a flush ends that. False: only the methods below do."""
        return self._kernel.covers_itself

    @covers_itself.setter
    def covers_itself(self, covers_itself: bool) -> None:
        self._kernel.covers_itself = covers_itself

    def cover(self, symbols: Iterable[str] | None, from_ns: int) -> list[OHLCVBar]:
        """Every trade of the symbols is received from this time on: a gap in their coverage that is open ends.

        Args:
            symbols: those concerned, new ones among them; None: all that are known. Likewise below.
            from_ns: exchange time, ns since the epoch; the gap includes it.

        Returns:
            The bars whose status or value this has changed, as the other three do.
        """
        return self.issue(self._kernel.cover(self._ids_of(symbols, new=True), _within(from_ns)))

    def uncover(self, symbols: Iterable[str] | None, since_ns: int, *, lost: bool = True) -> list[OHLCVBar]:
        """Not every trade of the symbols is received since this time: a gap in their coverage opens.

        While one is open, an earlier time extends it. Bars and intervals that it reaches, and that no ids prove, are
        GAP; or, where not `lost` (the user began, unsubscribed or ended), PARTIAL or not issued.
        """
        return self.issue(self._kernel.uncover(self._ids_of(symbols), _within(since_ns), lost))

    def lose(self, symbols: Iterable[str] | None, since_ns: int, until_ns: int, *, trades: int = 0) -> list[OHLCVBar]:
        """Trades of the symbols between these times, both inclusive, may be lost.

        Args:
            trades: how many are known to be lost for good, though their ids may be known.
        """
        return self.issue(self._kernel.lose(self._ids_of(symbols), _within(since_ns), _within(until_ns), trades))

    def bridge(self, symbols: Iterable[str] | None, since_ns: int, until_ns: int) -> list[OHLCVBar]:
        """No trade of the symbols was missed between these times, both inclusive, after all."""
        return self.issue(self._kernel.bridge(self._ids_of(symbols), _within(since_ns), _within(until_ns)))

    def gaps(self, symbol: str) -> list[Gap]:
        """The gaps in a symbol's coverage, in order of time; the last one can be open."""
        if symbol not in self.instruments:
            return [Gap(-(2**63), 2**63 - 1, lost=False)]
        return [Gap(*gap) for gap in self._kernel.gaps(self.instruments.id(symbol))]

    def _ids_of(self, symbols: Iterable[str] | None, *, new: bool = False) -> npt.NDArray[np.int32]:
        if symbols is None:
            return np.arange(len(self.instruments), dtype=np.int32)
        ids = (
            self.instruments.add(symbol) if new else self.instruments.id(symbol)
            for symbol in symbols
            if new or symbol in self.instruments
        )
        return np.fromiter(ids, np.int32)

    def refuse(self, batch: TickBatch, row: int) -> list[OHLCVBar]:
        """Count one row as refused, and flag its bar where no id will reveal the loss."""
        symbols, times = batch.column("symbol_id"), batch.column("time_ns")
        assert symbols is not None
        assert times is not None
        if not 0 <= symbols[row] < len(self.instruments):
            self._stats.refused += 1
            return []
        return self.note_lost(self.instruments.symbol(symbols[row]), int(times[row]))

    def note_lost(self, symbol: str, time_ns: int) -> list[OHLCVBar]:
        """A trade of this symbol and time was lost before it got here: count it as refused.

        Its bar is GAP, where there is none one without prices; with contiguous ids the next trade reveals what is
        missing, and a bar that ids prove stays as it is. It begins a symbol as a trade does.
        """
        self._stats.refused += 1
        return self.issue(self._kernel.note_lost(self.instruments.add(symbol), _within(time_ns)))

    def note_outage(self, since_ns: int, until_ns: int, symbols: Iterable[str] | None = None) -> list[OHLCVBar]:
        """Nothing was received between two times: `lose`, by its older name.

        Args:
            since_ns, until_ns: ns since the epoch, of the exchange's clock.
            symbols: those affected; None: all.
        """
        return self.lose(symbols, since_ns, until_ns)

    def current(self, symbol: str, spec: str | int | BarSpec) -> OHLCVBar | None:
        """The bar in progress, exact up to the last trade given; None while none is open.

        Nothing is closed or issued. Its close_reason is `open` and its status what is known now: GAP where trades
        are missing, PARTIAL where the stream began inside it, else UNVERIFIABLE or SAMPLED where ids prove nothing, or
        PROVISIONAL, because its end is yet to come.

        Raises:
            SpecError: the buffer has no such spec.
        """
        if type(spec) is str and spec in self.spec_names:
            place = self.spec_names.index(spec)
        else:
            place = place_of(spec, self.specs)
        if symbol not in self.instruments:
            return None
        bars = self.bars_of(self._kernel.current(self.instruments.id(symbol), place))
        return bars[0] if bars else None

    def changed(
        self, progress: Progress, first: int = 0, *, look: int = 2**40, most: int = 2**40
    ) -> tuple[list[OHLCVBar], int]:
        """The bars in progress that are not as they were when they were last returned with this `progress`.

        Args:
            progress: of one reader, who is shown each change once; a new one is shown every open bar.
            first: where to go on: what the call before returned.
            look, most: bars looked at, and returned, at most.

        Returns:
            Each bar as `current` gives it, in order of the symbols' first appearance, then of the specs; and where to
            go on, -1 where that was all.
        """
        rows, behind = self._kernel.changed(progress, first, look, most)
        return (self.bars_of(rows) if len(rows) else []), behind

    def flush_all(self) -> list[OHLCVBar]:
        """Close every open bar (PARTIAL, `end`), in order of the symbols' first appearance, then of the specs."""
        rows = self._kernel.flush()
        return self.issue(rows, self._kernel.late())

    def flush_symbol(self, symbol: str) -> list[OHLCVBar]:
        """Close the open bars of one symbol (PARTIAL, `end`); nothing for a symbol never seen."""
        if symbol not in self.instruments:
            return []
        rows = self._kernel.flush(self.instruments.id(symbol))
        return self.issue(rows, self._kernel.late())

    def advance_clock(
        self, exchange_time_ns: int, *, feed_up: bool = True, groups: Iterable[int] | None = None
    ) -> list[OHLCVBar]:
        """The clock, corrected to the exchange's, shows this: close time bars whose grace is over.

        They are PROVISIONAL, `clock`; or, while the feed is down, GAP, `gap`. Where the feed's state differs from
        what was known, it changed now.

        Args:
            groups: of symbols, by number: those for which time passes. None: all; without connections there is one.
        """
        until_ns = exchange_time_ns - self.grace_ns
        if feed_up:
            bars = self.feed_up(exchange_time_ns)
            self._up_ns = max(self._up_ns, exchange_time_ns)
        else:
            # It can be down since the last that was heard of a symbol; and a trade as old as grace may not have come.
            bars = self.issue(self._kernel.feed_down(until_ns - 1, self._up_ns))
        reason = CloseReason.CLOCK if feed_up else CloseReason.GAP
        for group in range(self._kernel.groups) if groups is None else groups:
            bars += self.issue(self._kernel.close_until(until_ns, REASONS.index(reason), group))
        return bars

    @property
    def next_close_ns(self) -> int:
        """Before this time neither watermark nor clock closes anything, ns (2**63 - 1: nothing is open)."""
        return min(self._kernel.next_close_ns + self.grace_ns, 2**63 - 1)

    def issue(
        self, rows: IssuedRows, late: Iterable[tuple[int, int]] = (), batch: TickBatch | None = None
    ) -> list[OHLCVBar]:
        """Turn the rows that the kernel has issued into bars, pass them to the callbacks, and return them."""
        if self._kernel.begun != self._stats.series:
            self._report_series()
        if late:
            self._report_late(batch, sorted({(row, -1 - min(spec, -1)) for row, spec in late}))
        if not len(rows):
            return []
        self._stats.bars += len(rows)
        if self.sink is not None:
            self.sink(self, rows)
            return []
        bars = self.bars_of(rows)
        if self.on_bar is not None:
            for bar in bars:
                self._stats.callback_errors += not call(self.on_bar, bar)
        if self.on_bars is not None:
            self._stats.callback_errors += not call(self.on_bars, bars)
        return bars

    def bars_of(self, rows: IssuedRows | npt.NDArray[Any]) -> list[OHLCVBar]:
        """Rows that the kernel has issued, as bars."""
        bars = _maker_of(self.policy.name).make(rows, self.instruments, self.spec_names, self.policy.numbered)
        if isinstance(rows, IssuedRows) and rows.inside is not None:
            from fastbars.columnar.inside import Inside, complete  # noqa: PLC0415 for those who ask for features

            complete(bars, rows.array(), Inside(*rows.inside), self.instruments, self.specs)
        return bars

    def _report_late(self, batch: TickBatch | None, rows: list[tuple[int, int]]) -> None:
        self._stats.late += len(rows)
        if self.on_late is not None:
            # Those with a place are trades that had to wait, and are of no batch any more.
            for tick in [self._stray(at) if at or batch is None else tick_of(batch, row) for row, at in rows]:
                self._stats.callback_errors += not call(self.on_late, tick)

    def _stray(self, place: int) -> TickData:
        symbol, time_ns, price, size, side, first_id, last_id, count, _ = self._kernel.stray(place)
        return TickData(
            symbol, time_ns, to_decimal(*price), to_decimal(*size), TickSide.of(side), first_id, last_id, count,
            time_unit="ns", negative_prices=self.instruments.negative_prices,
        )  # fmt: skip

    def _report_series(self) -> None:
        from fastbars.log import SparseLog  # noqa: PLC0415 structlog is imported only when there is something to log

        assert self._kernel.ledger is not None
        self._warnings = self._warnings or SparseLog(exchange=self.instruments.exchange)
        for symbol_id, newest_id, first_id, *_ in self._kernel.ledger.begun_since(self._stats.series):
            symbol = self.instruments.symbol(symbol_id)
            self._warnings.warn("ids_began_anew", of=symbol, symbol=symbol, newest_id=newest_id, first_id=first_id)
        self._stats.series = self._kernel.begun


@cache
def _maker_of(ids: Ids) -> BarMaker[OHLCVBar]:
    return BarMaker(OHLCVBar, IdPolicy.of(ids).statuses, REASONS)


def _restored(
    kind: type[BarBuffer],
    specs: tuple[BarSpec, ...],
    settings: dict[str, Any],
    grace_ns: int,
    covers_itself: bool,
    content: dict[str, Any],
    stats: tuple[int, ...],
    others: dict[str, Any],
) -> Any:
    # Not by `kind()`: a subclass may take other arguments.
    buffer = kind.__new__(kind)
    BarBuffer.__init__(buffer, specs, **settings)
    buffer.grace_ns = grace_ns
    buffer.covers_itself = covers_itself
    buffer.load(content, continues=True)
    buffer._stats = BufferStats(*stats)
    vars(buffer).update(others)
    return buffer


def _counter_of(content: Mapping[str, Any], name: str) -> int:
    counter = content.get(name)
    if type(counter) is not int or not 0 <= counter <= _MOST_ROWS:
        raise ValueError(f"its number of {name} is {shortened(counter)}")
    return counter


def _instruments_of(content: Mapping[str, Any], own: Instruments) -> list[tuple[str, int, int, str | None]]:
    # The symbols of a snapshot, which must begin with those known already, and their scales.
    given = content.get("instruments")
    if not isinstance(given, list | tuple) or len(given) < len(own):
        raise ValueError("it lists no symbols, or fewer than are known")
    listed: list[tuple[str, int, int, str | None]] = []
    for entry in given:
        if not isinstance(entry, list | tuple) or list(map(type, entry[:3])) != [str, int, int] or len(entry) != 4:
            raise ValueError(f"its symbol {len(listed)} is {shortened(entry)}, not a name, scales and a contract size")
        symbol, price_scale, size_scale, contract_size = entry
        if not (0 <= price_scale <= MAX_SCALE and 0 <= size_scale <= MAX_SCALE):
            raise ValueError(f"its symbol {shortened(symbol)} has scales outside 0 to {MAX_SCALE}")
        if not (contract_size is None or isinstance(contract_size, str)) or len(symbol) > _LONGEST_SYMBOL:
            raise ValueError(f"its symbol {shortened(symbol)} has a contract size {shortened(contract_size)}")
        listed.append((symbol, price_scale, size_scale, contract_size))
    if len({symbol for symbol, *_ in listed}) != len(listed):
        raise ValueError("it lists a symbol twice")
    for symbol, (other, *_, contract_size) in zip(own.symbols, listed, strict=False):
        size = own.contract_size(symbol)
        if symbol != other or (size is not None and contract_size != str(size)):
            raise ValueError(f"it lists {shortened(other)} where {symbol} is known, or with another contract size")
    return listed


def place_of(spec: str | int | BarSpec, specs: Sequence[BarSpec]) -> int:
    """Which of these specs one is. Raises SpecError: none."""
    wanted = BarSpec.parse(spec)
    if wanted not in specs:
        raise SpecError(f"bar spec {wanted} is not one of {', '.join(map(str, specs))}")
    return specs.index(wanted)


def _within(time_ns: int) -> int:
    return max(-(2**63), min(time_ns, 2**63 - 1))


def wait_ns_of(seconds: float) -> int:
    """A wait in whole ns; longer ones are taken for 73 years, so that one added to a time stays within 64 bits."""
    return min(round(seconds * 1e9), _LONGEST_WAIT_NS)


def shortened(value: object) -> str:
    """A value read from a file, as short text for a message."""
    text = ascii(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
