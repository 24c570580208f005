"""What is inside bars, of specs with features: footprints and flow, beside the rows that they belong to.

A row that has something inside has 1 + its number in the column "inside", so that parts of a batch share all of it.
Numbers are those of `shown`, as a kernel has issued them, then those of `given`.

Units: mantissas at the scales of the row; a level of number n begins at n times the step of its spec.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbars.bars import FEATURE_FIELDS, FootprintLevel, OHLCVBar
from fastbars.kernel.fields import LEVEL_DTYPE, NO_TIME, SHOWN_DTYPE
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.rows import IssuedRows
from fastbars.kernel.scaled import parse
from fastbars.specs import BarSpec

_EXACT = Context(prec=256, traps=[])
_ROUGH = Context(prec=120, traps=[])
_DEVIATION = Context(prec=28, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, traps=[])

Rows = npt.NDArray[Any]
Values = dict[str, Any]
"""FEATURE_FIELDS of a bar; and "squares", the exact sum of price x price x size, None where it is not known."""
NOTHING: Values = dict.fromkeys((*FEATURE_FIELDS, "squares"))


class Inside(NamedTuple):
    """What is inside the bars of some rows.

    Attributes:
        shown: of `fastbars.kernel.fields.SHOWN_DTYPE`.
        levels: of LEVEL_DTYPE.
        given: of bars that no kernel has issued as they are.
    """

    shown: Rows
    levels: Rows
    given: Sequence[Values] = ()

    @classmethod
    def of(cls, rows: object) -> Inside | None:
        """That of rows which a kernel has issued; None: no spec asks for anything."""
        return cls(*rows.inside) if isinstance(rows, IssuedRows) and rows.inside is not None else None

    @classmethod
    def of_values(cls, given: Sequence[Values]) -> Inside:
        """That of rows with the numbers of these values."""
        return cls(np.empty(0, SHOWN_DTYPE), np.empty(0, LEVEL_DTYPE), given)

    def values(self, row: Any, spec: BarSpec, *, inverse: bool) -> Values:
        """What is inside the bar of a row of a spec. Raises IndexError: it has another number than there are."""
        number = int(row["inside"]) - 1
        if not 0 <= number < len(self.shown) + len(self.given):
            raise IndexError(f"a row has number {number + 1} inside, there are {len(self.shown) + len(self.given)}")
        if number >= len(self.shown):
            return self.given[number - len(self.shown)]
        shown, scale = self.shown[number], int(row["size_scale"])
        values = dict(NOTHING)
        for feature in spec.features:
            name, _, step = feature.partition(":")
            if name == "footprint" and shown["count"] >= 0:
                values["footprint"] = self._footprint(int(shown["first"]), int(shown["count"]), step, scale)
            if name == "flow":
                values["delta"] = _decimal(_whole(shown["delta"]), scale)
                squares = int.from_bytes(shown["squares"].astype("<u4").tobytes(), "little")
                values["squares"] = Decimal(squares).scaleb(-2 * int(row["price_scale"]) - scale, _EXACT)
                values["vwap_deviation"] = _deviation(row, values["squares"], inverse=inverse)
                if row["count"] and not shown["unordered"]:
                    values["delta_high"] = _decimal(_whole(shown["highest"]), scale)
                    values["delta_low"] = _decimal(_whole(shown["lowest"]), scale)
        return values

    def _footprint(self, first: int, count: int, step: str, scale: int) -> tuple[FootprintLevel, ...]:
        if not 0 <= first <= first + count <= len(self.levels):
            raise IndexError(f"levels {first} to {first + count} are outside the {len(self.levels)} that there are")
        mantissa, step_scale = parse(step)
        return tuple(
            FootprintLevel(
                _decimal(number * mantissa, step_scale),
                *(_decimal(low + (high << 64), scale) for low, high in (bought, sold, unknown)),
            )
            for number, sold, unknown, bought in self.levels[first : first + count].tolist()
        )


def joined(parts: Sequence[tuple[Rows, Inside | None]]) -> Inside | None:
    """What is inside the rows of several parts; their column "inside" is numbered anew, in place."""
    there = [(rows, inside) for rows, inside in parts if inside is not None]
    if not there:
        return None
    all_shown = sum(len(inside.shown) for _, inside in there)
    shown, levels, given = list[Rows](), list[Rows](), list[Values]()
    for rows, inside in there:
        own = inside.shown.copy()
        numbers = rows["inside"]
        of_kernel = sum(len(each) for each in shown)
        rows["inside"] = np.where(
            numbers > len(own),
            numbers - len(own) + all_shown + len(given),
            np.where(numbers > 0, numbers + of_kernel, 0),
        )
        own["first"] += sum(len(each) for each in levels)
        shown.append(own)
        levels.append(inside.levels)
        given += inside.given
    return Inside(np.concatenate(shown), np.concatenate(levels), given)


def complete(
    bars: Sequence[OHLCVBar], rows: Rows, inside: Inside, instruments: Instruments, specs: Sequence[BarSpec]
) -> None:
    """Put what is inside bars, just made of these rows, into them."""
    for place in np.flatnonzero(rows["inside"]).tolist():
        values = values_at(rows[place], inside, instruments, specs)
        for name in FEATURE_FIELDS:
            object.__setattr__(bars[place], name, values[name])


def values_at(row: Any, inside: Inside, instruments: Instruments, specs: Sequence[BarSpec]) -> Values:
    """What is inside the bar of a row that has a number."""
    inverse = bool(instruments.contract_size(instruments.symbol(int(row["symbol_id"]))))
    return inside.values(row, specs[int(row["spec"])], inverse=inverse)


def of_bars(bars: Iterable[OHLCVBar], rows: Rows) -> Inside | None:
    """What is inside bars made by hand, or by `to_bars`; the rows made of them get its numbers."""
    given: list[Values] = []
    for place, bar in enumerate(bars):
        values = {name: getattr(bar, name) for name in FEATURE_FIELDS}
        if any(value is not None for value in values.values()):
            given.append({**values, "squares": None})
            rows["inside"][place] = len(given)
    return Inside.of_values(given) if given else None


def merged(row: Any, mine: tuple[Any, Values], other: tuple[Any, Values], *, ids: bool, inverse: bool) -> Values:
    """What is inside the bar of a row that was merged from two bars, each a row and what is inside it.

    Largest and smallest delta are known where the trades of the one all come before those of the other.
    """
    values = dict(NOTHING)
    one, two = mine[1], other[1]
    if one["footprint"] is not None and two["footprint"] is not None:
        levels: dict[Decimal, list[Decimal]] = {}
        for level in (*one["footprint"], *two["footprint"]):
            volumes = levels.setdefault(level.price, [Decimal(0)] * 3)
            for place, volume in enumerate(level[1:]):
                volumes[place] = _plain(_EXACT.add(volumes[place], volume))
        values["footprint"] = tuple(FootprintLevel(price, *levels[price]) for price in sorted(levels))
    if one["delta"] is not None and two["delta"] is not None:
        values["delta"] = _plain(_EXACT.add(one["delta"], two["delta"]))
        first, last = (mine, other) if _is_before(mine[0], other[0], ids=ids) else (other, mine)
        if not first[0]["count"] or not last[0]["count"]:
            traded = mine if mine[0]["count"] else other
            values["delta_high"], values["delta_low"] = traded[1]["delta_high"], traded[1]["delta_low"]
        elif _is_before(first[0], last[0], ids=ids) and None not in (first[1]["delta_high"], last[1]["delta_high"]):
            before = first[1]["delta"]
            values["delta_high"] = max(first[1]["delta_high"], _plain(_EXACT.add(before, last[1]["delta_high"])))
            values["delta_low"] = min(first[1]["delta_low"], _plain(_EXACT.add(before, last[1]["delta_low"])))
        if one["squares"] is not None and two["squares"] is not None:
            values["squares"] = _EXACT.add(one["squares"], two["squares"])
            values["vwap_deviation"] = _deviation(row, values["squares"], inverse=inverse)
    return values


def _is_before(one: Any, other: Any, *, ids: bool) -> bool:
    if ids:
        return bool(one["last_id"] < other["first_id"])
    return bool(NO_TIME != one["last_trade_time"] < other["first_time"])


def _deviation(row: Any, squares: Decimal, *, inverse: bool) -> Decimal | None:
    # The root of the mean square less the square of the mean, both over the volume v: root(v x squares - quote^2) / v.
    if inverse or not row["count"]:
        return None
    volume = Decimal(_whole(row["volume"])).scaleb(-int(row["size_scale"]), _EXACT)
    quote = Decimal(_whole(row["quote_volume"])).scaleb(-int(row["quote_scale"]), _EXACT)
    spread = _EXACT.subtract(_EXACT.multiply(volume, squares), _EXACT.multiply(quote, quote))
    return _DEVIATION.plus(_ROUGH.divide(_ROUGH.sqrt(spread), volume)).normalize(_DEVIATION)


def _whole(number: Any) -> int:
    return int(number["lo"]) + (int(number["hi"]) << 64)


def _decimal(mantissa: int, scale: int) -> Decimal:
    # Without trailing zeros behind the point, as bars have them.
    while scale > 0 and mantissa % 10 == 0:
        mantissa, scale = mantissa // 10, scale - 1
    return Decimal((int(mantissa < 0), tuple(map(int, str(abs(mantissa)))), -scale))


def _plain(number: Decimal) -> Decimal:
    sign, digits, exponent = number.as_tuple()
    mantissa = int("".join(map(str, digits)))
    return _decimal(-mantissa if sign else mantissa, -int(exponent))
