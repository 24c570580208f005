from typing import Self, final

from fastbars.wire.fields import TradeFields

@final
class ScanPlan:
    """Where the trades of a message stand, as tables that compiled code follows.

    Args:
        fields: the declaration.
        remembers: whether the shape of the last message is tried first; the trades are the same without.

    Raises:
        ValueError: a declaration that contradicts itself, or is larger than the tables are.
    """

    def __new__(cls, fields: TradeFields, *, remembers: bool = True) -> Self: ...
