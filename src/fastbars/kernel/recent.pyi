from collections.abc import Mapping
from typing import Any, Self

from typing_extensions import disjoint_base

@disjoint_base
class RecentKeys:
    """The latest trade keys of each symbol, kept as 128-bit hashes: 24 to 48 bytes a key, however long the keys are.

    Two different keys of a full window have equal hashes with a probability of about 2**-88.

    Args:
        least: keys of each symbol that are remembered however old they are; then the oldest is forgotten first.
        most: keys in all, beyond which no symbol gets more than `least`: this and `least` a symbol are the bound.
        window_ns: keys of trades that are not older than that, before the newest of their symbol, are remembered too.

    Raises:
        ValueError: `least`, `most` or `window_ns` is out of range.
    """

    def __new__(cls, least: int = 1024, most: int = 1048576, window_ns: int = 60_000_000_000) -> Self: ...
    def __len__(self) -> int: ...
    def add(self, symbol_id: int, key: str, time_ns: int = 0) -> bool:
        """Remember a trade of this symbol, key and time. False: it is remembered already."""

    def dump(self, symbols: int) -> dict[str, bytes]:
        """The state of this many symbols, for `load`."""

    def load(self, parts: Mapping[str, Any], symbols: int) -> None:
        """Go on from what `dump` returned, checked before it is used.

        Raises:
            ValueError: it is damaged; nothing has changed.
        """
