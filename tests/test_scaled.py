"""Scaled decimals: text, Decimal and int to mantissa and scale and back, exact or refused."""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact
from fractions import Fraction

import pytest
from hypothesis import example, given, strategies as st

from fastbars.errors import FastbarsError, PrecisionError
from fastbars.kernel.limits import MAX_SCALE
from fastbars.kernel.scaled import MAX_TEXT, parse, to_decimal, to_scaled, to_text

LARGEST = 2**63 - 1
EXACT = Context(prec=200, traps=[Inexact])


def reference(text: str) -> tuple[int, int] | None:
    """The smallest mantissa and scale of a decimal text by fractions alone; None if there is none."""
    match = re.fullmatch(r"([+-]?)([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?", text)
    if not match or not match[2] + match[3] or len(text) > MAX_TEXT:
        return None
    number = Fraction(int(match[2] + match[3]), 10 ** len(match[3])) * Fraction(10) ** int(match[4] or 0)
    for scale in range(MAX_SCALE + 1):
        mantissa = number * 10**scale
        if mantissa.denominator == 1:
            return None if mantissa > LARGEST else (int(-mantissa if match[1] == "-" else mantissa), scale)
    return None


@given(st.from_regex(r"[+-]?[0-9]{0,22}(\.[0-9]{0,22})?([eE][+-]?[0-9]{1,2})?", fullmatch=True))
@example("61837.63000000")
@example("00000000000000000000000000000000000000000000001.10")
@example("9223372036854775807")
@example("9223372036854775808")
@example("0.000000000000000001")
@example("0.0000000000000000001")
@example("1000000000000000000000e-21")
@example("0e99")
@example("-.5")
@example(".")
@example("")
def test_text_parses_to_the_smallest_scale_or_is_refused(text: str) -> None:
    wanted = reference(text)
    if wanted is None:
        with pytest.raises(PrecisionError):
            parse(text)
    else:
        assert parse(text) == wanted
        assert parse(text.encode()) == wanted
        assert parse(Decimal(text)) == wanted


@given(st.text(alphabet="0123456789.eE+-_ xXnaif\x00٣", max_size=12))
@example("1_000")
@example(" 1")
@example("1\x00")
@example("٣")
@example("nan")
@example("Infinity")
@example("1e")
@example("1e+")
@example("1.2.3")
@example("--1")
@example("0x10")
def test_whatever_is_not_plain_decimal_text_is_refused(text: str) -> None:
    wanted = reference(text)
    if wanted is None:
        with pytest.raises(PrecisionError):
            parse(text)
    else:
        assert parse(text) == wanted


@given(st.integers(-LARGEST, LARGEST), st.integers(0, MAX_SCALE))
def test_what_is_written_as_text_or_decimal_reads_back_equal(mantissa: int, scale: int) -> None:
    number = Fraction(mantissa, 10**scale)
    for written in (to_text(mantissa, scale), to_decimal(mantissa, scale)):
        own, own_scale = parse(written)
        assert Fraction(own, 10**own_scale) == number
        assert own_scale == 0 or own % 10 != 0


@given(st.integers(-(2**127), 2**127 - 1), st.integers(0, 54))
@example(1000, 0)
@example(10**38, 36)
@example(-(2**127), 36)
def test_decimals_are_exact_and_plain_without_trailing_zeros(mantissa: int, scale: int) -> None:
    value = to_decimal(mantissa, scale)
    assert EXACT.multiply(value, EXACT.power(Decimal(10), scale)) == mantissa
    text = to_text(mantissa, scale)
    assert Fraction(text) == Fraction(mantissa, 10**scale)
    assert "E" not in text
    assert "." not in text or text[-1] != "0"
    assert text == f"{value:f}"


def test_a_round_number_is_written_without_an_exponent() -> None:
    assert str(to_decimal(10000, 2)) == "100"
    assert str(to_decimal(0, 18)) == "0"
    assert str(to_decimal(-50, 1)) == "-5"


@given(st.integers(-LARGEST, LARGEST), st.integers(0, MAX_SCALE), st.integers(0, MAX_SCALE))
@example(1, 0, 18)
@example(10, 0, 18)
@example(LARGEST, 0, 1)
def test_a_mantissa_at_a_fixed_scale_is_exact_or_refused(mantissa: int, scale: int, fixed: int) -> None:
    wanted = Fraction(mantissa, 10**scale) * 10**fixed
    if wanted.denominator == 1 and -(2**63) <= wanted < 2**63:
        assert to_scaled(to_decimal(mantissa, scale), fixed) == wanted
    else:
        with pytest.raises(PrecisionError):
            to_scaled(to_decimal(mantissa, scale), fixed)


def test_too_many_decimals_for_a_fixed_scale_name_the_value_and_both_scales() -> None:
    with pytest.raises(PrecisionError, match=r"'42219\.95123' needs 5 decimals, the scale is fixed at 2"):
        to_scaled("42219.95123", 2)


@pytest.mark.parametrize("scale", [-1, 19])
def test_a_scale_outside_0_to_18_is_refused(scale: int) -> None:
    with pytest.raises(PrecisionError, match=rf"scale {scale} is outside 0 to 18"):
        to_scaled("1", scale)


@pytest.mark.parametrize("value", [1.5, float("nan"), None, True, [1], 1j])
def test_a_float_and_other_types_are_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="str, bytes, int or Decimal"):
        parse(value)  # type: ignore[arg-type]


def test_text_longer_than_the_limit_is_refused_with_both_lengths() -> None:
    assert parse("1." + "0" * (MAX_TEXT - 2)) == (1, 0)
    with pytest.raises(PrecisionError, match=rf"has {MAX_TEXT + 1} characters, the limit is {MAX_TEXT}"):
        parse("1." + "0" * (MAX_TEXT - 1))


def test_a_long_value_is_cut_short_in_the_message() -> None:
    with pytest.raises(PrecisionError, match=r"'9{48}\.\.\.' does not fit"):
        parse("9" * 60)
    with pytest.raises(PrecisionError, match=r"b'9{48}\.\.\.' does not fit"):
        parse(b"9" * 60)


def outcome(value: str | Decimal) -> object:
    try:
        return parse(value)
    except PrecisionError as error:
        return str(error).replace(repr(value), repr(str(value)))


@given(
    st.builds(
        lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
        st.integers(0, 1), st.lists(st.integers(0, 9), min_size=1, max_size=40).map(tuple), st.integers(-400, 400),
    )
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.decimals(-(2**63), 2**63, places=3).map(lambda value: value * 1),
)  # fmt: skip
@example(Decimal("9223372036854775807"))
@example(Decimal("9223372036854775808"))
@example(Decimal("-9223372036854775808"))
@example(Decimal("1E+18"))
@example(Decimal("1000000000000000000E-36"))
@example(Decimal("-0.00"))
def test_a_decimal_is_read_as_its_text_is(value: Decimal) -> None:
    assert outcome(value) == outcome(str(value))


def test_a_decimal_that_is_not_finite_is_refused() -> None:
    for text in ("NaN", "sNaN", "Infinity", "-Infinity"):
        with pytest.raises(PrecisionError, match="is not a finite decimal number"):
            parse(Decimal(text))


def test_a_precision_error_is_a_value_error_and_a_fastbars_error_without_a_row() -> None:
    with pytest.raises(PrecisionError, match="more than 18 decimals") as caught:
        parse("1e-19")
    assert caught.value.row is None
    assert issubclass(PrecisionError, ValueError)
    assert issubclass(PrecisionError, FastbarsError)
