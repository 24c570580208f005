from typing import Self

from typing_extensions import disjoint_base

@disjoint_base
class RecentKeys:
    """A bounded window of trade keys, kept as 128-bit hashes: 48 to 80 bytes a key, however long the keys are.

    Two different keys of a full window have equal hashes with a probability of about 2**-94.

    Args:
        limit: keys remembered; the oldest is forgotten first.

    Raises:
        ValueError: `limit` is not positive.
    """

    def __new__(cls, limit: int = 131072) -> Self: ...
    def __len__(self) -> int: ...
    def add(self, symbol: str, key: str, time_ns: int = 0) -> bool:
        """Remember a trade of this symbol, key and time. False: it is remembered already."""
