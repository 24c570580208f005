"""Rows to lines of text: what compiled code writes equals, byte for byte, what is written of the bar objects."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, timedelta, timezone
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import orjson
import pytest
from hypothesis import example, given, strategies as st

import fastbars
from fastbars import BarBuffer, OHLCVBar, StreamConfig
from fastbars.bars import BAR_FIELDS, REASONS, STATUSES
from fastbars.cli.output import BarText, csv_line, json_line
from fastbars.cli.text import printable
from fastbars.exchanges import find_exchange
from fastbars.id_policy import Ids
from fastbars.kernel.fields import NO_PRICE
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.lines import LineMaker
from fastbars.kernel.rows import ROW_DTYPE, IssuedRows
from fastbars.live.session import Session
from fastbars.tapes.recorder import Recording
from servers import START_NS, trades
from test_cli import BAR, tape
from test_objects import SIGNED, TIMES, WIDE, row_of

__all__ = ["tape"]

NAMES = st.one_of(
    st.sampled_from(
        ["BTCUSDT", "", "a,b", 'a"b', "a\nb", "a\u2028b", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\x7f\x00\\"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)


class Issued(NamedTuple):
    """Some rows, as issued by a buffer of a kind."""

    buffer: BarBuffer
    rows: npt.NDArray[Any]


@st.composite
def issued(draw: st.DrawFn) -> Issued:
    """Any rows that a kernel could issue, and many that it could not."""
    ids: Ids = draw(st.sampled_from(["contiguous", "none", "sampled"]))
    exchange, market = draw(NAMES), draw(NAMES)
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    known = Instruments(exchange, True, market)
    for name in names:
        known.add(name)
    buffer = BarBuffer(
        ["1m", "tick:7", "1d@America/New_York"], ids=ids, instruments=known, exchange=exchange, market=market
    )
    rows = [
        row_of(
            open_time=draw(TIMES), close_time=draw(TIMES), open=draw(SIGNED), low=draw(SIGNED), close=draw(SIGNED),
            high=draw(st.one_of(SIGNED, st.just(NO_PRICE))), first_id=draw(SIGNED), last_id=draw(SIGNED),
            count=draw(st.one_of(st.integers(0, 3), st.integers(0, 2**63 - 1))), volume=draw(WIDE),
            quote_volume=draw(WIDE), taker_volume=draw(WIDE), taker_quote_volume=draw(WIDE),
            symbol_id=draw(st.integers(0, len(names) - 1)), spec=draw(st.integers(0, 2)),
            revision=draw(st.integers(0, 2**31 - 1)), status=draw(st.integers(0, len(STATUSES) - 1)),
            reason=draw(st.integers(0, len(REASONS) - 1)), missing=draw(st.integers(-1, 2**63 - 1)),
            unpublished=draw(st.integers(-1, 2**31 - 1)), price_scale=draw(st.integers(0, 36)),
            size_scale=draw(st.integers(0, 36)), quote_scale=draw(st.integers(0, 36)),
        )
        for _ in range(draw(st.integers(0, 3)))
    ]  # fmt: skip
    return Issued(buffer, np.concatenate(rows) if rows else np.empty(0, ROW_DTYPE))


@pytest.mark.parametrize(("form", "line"), [("csv", csv_line), ("jsonl", json_line)])
@given(given=issued())
def test_lines_made_of_rows_are_byte_for_byte_those_made_of_bars(form: str, line: Any, given: Issued) -> None:
    made = BarText(form).lines(given.buffer, given.rows)
    bars = given.buffer.bars_of(given.rows)
    assert made == [f"{line(bar)}\n" for bar in bars]
    on_terminal = BarText(form, 80)
    assert on_terminal.lines(given.buffer, given.rows) == [printable(line(bar)) + "\n" for bar in bars]


@given(st.binary(min_size=ROW_DTYPE.itemsize, max_size=ROW_DTYPE.itemsize))
@example(bytes(ROW_DTYPE.itemsize))
def test_rows_of_any_bytes_are_written_or_refused_as_bars_are(content: bytes) -> None:
    buffer = BarBuffer(["1m", "5m"])
    buffer.instruments.add("A")
    rows = np.frombuffer(content, ROW_DTYPE)
    try:
        (bar,) = buffer.bars_of(rows)
    except (IndexError, ValueError) as error:
        with pytest.raises(type(error), match=re.escape(str(error))):
            BarText("csv").lines(buffer, rows)
        return
    assert BarText("csv").lines(buffer, rows) == [csv_line(bar) + "\n"]


def test_a_symbol_that_is_no_text_of_unicode_is_written_as_it_is_or_refused() -> None:
    buffer = BarBuffer("1s")
    buffer.add("\ud800", 0, "1", "1")
    taken: list[IssuedRows] = []
    buffer.sink = lambda _, rows: taken.append(rows)
    assert buffer.flush_all() == []
    assert BarText("csv").lines(buffer, taken[0]) == [csv_line(bar) + "\n" for bar in buffer.bars_of(taken[0])]
    with pytest.raises(orjson.JSONEncodeError, match="surrogates not allowed"):
        json_line(buffer.bars_of(taken[0])[0])
    with pytest.raises(orjson.JSONEncodeError, match="surrogates not allowed"):
        BarText("jsonl").lines(buffer, taken[0])


def test_a_line_is_made_of_as_many_heads_as_fields_all_of_them_known() -> None:
    def maker(fields: tuple[str, ...], heads: tuple[Any, ...]) -> LineMaker:
        return LineMaker(fields, heads, b"", b"", False, str.encode, str.encode, STATUSES, REASONS)

    with pytest.raises(KeyError, match="nothing"):
        maker(("nothing",), (b"",))
    with pytest.raises(ValueError, match="1 fields with 2 heads"):
        maker(("open",), (b"", b""))
    with pytest.raises(ValueError, match="65 fields"):
        maker(("open",) * 65, (b"",) * 65)
    with pytest.raises(TypeError, match="a head is bytes, not str"):
        maker(("open",), ("",))


def test_a_name_that_is_not_encoded_to_bytes_is_refused() -> None:
    encode: Any = str
    maker = LineMaker(("symbol",), (b"",), b"", b"", False, encode, encode, STATUSES, REASONS)
    buffer = BarBuffer("1m")
    buffer.instruments.add("A")
    with pytest.raises(TypeError, match="bytes"):
        maker.make(row_of(count=1), buffer.instruments, buffer.spec_names, True)


# Of objects: those of the class itself are written by compiled code, those of an heir in Python.


class Heir(OHLCVBar):
    """A bar of a user's own class."""

    __slots__ = ()


