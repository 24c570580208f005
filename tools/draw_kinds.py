"""Draws docs/pictures/kinds.svg: one piece of a simulated market, cut into bars of every kind.

python tools/draw_kinds.py
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from random import Random
from typing import NamedTuple

import fastbars

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "kinds.svg"
KINDS = (
    ("1m", "time: its minute is over"),
    ("tick:170", "170 trades"),
    ("volume:220", "220 traded"),
    ("value:22000", "22,000 paid"),
    ("volume:220:exact", "exactly 220: trades are split"),
    ("range:0.3", "high - low is 0.3"),
    ("renko:0.15", "the price crosses a brick of 0.15"),
    ("delta:40", "bought - sold is 40, or -40"),
    ("cusum:0.3", "rises, or falls, add up to 0.3"),
    ("imbalance:volume:50:adaptive", "bought - sold is more than expected"),
    ("runs:tick:100", "100 trades of one side"),
)
MINUTES, START_NS = 20, 1_723_161_240_000_000_000
WIDTH, LEFT, RIGHT, TOP, ROW, SPACE = 1000, 245, 12, 30, 74, 8
STYLE = (
    ".paper{fill:#fff}.text{fill:#222}.soft{fill:#5c5c5c}.line{stroke:#ddd;fill:none}.price{stroke:#b5b5b5;fill:none}"
    ".up{fill:#bfe6d9;stroke:#12947a}.down{fill:#f6ccd3;stroke:#d6455d}"
    "@media (prefers-color-scheme:dark){.paper{fill:#16181c}.text{fill:#e4e4e4}.soft{fill:#a8a8a8}.line{stroke:#33373e}"
    ".price{stroke:#5b616b}.up{fill:#174a3d;stroke:#26b598}.down{fill:#552530;stroke:#f0637b}}"
)


class Trade(NamedTuple):
    """One simulated trade: price in hundredths, size in tenths."""

    time_ns: int
    price: int
    size: int
    side: int


def market(seed: int = 2) -> list[Trade]:
    """Twenty minutes that are quiet, hectic and quiet again; every seed always gives the same."""
    random = Random(seed)
    made: list[Trade] = []
    time_s, price, drift = 0.0, 10_000, 0.0
    while True:
        minute = time_s / 60
        pace = 0.9 + 5.5 * math.exp(-(((minute - 11.5) / 2.2) ** 2))  # trades a second
        time_s += random.expovariate(pace)
        if time_s >= MINUTES * 60:
            return made
        drift = 0.985 * drift + random.gauss(0, 0.06)
        side = 1 if random.random() < 0.5 + 0.4 * math.tanh(drift) else -1
        price += side * random.choice((0, 0, 1, 1))
        paid = price + side * random.choice((0, 1, 2, 4))  # the spread that a taker pays
        made.append(Trade(START_NS + int(time_s * 1e9), paid, 1 + int(random.expovariate(0.8) * 10) % 60, side))


def bars_of(trades: list[Trade], spec: str) -> list[fastbars.OHLCVBar]:
    """The bars of one kind; the first and last one too."""
    buffer = fastbars.BarBuffer(spec, ids="contiguous")
    made = []
    for number, trade in enumerate(trades, 1):
        price, size = f"{trade.price / 100:.2f}", f"{trade.size / 10:.1f}"
        made += buffer.add("SIM", trade.time_ns, price, size, trade.side, number)
    return [*made, *buffer.flush_all()]


def draw() -> str:
    """The picture as SVG."""
    trades = market()
    prices = [trade.price / 100 for trade in trades]
    low, high = min(prices), max(prices)
    height = TOP + len(KINDS) * (ROW + SPACE) + 8

    def x_of(time_ns: float) -> float:
        return LEFT + (time_ns - START_NS) / (MINUTES * 60e9) * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' role="img" font-family="system-ui, sans-serif" font-size="13"><style>{STYLE}</style>'
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>'
        f"<title>The same {len(trades):,} simulated trades, cut into bars of every kind</title>"
    ]
    for minute in range(0, MINUTES + 1, 5):
        x = x_of(START_NS + minute * 60e9)
        parts.append(f'<path class="line" d="M{x:.1f} {TOP - 6}V{height - 8}"/>')
        end = "end" if minute == MINUTES else "middle"
        parts.append(f'<text class="soft" x="{x:.1f}" y="18" text-anchor="{end}">{minute} min</text>')
    for row, (spec, why) in enumerate(KINDS):
        top = TOP + row * (ROW + SPACE)

        def y_of(price: float, top: int = top) -> float:
            return top + 4 + (high - price) / (high - low) * (ROW - 8)

        path = "".join(
            f"{'L' if place else 'M'}{x_of(trade.time_ns):.1f} {y_of(trade.price / 100):.1f}"
            for place, trade in enumerate(trades)
            if place % 4 == 0
        )
        made = bars_of(trades, spec)
        parts.append(f'<path class="price" d="{path}" stroke-width="0.6"/>')
        parts.append(f'<text class="text" x="12" y="{top + 26}" font-family="ui-monospace, monospace">{spec}</text>')
        parts.append(f'<text class="soft" x="12" y="{top + 44}" font-size="12">{why}</text>')
        parts.append(
            f'<text class="soft" x="12" y="{top + 60}" font-size="12">{len(made)} bar{"s" * (len(made) != 1)}</text>'
        )
        for bar in made:
            if bar.open is None or bar.close is None or bar.high is None or bar.low is None:
                continue
            left, right = (x_of(time.timestamp() * 1e9) for time in (bar.open_time, bar.close_time))
            kind = "up" if bar.close >= bar.open else "down"
            width = max(right - left - 1.2, 1.4)
            upper, lower = y_of(float(max(bar.open, bar.close))), y_of(float(min(bar.open, bar.close)))
            middle = left + width / 2
            parts.append(
                f'<path class="{kind}" d="M{middle:.1f} {y_of(float(bar.high)):.1f}V{y_of(float(bar.low)):.1f}"/>'
                f'<rect class="{kind}" x="{left:.1f}" y="{upper:.1f}" width="{width:.1f}"'
                f' height="{max(lower - upper, 1):.1f}"/>'
            )
    return "".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    sys.exit(0 if PICTURE.write_text(draw(), encoding="utf-8") else 1)
