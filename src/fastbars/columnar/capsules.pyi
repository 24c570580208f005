from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

@disjoint_base
class ArrowType:
    """A type as the C data interface writes it.

    Attributes:
        format: such as "l" or "tsn:UTC".
        extension: name of the extension type; empty for none.
        children: of nested types.
        dictionary: type of the values, where this is the type of their codes.
    """

    format: str
    extension: str
    children: tuple[ArrowType, ...]
    dictionary: ArrowType | None

@disjoint_base
class ArrowData:
    """An array, or a part of one, where it lies; its memory lives as long as any view of it.

    Attributes:
        length, offset: in values, 0 to 2**48.
        null_count: -1 where it was not counted.
    """

    type: ArrowType
    @property
    def length(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def null_count(self) -> int: ...
    def has_buffer(self, place: int) -> bool:
        """There is such a buffer, and it is not missing."""

    def buffer(self, place: int, size: int) -> npt.NDArray[np.uint8]:
        """The first `size` bytes of a buffer, read-only. Raises InvalidTickError where it is missing."""

    def variadic(self) -> list[npt.NDArray[np.uint8]]:
        """The data of a view type, whose buffers say how long they are. Raises InvalidTickError."""

    def child(self, place: int) -> ArrowData:
        """One child of a nested type. Raises InvalidTickError where there is none."""

    def dictionary(self) -> ArrowData:
        """The values of a dictionary. Raises InvalidTickError where there is none."""

def read_arrays(column: Any) -> list[ArrowData]:
    """All arrays of what has `__arrow_c_stream__` or `__arrow_c_array__`.

    Raises:
        InvalidTickError: the structures contradict each other or their types, were released, or the stream failed.
    """
