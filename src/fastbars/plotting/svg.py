"""Candles as SVG, without a server or a library: what `BarBatch.plot` shows, in the colours of the page.

Numbers are rounded to place what is drawn; what is read, on the axis and where the mouse points, is exact text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from html import escape as html_escape
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

from fastbars.bars import BarStatus, CloseReason, OHLCVBar, begins, path_number
from fastbars.plotting.palette import STATUS_COLOURS, STATUS_OPACITY, THEMES, css

__all__ = ["BarPlot", "latest_bars", "plot_bars"]

_TOP, _RIGHT, _BOTTOM, _LEFT, _STRIP = 40.0, 84.0, 26.0, 10.0, 5.0
_VOLUME_PART, _BODY_PART = 0.2, 0.72
_TICKS = 6
_LEAST, _MOST = 120, 10_000  # of width and height, px
_STEPS = (Decimal(1), Decimal(2), Decimal(5), Decimal(10))
_UNFIT = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ROUND_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 604_800)
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"


class BarPlot:
    """A picture of bars: a notebook shows it, `save` writes it.

    Attributes:
        svg: the picture, which needs nothing else.
        bars: those that it shows.
    """

    __slots__ = ("bars", "svg")

    def __init__(self, svg: str, bars: Sequence[OHLCVBar]) -> None:
        self.svg = svg
        self.bars = tuple(bars)

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return f'<div style="max-width:100%;overflow-x:auto">{self.svg}</div>'

    def __repr__(self) -> str:
        return f"<BarPlot of {len(self.bars):,} bar{'' if len(self.bars) == 1 else 's'}>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, such as "bars.svg". Raises OSError."""
        Path(path).write_text(self.svg, encoding="utf-8")


def latest_bars(bars: Iterable[OHLCVBar], last: int) -> list[OHLCVBar]:
    """Of bars of one symbol and spec the latest revision each, in the order of time; `last` at most."""
    best: dict[Any, OHLCVBar] = {}
    for bar in bars:
        key = begins(bar), path_number(bar)
        if key not in best or best[key].revision <= bar.revision:
            best[key] = bar
    kept = [bar for bar in best.values() if bar.status is not BarStatus.RETRACTED]
    kept.sort(key=lambda bar: (bar.open_time, bar.index or 0, bar.first_trade_id or 0, bar.close_time))
    return kept[-last:]


def plot_bars(bars: Sequence[OHLCVBar], *, width: int = 900, height: int = 420, theme: str = "auto") -> BarPlot:
    """Draw bars of one symbol and spec, in their order.

    Args:
        bars: what `latest_bars` gives.
        width, height: px, 120 to 10,000.
        theme: "light", "dark", or "auto": as the reader's system is.

    Raises:
        ValueError: a size is out of its range, or there is no such theme.
    """
    for name, value in (("width", width), ("height", height)):
        if not _LEAST <= value <= _MOST:
            raise ValueError(f"{name} must be {_LEAST} to {_MOST} px, got {value}")
    if theme not in THEMES:
        raise ValueError(f"theme must be {', '.join(THEMES[:-1])} or {THEMES[-1]}, got {theme!r:.40}")
    body = "".join(_Drawing(bars, width, height).parts()) if bars else _nothing(width, height)
    own = f"fastbars-{crc32(body.encode()):08x}"  # several pictures of one notebook have their own colours
    style = (
        f"{css(f'.{own}', theme)}.{own} text{{font:12px {_FONT};font-variant-numeric:tabular-nums}}"
        f".{own} .gap{{fill:url(#{own}-gap)}}"
    )
    hatch = (
        f'<pattern id="{own}-gap" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="7" height="7" fill="var(--gap)" opacity=".1"/>'
        '<path d="M0 0V7" stroke="var(--gap)" stroke-width="2" opacity=".45"/></pattern>'
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{own}" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img"><style>{style}</style><defs>{hatch}</defs>'
        f'<rect width="{width}" height="{height}" rx="8" fill="var(--paper)"/>{body}</svg>'
    )
    return BarPlot(svg, bars)


def _nothing(width: int, height: int) -> str:
    return f'<text x="{width / 2}" y="{height / 2}" text-anchor="middle" fill="var(--soft)">No bars.</text>'


