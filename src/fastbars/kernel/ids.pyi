from typing import Any, Self, final

@final
class Ledger:
    """Which trade ids of each symbol were seen.

    Args:
        most_holes: holes kept a symbol; past that the oldest is forgotten and its bars stay in doubt.
        first_id: the id of a symbol's first trade: before it there is none. None: it is not known.
    """

    def __new__(cls, most_holes: int = 4096, first_id: int | None = None) -> Self: ...
    def missing(self, symbol_id: int) -> list[tuple[int, int]]:
        """The holes of a symbol: (first missing id, last missing id), ascending."""

    @property
    def opened(self) -> int:
        """Holes opened so far; it rises with each new one, for healers."""

    def holes(
        self, symbol_id: int, first: int = 0, last: int = 0x7FFFFFFFFFFFFFFF, unpublished: bool = False
    ) -> list[tuple[int, int, int, int]]:
        """(first, last, since_ns, until_ns) of each hole, ascending by id.

        Where ids began anew: holes of the series before are listed as long as the new ids have not come that far.
        """

    @property
    def begun(self) -> int:
        """How often the ids of a symbol began anew."""

    def begun_since(self, number: int) -> list[tuple[int, int, int, int, int]]:
        """The symbols whose ids began anew since `begun` was `number`, in that order.

        Of each: (its number, newest id before, first id of the new series, the id that comes next, time of the new
        series' first trade).
        """

    def dump(self, symbols: int) -> dict[str, Any]:
        """What is known of the first `symbols` symbols, as numbers and bytes."""

    def load(self, parts: dict[str, Any], symbols: int) -> None:
        """Take over what `dump` returned. Raises ValueError where it is of another build or shape."""

    def expected(self, symbol_id: int) -> int | None:
        """The id that comes next; None before the first trade."""
