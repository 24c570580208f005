"""When imbalance and runs bars end, in Fractions, out of the lists of trades: the slow twin of flow_rules.pxd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import trunc
from typing import Protocol

PARTS = 2**16


class Traded(Protocol):
    """What is asked of a trade."""

    @property
    def price(self) -> object: ...
    @property
    def side(self) -> int: ...


def signs(path: Sequence[Traded]) -> list[int]:
    """Of each trade of a path: its side, else which way the price last changed, or the last trade was signed."""
    found: list[int] = []
    for number, trade in enumerate(path):
        sign = trade.side
        if not sign and number:
            change = Fraction(str(trade.price)) - Fraction(str(path[number - 1].price))
            sign = found[-1] if change == 0 else 1 if change > 0 else -1
        found.append(sign)
    return found


@dataclass
class FlowOracle:
    """Of one symbol and spec."""

    kind: str
    step: Fraction
    adaptive: bool
    finished: list[tuple[Fraction, Fraction]] = field(default_factory=list)

    def is_reached(self, path: Sequence[Traded], of_bar: int, amount: Callable[[Traded], Fraction]) -> bool:
        """Whether the last trade of a path ends the bar that its last `of_bar` trades are in."""
        tail = list(zip(path, signs(path), strict=True))[-of_bar:]
        bought = sum((amount(trade) for trade, sign in tail if sign > 0), Fraction(0))
        sold = sum((amount(trade) for trade, sign in tail if sign < 0), Fraction(0))
        theta = abs(bought - sold) if self.kind == "imbalance" else max(bought, sold)
        if theta < self.threshold():
            return False
        self.finished.append((bought, sold))
        return True

    def threshold(self) -> Fraction:
        """Of the bar behind those that are finished."""
        if not (self.adaptive and self.finished):
            return self.step
        if self.kind == "imbalance":
            expected = abs(self.mean([bought - sold for bought, sold in self.finished]))
        else:
            expected = max(self.mean([bar[side] for bar in self.finished]) for side in (0, 1))
        return min(max(expected, self.step / 4), 4 * self.step)

    def mean(self, amounts: list[Fraction]) -> Fraction:
        parts = [trunc(min(max(amount / self.step, Fraction(-4)), Fraction(4)) * PARTS) for amount in amounts]
        mean = parts[0]
        for one in parts[1:]:
            mean = trunc(Fraction(7 * mean + one, 8))
        return self.step * mean / PARTS
