from collections.abc import Callable, Iterable
from typing import Self, final

from fastbars.kernel.batch import TickBatch
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.recent import RecentKeys
from fastbars.wire.fields import TradeFields
from fastbars.wire.plan import ScanPlan

@final
class Spellings:
    """The symbols of messages, by their bytes, to their ids in a batch's instruments.

    Args:
        plan: of the messages.
        instruments: whose ids these are.
        new_symbol: as in TradeScanner.
    """

    def __new__(cls, plan: ScanPlan, instruments: Instruments, new_symbol: Callable[[str], int]) -> Self: ...

@final
class TradeScanner:
    """Reads trade messages straight into a batch.

    Args:
        fields: where the trades stand.
        batch: gets the rows; the caller folds it into bars and clears it.
        new_symbol: called with each symbol (and spelling of it) once; returns its id in the batch's instruments. If it
            raises FastbarsError, the message is not taken, and the name is not remembered.
        recent: keys seen, where the declaration has a `key`: a trade seen before gives no row. None: its own window.
        remembers: whether the shape of the last message is tried first; the trades are the same without.

    Raises:
        ValueError: a declaration that contradicts itself, or is larger than the tables are.
    """

    first_row: int
    """Row of the batch at which the last message taken begins."""
    def __new__(
        cls,
        fields: TradeFields,
        batch: TickBatch,
        new_symbol: Callable[[str], int],
        recent: RecentKeys | None = None,
        *,
        remembers: bool = True,
    ) -> Self: ...
    def scan(self, payload: bytes) -> bool:
        """Append the trades of a message to the batch; False, and nothing done, where Python must read it."""

    def forget(self, symbol_ids: Iterable[int]) -> None:
        """Forget the names of these symbols: `new_symbol` is asked again when one of them comes next."""

    def take_counts(self) -> tuple[int, int, int]:
        """Messages, their bytes, and trades taken since the last call."""

    @property
    def learnt_count(self) -> int:
        """Messages taken whose shape was not that of the one before."""

    def take_event_time(self) -> int | None:
        """When the exchange sent the last message taken since the last call, ns; None if it did not say."""
