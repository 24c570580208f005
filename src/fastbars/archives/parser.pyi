from collections.abc import Mapping, Sequence
from typing import final

from fastbars.archives.columns import TradeColumns

LONGEST_LINE: int

@final
class CsvParser:
    """The text of a file, in pieces cut anywhere, to blocks of trades; no object is made for a row.

    Usual numbers and words are read where they lie. What is in quotes, has an exponent or a sign, or is unusual
    otherwise is read by the same rules, slowly.

    Args:
        roles: what each column of a row holds, a `Role` each; a row with more or fewer columns is an error.
        separator: between columns, one byte.
        unit_ns: what an integer time counts, ns; fractions of it are taken down to ns. 0: times are texts (RFC 3339).
        span_ns: times outside are an error: (first, behind the last).
        sides: sign of each text in the column of sides, at most 8 bytes.
        symbol: of all rows, where no column says.
        block_rows: most rows of a block.
    """

    lines: int
    """Lines taken so far, blank ones included; it may be set, where lines were taken before."""
    def __new__(
        cls,
        roles: Sequence[int],
        *,
        separator: bytes = b",",
        unit_ns: int,
        span_ns: tuple[int, int],
        sides: Mapping[str, int],
        symbol: str | None,
        block_rows: int = 32768,
    ) -> CsvParser: ...
    def feed(self, piece: bytes) -> bool:
        """Take the next piece of the text; an empty one ends it.

        Returns whether a block is full: then `block` has it, and `go_on` takes the rest of the piece.

        Raises:
            ValueError: a row is malformed; its argument is (line, place of the column or -1, value, reason). The rows
                before it can be taken by `block`.
        """

    def go_on(self) -> bool:
        """Take the lines that waited while a block was full. Returns and raises as `feed` does."""

    @property
    def can_skip(self) -> bool:
        """Whether what was refused is a whole line, which can be left out."""

    def skip(self) -> bool:
        """Leave out the line that was refused, and go on. Returns and raises as `feed` does.

        Raises:
            RuntimeError: no line was.
        """

    def block(self) -> TradeColumns | None:
        """The rows taken since the last block; None: there is none."""
