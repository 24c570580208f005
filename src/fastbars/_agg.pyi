from collections.abc import Iterable
from typing import Any, Protocol, Self, final

import numpy as np
import numpy.typing as npt

from fastbars.kernel.batch import TickBatch
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.progress import Progress
from fastbars.kernel.rows import IssuedRows

class _Spec(Protocol):
    @property
    def rule(self) -> tuple[str, int, int]: ...
    @property
    def boundaries(self) -> npt.NDArray[np.int64] | None: ...

@final
class BarKernel:
    """Folds batches of trades into bars of every spec: the one door to the kernel.

    Args:
        instruments: the symbols and their scales.
        specs: one or more bar specs.
        ledger: follows the trade ids; None where they prove nothing, and trades are ordered by time, arrival.
        proof: the ids stand for every trade, so that bars can be COMPLETE.
        lateness_ns: how long after its close_time, in event time, a bar can still be amended, ns.
        horizon_ns: likewise, for a bar into which a hole reaches, or whose end is not proven.
        fill: issue intervals without trades, flat at the last close.
        recut_trades: most trades of a symbol and anchored spec that are kept to cut its bars again.
    """

    instruments: Instruments
    ledger: Ledger | None
    def __new__(
        cls,
        instruments: Instruments,
        specs: Iterable[_Spec],
        ledger: Ledger | None = None,
        proof: bool = True,
        lateness_ns: int = 60_000_000_000,
        horizon_ns: int = 3_600_000_000_000,
        fill: bool = False,
        recut_trades: int = 200_000,
    ) -> Self: ...
    @property
    def specs(self) -> tuple[Any, ...]: ...
    @property
    def proof(self) -> bool: ...
    @property
    def fill(self) -> bool: ...
    @property
    def lateness_ns(self) -> int: ...
    @property
    def horizon_ns(self) -> int: ...
    @property
    def groups(self) -> int:
        """How many groups of symbols there are; symbols begin in group 0."""

    @property
    def next_close_ns(self) -> int:
        """No open time bar closes before this time, ns."""

    @property
    def duplicates(self) -> int: ...
    @property
    def voids(self) -> int:
        """Rows of size 0 folded in: their ids are used up, and nothing was traded."""

    @property
    def begun(self) -> int:
        """How often the trade ids of a symbol began anew."""

    @property
    def healed(self) -> int:
        """Trades folded in by `heal`."""

    @property
    def ordinary_closes(self) -> int:
        """Bars that were closed the short way: nothing was in doubt. (Refused batches count too.)"""

    @property
    def footprints_lost(self) -> int:
        """Bars with more price levels than a footprint can have."""

    @property
    def is_blank(self) -> bool:
        """Whether no trade was folded in, and no loss noted."""

    @property
    def trade_times_ns(self) -> npt.NDArray[np.int64]:
        """int64[n], time of the latest trade of each symbol by its id, ns."""

    def update(
        self, batch: TickBatch, ends: bool = False, places: npt.NDArray[np.int32] | None = None
    ) -> tuple[IssuedRows, list[tuple[int, int]]]:
        """Fold a batch of trades in: all of it or, if this raises, nothing.

        Args:
            batch: the trades.
            ends: also issue, after the others, what `flush` would.
            places: int32[n], the rows to be folded in, ascending; the others are ignored. None: all.

        Returns:
            (rows, late): the bars issued, in the order of the trades that
            caused them, then of the specs; and (row of the batch, index of the spec) of each trade that came
            too late for its bar, the index -1 where the ledger could not place it. An index below -1: not that
            trade, but one before it that had to wait; `stray(-1 - index)` has it.

        Raises:
            InvalidTickError: a row breaks a rule; the message and `row` name it.
            PrecisionError: with a row a sum leaves 128 bits; likewise.
            IndexError: `places` are not ascending, or no rows of the batch.
        """

    def heal(self, batch: TickBatch) -> tuple[IssuedRows, list[tuple[int, int]]]:
        """Fold in those trades of one symbol, from REST, that lie in holes, and ignore the others.

        Each bar that changes is issued once. Returns and raises as `update` does; also InvalidTickError where ids
        prove nothing, or for trades of several symbols.
        """

    def close_until(self, time_ns: int, reason: int, group: int = 0) -> IssuedRows:
        """Issue the open time bars of a group whose close_time is at or before `time_ns`; reason indexes CloseReason.

        It costs nothing where none is due, and looks at no symbol of another group.
        """

    def flush(self, symbol_id: int | None = None) -> IssuedRows:
        """Issue every open bar (of one symbol), in order of first appearance, then of the specs.

        Trades that wait for others of a new series of ids are taken as one first.
        """

    def late(self) -> list[tuple[int, int]]:
        """The trades that `flush` could not place, as `update` has them."""

    def stray(self, place: int) -> tuple[str, int, tuple[int, int], tuple[int, int], int, int, int, int, int]:
        """A trade that waited in vain, as the last call reported it (from 1 on).

        Returns (symbol, time_ns, price, size, side, first_id, last_id, count, number of its row among all rows folded
        in); price and size are (mantissa, scale).

        Raises:
            IndexError: there is none.
        """

    def current(self, symbol_id: int, spec: int) -> IssuedRows:
        """The open bar of a symbol and spec as one row, its status as known now; no row while none is open.

        Raises:
            IndexError: there is no such symbol or spec.
        """

    def changed(self, progress: Progress, first: int, look: int, most: int) -> tuple[IssuedRows, int]:
        """Open bars with trades that are not as they were when they were last returned with this `progress`.

        Args:
            first: the pair to begin with; a pair is (symbol id) x (number of specs) + (index of the spec).
            look, most: pairs looked at, and rows returned, at most.

        Returns:
            (rows, next): in order of the pairs, each as `current` has it; and the first pair not looked at, -1 where
            that was all.

        Raises:
            ValueError: `progress` is of a kernel with another number of specs.
        """

    def feed_down(self, time_ns: int, up_ns: int = 2**63 - 1) -> IssuedRows:
        """`uncover`, since this time (ns), of all symbols that are wanted; nothing changes where it is down already.

        Args:
            up_ns: it was up then; of each symbol the gap begins with the last that was heard since.
        """

    def feed_up(self, time_ns: int) -> IssuedRows:
        """`cover`, from this time (ns) on, of all symbols that are lost; nothing changes where it is up already."""

    covers_itself: bool
    """Whether a symbol's first trade covers it, and a flush ends that; else only `cover` and `uncover` do."""

    def cover(self, symbol_ids: npt.ArrayLike, from_ns: int) -> IssuedRows:
        """The symbols are covered from this time (ns) on. Returns the rows that this issues, as the next three do.

        Raises:
            IndexError: a symbol id is not known; nothing has changed. Likewise for the next three.
        """

    def uncover(self, symbol_ids: npt.ArrayLike, since_ns: int, lost: bool = True) -> IssuedRows:
        """Not every trade of the symbols is received since this time (ns); where not `lost`, nobody wants them."""

    def lose(self, symbol_ids: npt.ArrayLike, since_ns: int, until_ns: int, trades: int = 0) -> IssuedRows:
        """Trades between these times (ns, inclusive) may be lost; `trades` of them are, whatever their ids say."""

    def bridge(self, symbol_ids: npt.ArrayLike, since_ns: int, until_ns: int) -> IssuedRows:
        """No trade was missed between these times (ns, inclusive)."""

    def gaps(self, symbol_id: int) -> list[tuple[int, int, bool]]:
        """(since, until, lost) of each gap in the symbol's coverage, in order of time; 2**63 - 1: it is open."""

    def advance_watermark(self, time_ns: int, group: int = 0) -> None:
        """Event time has reached `time_ns` (ns) for the symbols of a group: it ages the bars that can be amended."""

    def add_group(self) -> int:
        """Add a group, without symbols; returns its number."""

    def set_group(self, symbol_ids: Iterable[int], group: int) -> None:
        """Move symbols to a group.

        What is closed stays closed: the event time of a symbol does not fall where the group is behind.
        """

    def restart_group(self, group: int, watermark_ns: int) -> None:
        """Give a group without symbols another watermark. Raises ValueError: it has symbols."""

    def group_of(self, symbol_id: int) -> int:
        """The group that a symbol is in."""

    def next_close_in(self, group: int) -> int:
        """No open time bar of a group closes before this time, ns."""

    def watermark_of(self, symbol_id: int) -> int:
        """The latest watermark that a symbol has seen, ns; -(2**63) before the first."""

    def hold(self, symbol_id: int, held: bool) -> None:
        """Trades of a symbol wait elsewhere for earlier ones, or no longer do; while they wait it is not closed."""

    def note_lost(self, symbol_id: int, time_ns: int) -> IssuedRows:
        """A trade of this symbol and time was refused: `lose`, and the symbol begins, where it has not."""

    def beginning(self, symbol_id: int, longest_ns: int) -> list[tuple[int, int, int]]:
        """Where a symbol began inside bars that can still be amended: (id, time, open_time) of each, ascending.

        Bars that open more than `longest_ns` before the first trade do not count.
        """

    def leave_out(self, symbol_id: int, ranges: Iterable[tuple[int, int]]) -> IssuedRows:
        """Mark ids that the exchange's history leaves out: missing ones become unpublished. Returns ROW_DTYPE rows.

        Raises:
            InvalidTickError: a range holds something other than ids.
        """

    def reach_back(self, symbol_id: int, trade_id: int, time_ns: int) -> IssuedRows:
        """Open a hole, for `heal`, between a trade from REST and the symbol's first one.

        Bars that open after that trade have a proven beginning. Returns those that lack nothing, as `update` does.
        """

    def dump(self, recycled: dict[str, Any] | None = None) -> dict[str, Any]:
        """The whole state as numbers and bytes, for `load` in a process of the same build.

        Args:
            recycled: what an earlier `dump` returned and nobody needs any more: its memory is used again, and what is
                left in it is of no use. None: all of it is made anew, which takes three times as long.
        """

    def load(self, parts: dict[str, Any], continues: bool = False) -> None:
        """Restore what `dump` returned; symbols and scales must be known already. All of it is checked.

        Unless nothing was issued since, revisions go on at the next multiple of 1,000.

        Raises:
            ValueError: this kernel has trades, or the dump is of another build or another shape, or damaged; the
                kernel has not changed.
        """
