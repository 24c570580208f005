"""A bar names its exchange and market, wherever it is shown, kept, merged or compared."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

import fastbars
from fastbars import BarBuffer, OHLCVBar, StreamConfig
from fastbars.bars import BAR_FIELDS
from fastbars.cli.output import BarText
from fastbars.exchanges import find_exchange
from fastbars.kernel.instruments import Instruments
from fastbars.klines import read_klines
from fastbars.live.callbacks import Callbacks
from fastbars.live.session import Session
from fastbars.tapes.recorder import Recording
from fastbars.verification import Verifier

T0 = 1_700_000_040_000_000_000
USDM: dict[str, Any] = {"exchange": "binance", "market": "usdm"}
MINUTE_NS = 60_000_000_000


def bar_of(**names: str) -> OHLCVBar:
    buffer = BarBuffer("1m", **names)  # type: ignore[arg-type]
    buffer.add("BTCUSDT", T0, "1.5", "2")
    (bar,) = buffer.flush_all()
    return bar


def message(trade_id: int, time_ms: int, symbol: str = "BTCUSDT") -> bytes:
    return orjson.dumps(
        {"e": "trade", "E": time_ms, "s": symbol, "t": trade_id, "p": "1.5", "q": "2", "T": time_ms, "m": False}
    )


# Objects.


def test_a_bar_names_its_exchange_and_market_before_its_symbol() -> None:
    bar = bar_of(**USDM)
    assert BAR_FIELDS[:4] == ("exchange", "market", "symbol", "spec")
    assert list(bar.to_dict().values())[:4] == ["binance", "usdm", "BTCUSDT", "1m"]
    assert list(bar.to_dict(json=True).values())[:4] == ["binance", "usdm", "BTCUSDT", "1m"]
    assert repr(bar).startswith("<OHLCVBar binance usdm BTCUSDT 1m ")
    assert repr(bar_of()).startswith("<OHLCVBar BTCUSDT 1m ")
    assert repr(bar_of(exchange="kraken")).startswith("<OHLCVBar kraken BTCUSDT 1m ")


def test_bars_of_two_markets_are_not_equal() -> None:
    spot, usdm = bar_of(exchange="binance", market="spot"), bar_of(**USDM)
    assert spot != usdm
    assert hash(spot) != hash(usdm)
    assert replace(spot, market="usdm") == usdm
    assert len({spot, usdm, replace(usdm)}) == 2
    assert (bar_of().exchange, bar_of().market) == ("", "")


def test_copies_and_pickles_of_a_bar_keep_its_names() -> None:
    bar = bar_of(**USDM)
    for made in (copy.copy(bar), copy.deepcopy(bar), pickle.loads(pickle.dumps(bar)), replace(bar)):
        assert made == bar
        assert (made.exchange, made.market, made.symbol) == ("binance", "usdm", "BTCUSDT")


def test_all_bars_of_a_batch_share_one_text_each() -> None:
    times = [T0 + MINUTE_NS * place for place in range(3)]
    bars = fastbars.aggregate(times, ["1"] * 3, ["1"] * 3, symbol="A", **USDM).to_bars()
    assert len(bars) == 3
    assert len({id(bar.exchange) for bar in bars}) == len({id(bar.market) for bar in bars}) == 1


def test_a_buffer_has_its_names_from_the_instruments_it_is_given() -> None:
    instruments = Instruments("okx", market="spot")
    buffer = BarBuffer("1m", instruments=instruments)
    buffer.add("BTC-USDT", T0, "1", "1")
    assert [(bar.exchange, bar.market) for bar in buffer.flush_all()] == [("okx", "spot")]
    assert BarBuffer("1m", instruments=instruments, exchange="okx", market="spot").instruments is instruments
    with pytest.raises(ValueError, match=r"exchange='kraken' needs Instruments\(exchange='kraken'\)"):
        BarBuffer("1m", instruments=instruments, exchange="kraken")
    with pytest.raises(ValueError, match=r"market='swap' needs Instruments\(market='swap'\)"):
        BarBuffer("1m", instruments=instruments, market="swap")


def test_errors_name_exchange_and_market_before_the_symbol() -> None:
    with pytest.raises(fastbars.errors.InvalidTickError, match=r"^binance usdm BTCUSDT: price 0 is not positive"):
        BarBuffer("1m", **USDM).add("BTCUSDT", T0, "0", "1")
    instruments = Instruments("kraken")
    assert instruments.label(instruments.add("A")) == "kraken A"
    assert (instruments.venue, Instruments(market="spot").venue, Instruments().venue) == ("kraken", "spot", "")


# Columns.


def test_every_column_format_has_both_names_in_every_row() -> None:
    batch = fastbars.aggregate([T0, T0], ["1", "2"], ["1", "1"], symbol=["A", "B"], **USDM)
    assert repr(batch).startswith("<BarBatch 2 bars of 1m: binance usdm A, B, ")
    assert batch["exchange"].tolist() == ["binance"] * 2
    assert batch.to_numpy()["market"].tolist() == ["usdm"] * 2
    table = pa.table(batch)
    assert table.column_names[:3] == ["exchange", "market", "symbol"]
    assert table.schema.field("exchange").type == table.schema.field("symbol").type
    assert table["exchange"].to_pylist() == ["binance"] * 2
    assert table["market"].to_pylist() == ["usdm"] * 2
    assert batch.to_polars()["market"].to_list() == ["usdm"] * 2
    for floats in (False, True):
        frame = batch.to_pandas(floats=floats, index=["exchange", "market", "symbol"])
        assert frame.index.tolist() == [("binance", "usdm", "A"), ("binance", "usdm", "B")]
    assert [batch[place].market for place in range(2)] == ["usdm"] * 2


def test_columns_of_no_rows_and_of_no_names_are_texts_too() -> None:
    for names in ({}, USDM):
        empty = fastbars.aggregate([], [], [], **names)
        assert empty["exchange"].tolist() == []
        assert empty["exchange"].dtype.kind == "U"
        assert pa.table(empty)["market"].to_pylist() == []
    nameless = fastbars.aggregate([T0], ["1"], ["1"])
    assert pa.table(nameless)["exchange"].to_pylist() == nameless["exchange"].tolist() == [""]
    assert pa.table(fastbars.aggregate([T0], ["1"], ["1"], market="é"))["market"].to_pylist() == ["é"]


def test_merged_bars_keep_their_names_and_bars_of_two_markets_do_not_merge() -> None:
    first = fastbars.aggregate([T0], ["1"], ["1"], symbol="A", **USDM)
    second = fastbars.aggregate([T0 + 1], ["2"], ["1"], symbol="A", **USDM)
    (merged,) = first.merge(second).to_bars()
    assert (merged.exchange, merged.market, merged.trade_count) == ("binance", "usdm", 2)
    other = fastbars.aggregate([T0 + 1], ["2"], ["1"], symbol="A", exchange="binance", market="spot")
    with pytest.raises(ValueError, match="bars of two markets do not merge: 'binance usdm' and 'binance spot'"):
        first.merge(other)


def test_a_pickled_batch_and_its_instruments_keep_their_names() -> None:
    batch = fastbars.aggregate([T0], ["1"], ["1"], symbol="A", **USDM)
    for made in (copy.copy(batch), copy.deepcopy(batch), pickle.loads(pickle.dumps(batch)), batch[:], batch[[0]]):
        assert made.to_bars() == batch.to_bars()
        assert (made.instruments.exchange, made.instruments.market) == ("binance", "usdm")


# Text.


def test_csv_json_and_tables_show_both_names() -> None:
    bar = bar_of(**USDM)
    assert BarText("csv").header is not None
    assert BarText("csv").header.startswith("exchange,market,symbol,spec,")  # type: ignore[union-attr]
    assert BarText("csv").line(bar).startswith("binance,usdm,BTCUSDT,1m,")
    assert orjson.loads(BarText("jsonl").line(bar))["market"] == "usdm"
    assert BarText("table").line(bar).split()[:4] == ["binance", "usdm", "BTCUSDT", "1m"]
    assert BarText("table", 200).line(bar).split()[:4] == ["binance", "usdm", "BTCUSDT", "1m"]
    assert BarText("table", 190).line(bar).split()[:2] == ["BTCUSDT", "1m"]  # where there is less room


# Snapshots.


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"exchange": "bybit", "market": "usdm"}, "its exchange is 'binance', not 'bybit'"),
        ({"exchange": "binance", "market": "spot"}, "its market is 'usdm', not 'spot'"),
        ({}, "its exchange is 'binance', not ''"),
    ],
)
def test_a_snapshot_of_another_exchange_or_market_is_refused(names: dict[str, str], message: str) -> None:
    buffer = BarBuffer("1m", **USDM)
    buffer.add("BTCUSDT", T0, "1", "1")
    content = buffer.dump()
    other = BarBuffer("1m", **names)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        other.load(content)
    assert len(other.instruments) == 0
    own = BarBuffer("1m", **USDM)
    own.load(content)
    assert [(bar.exchange, bar.market) for bar in own.flush_all()] == [("binance", "usdm")]


def test_a_snapshot_that_names_no_market_is_refused() -> None:
    buffer = BarBuffer("1m")
    buffer.add("BTCUSDT", T0, "1", "1")
    content = buffer.dump()
    del content["market"]
    with pytest.raises(ValueError, match="its market is None, not ''"):
        BarBuffer("1m").load(content)


def test_a_copied_or_pickled_buffer_keeps_its_names() -> None:
    buffer = BarBuffer("1m", **USDM)
    buffer.add("BTCUSDT", T0, "1", "1")
    for made in (copy.copy(buffer), pickle.loads(pickle.dumps(buffer))):
        assert [(bar.exchange, bar.market) for bar in made.flush_all()] == [("binance", "usdm")]


def test_a_session_refuses_the_state_of_another_market_of_its_exchange() -> None:
    sessions = {
        market: Session(find_exchange("binance", market), StreamConfig(close_by="trades"), channel="trade")
        for market in ("spot", "us")
    }
    sessions["spot"].receive([message(1, 60_000)], 0)
    content = sessions["spot"].dump()
    assert content is not None
    assert (content["exchange"], content["market"]) == ("binance", "spot")
    with pytest.raises(ValueError, match="its market is 'spot', not 'us'"):
        sessions["us"].load(content, 0)


# Sessions, tapes and recordings.


def test_a_session_names_its_bars_and_candles() -> None:
    kline = {"t": 60_000, "T": 119_999, "s": "BTCUSDT", "i": "1m", "f": 1, "L": 1, "o": "1", "c": "1", "h": "1",
             "l": "1", "v": "1", "n": 1, "x": True, "q": "1", "V": "0", "Q": "0", "B": "0"}  # fmt: skip
    candles: list[Any] = []
    session = Session(
        find_exchange("binance", "usdm"),
        StreamConfig(bars="1m", close_by="trades"),
        Callbacks(on_exchange_bar=candles.append),
        channel="trade",
    )
    session.receive([orjson.dumps({"e": "kline", "E": 120_001, "s": "BTCUSDT", "k": kline})], 0)
    assert [(one.exchange, one.market, one.symbol) for one in candles] == [("binance", "usdm", "BTCUSDT")]
    bars = session.receive([message(1, 60_000), message(2, 120_000)], 0).bars
    assert [(bar.exchange, bar.market, bar.symbol) for bar in bars] == [("binance", "usdm", "BTCUSDT")]


def record(folder: Path, declared: str) -> None:
    recording = Recording(folder)
    recorder = recording.session({"exchange": declared, "channel": "trade", "own_parser": False, "config": {}})
    assert recorder is not None
    recorder.messages([message(1, 60_000), message(2, 120_000)], 1, 1, 0)
    recording.close()


def test_a_replayed_recording_names_its_bars_as_the_run_did(tmp_path: Path) -> None:
    record(tmp_path, "binance usdm")
    assert [(bar.exchange, bar.market) for bar in fastbars.replay(tmp_path, bars="1m")] == [("binance", "usdm")] * 2


def test_a_recording_that_names_no_market_is_of_the_first_one(tmp_path: Path) -> None:
    # As written by a fastbars whose exchanges with one declaration had no name for it.
    record(tmp_path, "kraken")
    assert [session.exchange.name for session in replayed_sessions(tmp_path)] == ["kraken spot"]


def replayed_sessions(folder: Path) -> list[Session]:
    replayed = fastbars.replay(folder, bars="1m")
    assert list(replayed) == []  # the messages are Binance's
    return replayed.sessions


def test_a_tape_names_its_bars_by_the_market_it_is_replayed_with(tmp_path: Path) -> None:
    tape = tmp_path / "tape"
    tape.write_bytes(b"".join(b"1 %b\n" % one for one in (message(1, 60_000), message(2, 120_000))))
    for market, expected in ((None, "spot"), ("usdm", "usdm")):
        bars = list(fastbars.replay(tape, "binance", market=market))
        assert [(bar.exchange, bar.market) for bar in bars] == [("binance", expected)] * 2


# Candles.


def test_candles_of_files_name_what_the_caller_says(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m.csv"
    path.write_text("60000,1.5,1.5,1.5,1.5,2,119999,3,1,2,3,0\n")
    (nameless,) = read_klines(path)
    (named,) = read_klines(path, **USDM)
    assert (nameless.exchange, nameless.market) == ("", "")
    assert (named.exchange, named.market, named.symbol) == ("binance", "usdm", "BTCUSDT")
    assert replace(nameless, **USDM) == named


def test_a_bar_is_compared_with_the_candles_of_its_own_market_alone(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m.csv"
    path.write_text("60000,1.5,1.5,1.5,1.5,2,119999,3,1,2,3,0\n")
    for names, expected in ((USDM, (1, 0)), ({"exchange": "binance", "market": "spot"}, (0, 1))):
        buffer = BarBuffer("1m", **USDM)
        buffer.add("BTCUSDT", 60_000_000_000, "1.5", "2", side="buy")
        (bar,) = buffer.flush_all()
        verifier = Verifier()
        verifier.add_bar(replace(bar, status=fastbars.BarStatus.COMPLETE))
        for candle in read_klines(path, **names):
            verifier.add_candle(candle)
        counts = verifier.finish()
        assert (counts.equal, counts.without_candle) == expected


def test_numpy_has_the_names_as_arrays_of_their_own() -> None:
    columns = fastbars.aggregate([T0, T0], ["1", "2"], ["1", "1"], symbol=["A", "B"], **USDM).to_numpy()
    columns["exchange"][0] = "x"  # what is handed out may be written to
    assert columns["exchange"].tolist() == ["x", "binance"]
    assert all(isinstance(values, np.ndarray) for values in columns.values())
