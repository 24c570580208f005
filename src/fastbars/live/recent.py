"""RecentKeys: whether a trade was seen before, where its id is unique but no number that rises.

Units: keys, of which at most `limit` are remembered, the latest ones.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b

_LIMIT = 1 << 17


class RecentKeys:
    """A bounded window of trade keys, kept as 128-bit hashes: about 150 bytes a key, however long the keys are.

    Two different keys of a full window have equal hashes with a probability of about 2**-94.

    Args:
        limit: keys remembered; the oldest is forgotten first.
    """

    def __init__(self, limit: int = _LIMIT) -> None:
        self._hashes: set[bytes] = set()
        self._order: deque[bytes] = deque()
        self._limit = limit

    def __len__(self) -> int:
        return len(self._order)

    def add(self, symbol: str, key: str) -> bool:
        """Remember a trade. False: it is remembered already."""
        digest = blake2b(f"{symbol}\0{key}".encode(), digest_size=16).digest()
        if digest in self._hashes:
            return False
        if len(self._order) >= self._limit:
            self._hashes.discard(self._order.popleft())
        self._hashes.add(digest)
        self._order.append(digest)
        return True
