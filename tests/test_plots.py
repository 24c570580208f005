"""Pictures of bars: what is read on them is exact, nothing in them is markup of somebody else."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import fastbars
from fastbars.bars import BarStatus, OHLCVBar
from fastbars.columnar.bar_batch import BarBatch

NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"


def bar(minute: int, price: str = "100.5", **changes: Any) -> OHLCVBar:
    close = Decimal(price)
    made = OHLCVBar(
        exchange="binance", market="spot", symbol="BTCUSDT", spec="1m",
        open_time=NOON + timedelta(minutes=minute), close_time=NOON + timedelta(minutes=minute + 1),
        open=Decimal("100.1"), high=max(close, Decimal(101)), low=min(close, Decimal(100)), close=close,
        volume=Decimal("1.5"), trade_count=3, first_trade_id=1, last_trade_id=3, status=BarStatus.COMPLETE,
        missing_count=0,
    )  # fmt: skip
    return replace(made, **changes)


def titles(plot: Any) -> list[str]:
    return [str(one.text) for one in ET.fromstring(plot.svg).iter(f"{SVG}title")]


def test_each_bar_tells_its_exact_values_and_proof() -> None:
    gap = replace(bar(1), open=None, high=None, low=None, close=None, volume=Decimal(0), trade_count=0,
                  first_trade_id=None, last_trade_id=None, status=BarStatus.GAP, missing_count=None)  # fmt: skip
    bars = [bar(0, "100.1234567890123456"), gap, bar(2, status=BarStatus.HEALED, revision=2)]
    plot = BarBatch.from_bars(bars).plot()
    assert plot.bars == tuple(bars)
    first, second, third = titles(plot)
    assert "O 100.1  H 101  L 100  C 100.1234567890123456" in first
    assert "O –  H –  L –  C –" in second
    assert "GAP" in second
    assert "HEALED, revision 2" in third
    assert "ids 1 – 3" in third
    assert plot._repr_svg_() == plot.svg
    assert plot.svg in plot._repr_html_()


def test_the_latest_revision_of_each_bar_is_drawn_and_no_retracted_one() -> None:
    bars = [bar(0), bar(1), bar(0, "100.9", revision=1, status=BarStatus.HEALED), bar(2)]
    bars.append(replace(bar(2), revision=1, status=BarStatus.RETRACTED))
    plot = BarBatch.from_bars(bars).plot()
    assert [(one.open_time, one.revision) for one in plot.bars] == [(bar(0).open_time, 1), (bar(1).open_time, 0)]
    assert [one.open_time for one in BarBatch.from_bars(bars).plot(last=1).bars] == [bar(1).open_time]


def test_symbol_and_spec_are_chosen_and_a_missing_one_is_named() -> None:
    bars = [bar(0), replace(bar(0), symbol="ETHUSDT"), replace(bar(0), symbol="ETHUSDT", spec="tick:5")]
    batch = BarBatch.from_bars(bars)
    assert batch.plot().bars == (bars[0],)
    assert batch.plot("ETHUSDT").bars == (bars[1],)
    assert batch.plot("ETHUSDT", "tick:5").bars == (bars[2],)
    assert batch.plot(spec="tick:5", symbol="ETHUSDT").bars == (bars[2],)
    with pytest.raises(KeyError, match="no bars of 'XRPUSDT'"):
        batch.plot("XRPUSDT")
    with pytest.raises(KeyError, match="no bars of '5m'"):
        batch.plot(spec="5m")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"last": 0}, "last must be 1 or more"),
        ({"width": 119}, "width must be 120 to 10000 px"),
        ({"height": 10_001}, "height must be"),
        ({"theme": "<b>"}, "theme must be auto, light or dark, got '<b>'"),
    ],
)
def test_what_cannot_be_drawn_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BarBatch.from_bars([bar(0)]).plot(**options)


def test_a_hostile_name_is_text(tmp_path: Path) -> None:
    hostile = '</svg><script>alert(1)</script>"&\u202eurl(#gap)'
    plot = BarBatch.from_bars([replace(bar(0), symbol=hostile, exchange=hostile)]).plot()
    root = ET.fromstring(plot.svg)
    assert not list(root.iter(f"{SVG}script"))
    assert hostile in "".join(root.itertext())
    control = BarBatch.from_bars([replace(bar(0), symbol="a\x00\x1b\ud800b")]).plot()
    assert "a\ufffd\ufffd\ufffdb" in "".join(ET.fromstring(control.svg).itertext())
    plot.save(tmp_path / "bars.svg")
    assert (tmp_path / "bars.svg").read_text(encoding="utf-8") == plot.svg


def test_one_bar_no_bar_and_many_bars_are_drawn() -> None:
    empty = fastbars.BarBatch.from_bars([])
    assert "No bars." in empty.plot().svg
    flat = replace(bar(0), open=Decimal(7), high=Decimal(7), low=Decimal(7), close=Decimal(7), volume=Decimal(0))
    assert len(titles(BarBatch.from_bars([flat]).plot())) == 1
    minus = replace(bar(0), open=Decimal(-5), high=Decimal(-3), low=Decimal(-9), close=Decimal(-4))
    assert "-5" in "".join(ET.fromstring(BarBatch.from_bars([minus]).plot().svg).itertext())
    many = BarBatch.from_bars([bar(minute, str(100 + minute % 7)) for minute in range(20_000)])
    assert len(titles(many.plot(last=5_000, width=1_200))) == 5_000
    widths = [one.get("x") for one in ET.fromstring(many.plot(theme="dark").svg).iter(f"{SVG}text")]
    assert len(widths) < 40  # labels do not run into each other
