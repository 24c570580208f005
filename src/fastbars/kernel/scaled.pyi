from decimal import Context, Decimal

MAX_TEXT: int
DECIMALS: Context
"""For arithmetic that must not depend on the caller's context: 200 digits, and what is no number raises
`decimal.InvalidOperation`."""

def parse(value: str | bytes | int | Decimal) -> tuple[int, int]:
    """Read a number exactly.

    Args:
        value: decimal text (`-12.50`, `1e-7`, leading zeros allowed), int or Decimal.

    Returns:
        (mantissa, scale) with value == mantissa x 10**-scale, the smallest scale that holds it,
        -2**63 < mantissa < 2**63 and 0 <= scale <= 18. Zero of any sign and scale is (0, 0).

    Raises:
        PrecisionError: not a finite decimal number, empty, longer than 128 characters, more than 18
            significant decimals, or a mantissa beyond 64 bits.
        TypeError: a float or another type.
    """

def to_scaled(value: str | bytes | int | Decimal, scale: int) -> int:
    """The mantissa of `value` at a fixed scale.

    Raises:
        PrecisionError: `value` needs more decimals than `scale`, or does not fit 64 bits there.
    """

def to_decimal(mantissa: int, scale: int) -> Decimal:
    """mantissa x 10**-scale as a Decimal, exact, without trailing zeros (100, not 1E+2)."""

def to_text(mantissa: int, scale: int) -> str:
    """mantissa x 10**-scale in plain notation: no exponent, no trailing zeros."""