class _Drawing:
    # Where things are; `parts` draws them from behind to front.

    def __init__(self, bars: Sequence[OHLCVBar], width: int, height: int) -> None:
        self._bars = bars
        self._right = width - _RIGHT
        self._bottom = height - _BOTTOM
        self._step = (self._right - _LEFT) / len(bars)
        priced = [bar for bar in bars if bar.low is not None and bar.high is not None]
        self._low = min((bar.low for bar in priced if bar.low is not None), default=Decimal(0))
        self._high = max((bar.high for bar in priced if bar.high is not None), default=Decimal(1))
        if self._low == self._high:
            spare = abs(self._low) / 1000 or Decimal(1)
            self._low, self._high = self._low - spare, self._high + spare
        self._most = max((bar.volume for bar in bars), default=Decimal(0)) or Decimal(1)
        self._volume_height = (self._bottom - _TOP) * _VOLUME_PART
        self._price_height = self._bottom - _TOP - self._volume_height - 2 * _STRIP - 8

    def parts(self) -> Iterator[str]:
        yield from self._grid()
        for place, bar in enumerate(self._bars):
            yield from self._bar(place, bar)
        yield self._last()
        yield self._title()

    def _x(self, place: int) -> float:
        return _LEFT + (place + 0.5) * self._step

    def _y(self, price: Decimal) -> float:
        return _TOP + float((self._high - price) / (self._high - self._low)) * self._price_height

    def _grid(self) -> Iterator[str]:
        for price in _round_prices(self._low, self._high):
            y = self._y(price)
            yield (
                f'<path d="M{_LEFT} {y:.1f}H{self._right:.1f}" stroke="var(--line)"/><text x="{self._right + 8:.1f}"'
                f' y="{y + 4:.1f}" fill="var(--soft)">{price:f}</text>'
            )
        days = self._bars[0].open_time.date() != self._bars[-1].open_time.date()
        for place in _labelled([bar.open_time.timestamp() for bar in self._bars]):
            x, time = self._x(place), self._bars[place].open_time.astimezone(UTC)
            yield (
                f'<path d="M{x:.1f} {_TOP}V{self._bottom:.1f}" stroke="var(--line)" opacity=".6"/>'
                f'<text x="{x:.1f}" y="{self._bottom + 17:.1f}" text-anchor="middle" fill="var(--soft)">'
                f"{_time_text(time, days)}</text>"
            )

    def _bar(self, place: int, bar: OHLCVBar) -> Iterator[str]:
        x, half = self._x(place), max(self._step * _BODY_PART / 2, 0.4)
        yield f"<g><title>{escape(_told(bar))}</title>"
        if bar.status is BarStatus.GAP:
            yield (
                f'<rect x="{x - self._step / 2:.1f}" y="{_TOP}" width="{self._step:.1f}"'
                f' height="{self._bottom - _TOP:.1f}" class="gap"/>'
            )
        else:  # to be pointed at
            yield (
                f'<rect x="{x - self._step / 2:.1f}" y="{_TOP}" width="{self._step:.1f}"'
                f' height="{self._bottom - _TOP:.1f}" fill="var(--paper)" opacity="0"/>'
            )
        fill, line = STATUS_OPACITY[bar.status]
        if bar.open is not None and bar.close is not None and bar.high is not None and bar.low is not None:
            name = "gap" if bar.status is BarStatus.GAP else "up" if bar.close >= bar.open else "down"
            top, foot = self._y(max(bar.open, bar.close)), self._y(min(bar.open, bar.close))
            body = max(foot - top, 1.0)
            yield (
                f'<path d="M{x:.1f} {self._y(bar.high):.1f}V{top:.1f}M{x:.1f} {foot:.1f}V{self._y(bar.low):.1f}"'
                f' stroke="var(--{name})" opacity="{line}"/>'
                f'<rect x="{x - half:.1f}" y="{top:.1f}" width="{2 * half:.1f}" height="{body:.1f}"'
                f' fill="var(--{name})" fill-opacity="{fill}" stroke="var(--{name})" stroke-opacity="{line}"/>'
            )
            height = float(bar.volume / self._most) * self._volume_height
            yield (
                f'<rect x="{x - half:.1f}" y="{self._bottom - 2 * _STRIP - height:.1f}" width="{2 * half:.1f}"'
                f' height="{height:.1f}" fill="var(--{name})" opacity="{0.38 * line}"/>'
            )
            if bar.status in (BarStatus.HEALED, BarStatus.PUBLISHED):
                size, y = min(max(half, 2.5), 5.0), self._y(bar.low) + 4
                yield (
                    f'<path d="M{x:.1f} {y:.1f}l{size:.1f} {size * 1.6:.1f}h{-2 * size:.1f}z"'
                    f' fill="var(--{STATUS_COLOURS[bar.status]})"/>'
                )
        gap = 1.0 if self._step > 4 else 0.0
        yield (
            f'<rect x="{x - self._step / 2 + gap:.1f}" y="{self._bottom - _STRIP:.1f}"'
            f' width="{self._step - gap:.1f}" height="{_STRIP}" fill="var(--{STATUS_COLOURS[bar.status]})"/></g>'
        )

    def _last(self) -> str:
        closes = [bar for bar in self._bars if bar.close is not None]
        if not closes or closes[-1].close is None or closes[-1].open is None:
            return ""
        last = closes[-1]
        assert last.close is not None
        assert last.open is not None
        y, name = self._y(last.close), "up" if last.close >= last.open else "down"
        text = f"{last.close:f}"
        return (
            f'<path d="M{_LEFT} {y:.1f}H{self._right:.1f}" stroke="var(--{name})" stroke-dasharray="2 3"/>'
            f'<rect x="{self._right + 2:.1f}" y="{y - 9:.1f}" width="{_RIGHT - 4}" height="18" rx="3"'
            f' fill="var(--{name})"/><text x="{self._right + 8:.1f}" y="{y + 4:.1f}" fill="var(--paper)">'
            f"{escape(text if len(text) <= 11 else text[:10] + '…')}</text>"
        )

    def _title(self) -> str:
        first, last = self._bars[0], self._bars[-1]
        venue = " ".join(filter(None, (first.exchange, first.market)))
        span = (
            f"{first.open_time.astimezone(UTC):%Y-%m-%d %H:%M} – {last.close_time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        )
        counts = {status: sum(bar.status is status for bar in self._bars) for status in BarStatus}
        worst = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        return (
            f'<text x="{_LEFT + 2}" y="24" fill="var(--ink)"><tspan font-weight="700" font-size="15">'
            f'{escape(_shortened(first.symbol))}</tspan><tspan dx="8">{escape(first.spec)}</tspan>'
            f'<tspan dx="8" fill="var(--soft)">{escape(venue)}</tspan></text>'
            f'<text x="{self._right + _RIGHT - 8:.1f}" y="16" text-anchor="end" fill="var(--soft)">{span}</text>'
            f'<text x="{self._right + _RIGHT - 8:.1f}" y="31" text-anchor="end" fill="var(--soft)">{worst}</text>'
        )


def _round_prices(low: Decimal, high: Decimal) -> Iterator[Decimal]:
    # Multiples of 1, 2 or 5 of some power of ten, about as many as there is room for.
    rough = (high - low) / (_TICKS - 1)
    power = Decimal(1).scaleb(rough.adjusted())
    step = next(power * one for one in _STEPS if power * one >= rough)
    price = (low / step).to_integral_value(ROUND_CEILING) * step
    while price <= high:
        yield price
        price += step


def _labelled(times: Sequence[float]) -> list[int]:
    # The places of the first bars of round intervals, as many as there is room for.
    span, least = times[-1] - times[0], max(len(times) // (_TICKS + 2), 1)
    step = next((one for one in _ROUND_S if span / one <= _TICKS), span / _TICKS)
    found: list[int] = []
    for place, (before, time) in enumerate(pairwise((times[0] - step, *times))):
        if time // step != before // step and (not found or place - found[-1] >= least):
            found.append(place)
    return found[1:] if len(found) > 1 and times[0] % step else found


def _time_text(time: datetime, days: bool) -> str:
    if days:
        return f"{time:%m-%d %H:%M}"
    return f"{time:%H:%M:%S}" if time.second else f"{time:%H:%M}"


def _told(bar: OHLCVBar) -> str:
    # What is shown where the mouse points.
    def text(value: object) -> str:
        return "–" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)

    open_time = f"{bar.open_time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    lines = [
        f"{open_time} – {bar.close_time.astimezone(UTC):%H:%M:%S}",
        f"O {text(bar.open)}  H {text(bar.high)}  L {text(bar.low)}  C {text(bar.close)}",
        f"volume {text(bar.volume)}, {text(bar.trade_count)} trades",
        f"{bar.status}, revision {bar.revision}, closed by {bar.close_reason}",
    ]
    if bar.first_trade_id is not None:
        lines.append(f"ids {bar.first_trade_id} – {bar.last_trade_id}")
    if bar.missing_count is not None:
        lines.append(f"{bar.missing_count} missing")
    if bar.close_reason is CloseReason.OPEN:
        lines.append("in progress")
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text of an XML file, which can hold no control characters and no halves of surrogate pairs."""
    return html_escape(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", text))


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