NUMBERS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, min_value=0),
    st.sampled_from(list(map(Decimal, ("0", "-0", "0.00", "1E+2", "1E-7", "0E+3", "12.50", "1.5E+200", "1E-100")))),
)
MOMENTS = st.datetimes(timezones=st.sampled_from([UTC, ZoneInfo("America/New_York"), timezone(timedelta(hours=14))]))
WHOLE = st.one_of(st.none(), st.integers(0, 5), st.integers(-(2**63), 2**63 - 1), st.booleans())


@st.composite
def bars_of_a_user(draw: st.DrawFn) -> dict[str, Any]:
    """What a user can make a bar of."""
    opened, closed = sorted([draw(MOMENTS), draw(MOMENTS)])
    prices = draw(st.one_of(st.none(), NUMBERS))
    return {
        "exchange": draw(NAMES), "market": draw(NAMES), "symbol": draw(NAMES), "spec": draw(NAMES), "open_time": opened,
        "close_time": closed, **dict.fromkeys(("open", "high", "low", "close"), prices), "volume": draw(NUMBERS),
        "quote_volume": draw(NUMBERS), "trade_count": 0 if prices is None else draw(st.integers(0, 2**63 - 1)),
        "taker_buy_volume": draw(NUMBERS), "taker_buy_quote_volume": draw(NUMBERS), "first_trade_id": draw(WHOLE),
        "last_trade_id": draw(WHOLE), "status": draw(st.sampled_from([*STATUSES, "GAP", "odd"])),
        "revision": draw(st.integers(0, 9)), "close_reason": draw(st.sampled_from(REASONS)),
        "missing_count": draw(WHOLE), "unpublished_count": draw(WHOLE),
    }  # fmt: skip


@pytest.mark.parametrize("line", [csv_line, json_line])
@given(given=bars_of_a_user())
def test_a_line_of_a_bar_is_that_which_python_writes(line: Any, given: dict[str, Any]) -> None:
    assert line(OHLCVBar(**given)) == line(Heir(**given))


