from collections.abc import Iterable
from typing import Any, Self, final

@final
class SpecTrees:
    """The specs of a kernel as its rules, and which time spec feeds which.

    Raises:
        SpecError: a spec makes no rule that the kernel could follow.
    """

    specs: tuple[Any, ...]
    def __new__(cls, specs: Iterable[Any]) -> Self: ...
