from collections.abc import Callable
from typing import Any, Self

import numpy.typing as npt
from typing_extensions import disjoint_base

from fastbars.kernel.instruments import Instruments
from fastbars.kernel.rows import IssuedRows

@disjoint_base
class LineMaker:
    """Makes a line of text of each finished row.

    Args:
        fields: attributes of a bar, in the order of the line.
        heads: UTF-8, what stands before the value of each.
        end: UTF-8, what stands behind the last one.
        none: UTF-8, in place of a value that a bar does not have.
        quotes: decimals and times stand in double quotes.
        encode_name: a name (exchange, market, symbol) as it stands in a line, UTF-8.
        encode_word: likewise a bar spec, a status and a close reason.
        statuses, reasons: the members that stand for the kernel's numbers.

    Raises:
        KeyError: a field is none of a bar.
    """

    def __new__(
        cls,
        fields: tuple[str, ...],
        heads: tuple[bytes, ...],
        end: bytes,
        none: bytes,
        quotes: bool,
        encode_name: Callable[[str], bytes],
        encode_word: Callable[[str], bytes],
        statuses: tuple[str, ...],
        reasons: tuple[str, ...],
    ) -> Self: ...
    def line_of(self, bar: object) -> str | None:
        """The line of an object with these fields; None where a value is of a type that none of a made bar is."""
    def make(
        self, rows: IssuedRows | npt.NDArray[Any], instruments: Instruments, specs: tuple[str, ...], ids: bool
    ) -> list[str]:
        """One line a row, without its end.

        Args:
            rows: as a kernel issues them; or a contiguous array of ROW_DTYPE.
            instruments: names exchange, market and symbols.
            specs: texts of the bar specs.
            ids: first_id and last_id are the exchange's trade ids; else they count arrivals and are left out.
        """
