from decimal import Decimal
from typing import Any, Self

from typing_extensions import disjoint_base

@disjoint_base
class Instruments:
    """The symbols of one market: symbol <-> id, with each symbol's own scales.

    Args:
        exchange, market: as bars name them, such as "binance" and "usdm"; put before the symbol in error messages.
        negative_prices: prices may be zero or negative (spreads, oil); else such a price is refused.

    Attributes:
        venue: exchange and market with a space between them; empty where neither is named.
    """

    count: int
    exchange: str
    market: str
    venue: str
    version: int
    negative_prices: bool
    def __new__(cls, exchange: str = "", negative_prices: bool = False, market: str = "") -> Self: ...
    def __len__(self) -> int: ...
    def __contains__(self, symbol: object, /) -> bool: ...
    def add(
        self,
        symbol: str,
        price_scale: int = 0,
        size_scale: int = 0,
        contract_size: str | int | Decimal | None = None,
    ) -> int:
        """The id of `symbol`, which is added where it is new; a scale is widened, never narrowed.

        Args:
            price_scale: decimals of its prices (0 to 18), where known beforehand.
            size_scale: decimals of its sizes (0 to 18), where known beforehand.
            contract_size: of an inverse contract, in quote units a contract: bars then count contracts
                as volume, and contracts x contract size as quote volume.

        A trade that needs more decimals widens a scale by itself, when a buffer takes it. Bars that have no room for a
        scale given here keep theirs, and then only trades that need more are refused.

        Raises:
            PrecisionError: a scale outside 0 to 18; a contract size that is not positive, comes after the first trade,
                or where prices may be negative.
        """

    def id(self, symbol: str) -> int:
        """The id of a known symbol. Raises KeyError for others."""

    def symbol(self, symbol_id: int) -> str:
        """The symbol with this id. Raises IndexError."""

    def label(self, symbol_id: int) -> str:
        """ "exchange market SYMBOL", as error messages name it."""

    def scales(self, symbol: str) -> tuple[int, int]:
        """(price_scale, size_scale) as they stand now."""

    def contract_size(self, symbol: str) -> Decimal | None:
        """Quote units a contract on an inverse market, else None."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, in the order of their ids."""
    def __reduce__(self) -> tuple[Any, ...]: ...
