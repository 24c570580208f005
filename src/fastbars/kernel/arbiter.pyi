from typing import Self, final

from fastbars.kernel.batch import TickBatch

MOST_LINES: int

def check_held(content: object, symbols: int) -> None:
    """Check what `Arbiter.dump` returned, for so many symbols. Raises ValueError: it is something else."""

@final
class Arbiter:
    """Redundant lines: passes on the first arrival of each trade, in the order of ids; lines fill each other's holes.

    Args:
        out: an empty batch, which the arbiter fills and returns; the next call uses it again. A batch that goes on
            whole is returned as it is instead.
        lines: how many lines there are, 2 to 8.
        wait_ns: how long a trade is held back for those before it.

    Attributes:
        held: trades held back now.
        duplicates: trades that had arrived before and were dropped.
        deferred: the batch returned last is not all: a trade was left out whose scale does not fit those of its symbol
            before it. Once these are folded in, `expire` or `flush` returns it.

    Raises:
        ValueError: these make no sense, or the batch has no id columns.
    """

    @property
    def held(self) -> int: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def deferred(self) -> bool: ...
    def __new__(cls, out: TickBatch, lines: int, wait_ns: int) -> Self: ...
    def take(self, batch: TickBatch, line: int, now_ns: int) -> TickBatch:
        """Take the trades that a line has brought at `now_ns` of a steady clock; returns those to fold in now."""
    def begin_anew(self, symbol_id: int, expected: int, since_ns: int) -> int:
        """The ledger found that the ids of a symbol began anew: `expected` comes next.

        Trades older than `since_ns`, when the first one of the new series was made, are of an older one: none of them
        waits for another.
        """
    def expire(self, now_ns: int) -> TickBatch:
        """What has been held back for long enough at `now_ns`."""
    def holds(self, symbol_id: int) -> bool:
        """Whether trades of a symbol are held back."""
    def dump(self) -> bytes:
        """The trades that are held back, for `load`."""
    def load(self, content: bytes) -> None:
        """Hold back the trades that `dump` returned, for `flush`. Raises ValueError: it is something else."""
    def flush(self) -> TickBatch:
        """Everything that is held back."""
    @property
    def next_release_ns(self) -> int:
        """When something held back will have waited long enough; 2**63 - 1: nothing is held."""
    def counted(self, line: int) -> tuple[int, int, int, int, int]:
        """Of one line: trades it brought first, again, and not at all; how often and by how long (ns) it led another.

        A trade counts as missed once 256 later trades of its symbol have come. Times are compared of as many.
        """