@pytest.mark.parametrize("capitals", [0, 1])
def test_a_line_is_written_the_same_in_any_context_of_decimals(capitals: int) -> None:
    given = {name: getattr(BAR, name) for name in BAR_FIELDS} | {
        "volume": Decimal("1E+9"),
        "quote_volume": Decimal("2E-9"),
    }
    with localcontext(prec=2, capitals=capitals):
        for line in (csv_line, json_line):
            assert "1000000000" in line(OHLCVBar(**given)) == line(Heir(**given))


def test_compiled_code_writes_the_bars_that_fastbars_makes_and_leaves_others_to_python() -> None:
    heads = b"", *[b","] * (len(BAR_FIELDS) - 1)
    maker = LineMaker(BAR_FIELDS, heads, b"", b"", False, str.encode, str.encode, STATUSES, REASONS)
    heir = Heir(**{name: getattr(BAR, name) for name in BAR_FIELDS})
    assert maker.line_of(BAR) == csv_line(heir)
    for odd in (
        replace(BAR, open_time=BAR.open_time.astimezone(ZoneInfo("Asia/Tokyo"))),
        replace(BAR, revision=True),
        replace(BAR, first_trade_id=2**63),
        replace(BAR, volume=5),  # type: ignore[arg-type]
        replace(BAR, spec=None),  # type: ignore[arg-type]
    ):
        assert maker.line_of(odd) is None


# Whoever wants rows is given no bars.


def test_a_sink_is_given_the_rows_of_all_bars_in_place_of_the_callbacks() -> None:
    called: list[OHLCVBar] = []
    plain = BarBuffer(["1s", "2s"], ids="contiguous")
    sunk = BarBuffer(["1s", "2s"], ids="contiguous", on_bar=called.append, on_bars=called.extend)
    lines: list[str] = []
    sunk.sink = lambda buffer, rows: lines.extend(BarText("csv").lines(buffer, rows))
    bars: list[OHLCVBar] = []
    for second, trade_id in enumerate((1, 2, 4, 3, 9)):
        bars += plain.add("A", second * 10**9, "1.5", "2", "buy", trade_id)
        assert sunk.add("A", second * 10**9, "1.5", "2", "buy", trade_id) == []
    bars += plain.advance_clock(60 * 10**9) + plain.flush_all()
    assert sunk.advance_clock(60 * 10**9) + sunk.flush_all() == []
    assert lines == [csv_line(bar) + "\n" for bar in bars]
    assert called == []
    assert sunk.stats == plain.stats
    assert sunk.stats.bars == len(bars) > 5


def test_a_tape_is_replayed_to_rows_and_none_of_its_bars_is_made(tape: Path) -> None:
    lines: list[str] = []
    replayed = fastbars.replay(tape, "binance", "1m,tick:2")
    assert list(replayed.through(lambda buffer, rows: lines.extend(BarText("jsonl").lines(buffer, rows)))) == []
    bars = list(fastbars.replay(tape, "binance", "1m,tick:2"))
    assert lines == [json_line(bar) + "\n" for bar in bars]
    assert [orjson.loads(line)[name] for line in lines[:1] for name in BAR_FIELDS[:3]] == ["binance", "spot", "BTCUSDT"]
    assert replayed.session.stats.trades == 18


def run(folder: Path, content: dict[str, Any] | None) -> tuple[list[OHLCVBar], dict[str, Any]]:
    """A recorded session of three minutes, restored from a snapshot where one is given; its bars, and its snapshot."""
    recording = Recording(folder, flush_s=0.001)
    session = Session(find_exchange("binance"), StreamConfig(), channel="trade", record=recording.session)
    bars = [] if content is None else session.load(content, START_NS)
    for minute in range(3):
        first = minute if content is None else minute + 3
        bars += session.receive(trades(1 + 10 * first, 10, first * 60_000, 5_000), START_NS + first, first).bars
    dumped = session.dump() or {}
    bars += session.flush(START_NS)
    recording.close()
    return bars, dumped


def test_a_recording_is_replayed_to_rows_but_for_a_process_that_was_restored(tmp_path: Path) -> None:
    bars, content = run(tmp_path / "first", None)
    more, _ = run(tmp_path / "second", content)
    lines: list[str] = []

    def take(buffer: BarBuffer, rows: IssuedRows) -> None:
        lines.extend(BarText("csv").lines(buffer, rows))

    assert list(fastbars.replay(tmp_path / "first").through(take)) == []
    assert lines == [csv_line(bar) + "\n" for bar in bars]
    assert list(fastbars.replay(tmp_path / "second").through(take)) == more
    assert len(lines) == len(bars)
