"""Void ids: used up by the exchange, and nothing was traded. They prove, and are in no bar."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import numpy as np
import orjson
import pytest

import fastbars
from fastbars import BarBuffer, TickData
from fastbars._agg import BarKernel
from fastbars.errors import InvalidTickError
from fastbars.exchanges import find_exchange
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.fields import ROW_DTYPE
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.session import Session
from fastbars.specs import parse_specs
from strategies import MINUTE, SECOND

T0 = 1_767_225_600 * SECOND  # a whole minute


def bars_of(*rows: tuple[float, int, str], spec: str = "1m", **options: Any) -> list[tuple[Any, ...]]:
    """(minute, status, trade_count, close, first id, last id) of what comes out of rows of (seconds, id, size)."""
    buffer = BarBuffer(spec, ids="contiguous", **options)
    bars = []
    for seconds, trade_id, size in rows:
        price = "0" if Decimal(size) == 0 else str(100 + trade_id)
        bars += buffer.add("A", T0 + round(seconds * SECOND), price, size, 1, trade_id)
    return [summary(bar) for bar in bars + buffer.flush_all()]


def summary(bar: Any) -> tuple[Any, ...]:
    minute = round((bar.open_time.timestamp() * SECOND - T0) / MINUTE)
    return (
        minute, str(bar.status), bar.trade_count, None if bar.close is None else int(bar.close), bar.first_trade_id,
        bar.last_trade_id,
    )  # fmt: skip


@pytest.mark.parametrize("zero", ["0", "0.0", "0.000", "0e-8"])
def test_a_void_id_between_trades_leaves_the_bar_whole(zero: str) -> None:
    made = bars_of((-1, 1, "1"), (0, 2, "1"), (10, 3, zero), (20, 4, "1"), (60, 5, "1"))
    assert made[1] == (0, "COMPLETE", 2, 104, 2, 4)


def test_void_ids_at_the_borders_of_an_interval_are_in_no_bar() -> None:
    made = bars_of(
        (-1, 1, "1"), (0, 2, "0"), (1, 3, "1"), (59, 4, "0"), (60, 5, "0"), (61, 6, "1"), (119, 7, "0"), (120, 8, "1")
    )
    assert made[:3] == [
        (-1, "PARTIAL", 1, 101, 1, 1), (0, "COMPLETE", 1, 103, 3, 3), (1, "COMPLETE", 1, 106, 6, 6)
    ]  # fmt: skip


def test_many_void_ids_in_a_row_open_no_bar() -> None:
    voids = [(60 + n, 2 + n, "0") for n in range(120)]
    made = bars_of((0, 1, "1"), *voids, (180, 122, "1"), (240, 123, "1"))
    assert made == [
        (0, "PARTIAL", 1, 101, 1, 1), (3, "COMPLETE", 1, 222, 122, 122), (4, "PARTIAL", 1, 223, 123, 123)
    ]  # fmt: skip


def test_a_void_id_as_the_first_one_begins_the_ledger() -> None:
    made = bars_of((-1, 1, "0"), (1, 2, "1"), (60, 3, "1"))
    assert made[0] == (0, "COMPLETE", 1, 102, 2, 2)
    within = bars_of((0, 1, "0"), (1, 2, "1"), (60, 3, "1"))
    assert within[0] == (0, "PARTIAL", 1, 102, 2, 2)  # what came before it in the minute is not known


def test_a_void_id_proves_the_end_of_a_provisional_bar() -> None:
    buffer = BarBuffer("1m", ids="contiguous", grace_s=0)
    buffer.add("A", T0 - SECOND, "1", "1", 1, 1)
    buffer.add("A", T0, "1", "1", 1, 2)
    (closed,) = buffer.advance_watermark(T0 + MINUTE)
    assert (closed.status, closed.revision) == ("PROVISIONAL", 0)
    assert buffer.add("A", T0 + MINUTE - 1, "0", "0", 1, 3) == []  # inside the bar: more may come
    (proven,) = buffer.add("A", T0 + MINUTE, "0", "0", 1, 4)
    assert (proven.status, proven.revision, proven.trade_count) == ("COMPLETE", 1, 1)


def test_a_bar_whose_end_a_void_id_has_proven_closes_complete_by_the_clock() -> None:
    buffer = BarBuffer(["1m", "5m"], ids="contiguous", grace_s=0)
    buffer.add("A", T0 - SECOND, "1", "1", 1, 1)
    buffer.add("A", T0, "1", "1", 1, 2)
    assert buffer.add("A", T0 + MINUTE, "0", "0", 1, 3) == []
    (closed,) = buffer.advance_clock(T0 + MINUTE)
    assert (closed.spec, closed.status, closed.close_reason) == ("1m", "COMPLETE", "clock")
    (closed,) = buffer.advance_clock(T0 + 5 * MINUTE)
    assert (closed.spec, closed.status) == ("5m", "PROVISIONAL")


def test_flat_bars_before_a_void_id_are_complete() -> None:
    buffer = BarBuffer("1m", ids="contiguous", grace_s=0, empty="fill")
    buffer.add("A", T0 - SECOND, "1", "1", 1, 1)
    buffer.add("A", T0, "1", "1", 1, 2)
    buffer.add("A", T0 + 2 * MINUTE, "0", "0", 1, 3)
    bars = buffer.advance_clock(T0 + 3 * MINUTE)
    assert [(str(bar.status), bar.trade_count) for bar in bars] == [
        ("COMPLETE", 1), ("COMPLETE", 0), ("PROVISIONAL", 0)
    ]  # fmt: skip


def test_a_void_id_fills_a_hole_as_a_trade_of_the_stream_does() -> None:
    buffer = BarBuffer("1m", ids="contiguous")
    for seconds, trade_id in ((-1, 1), (0, 2), (20, 4), (60, 5)):
        bars = buffer.add("A", T0 + seconds * SECOND, "1", "1", 1, trade_id)
    assert [(bar.status, bar.missing_count) for bar in bars] == [("GAP", 1)]
    (filled,) = buffer.add("A", T0 + 10 * SECOND, "0", "0", 1, 3)
    assert (filled.status, filled.revision, filled.trade_count, filled.missing_count) == ("COMPLETE", 1, 2, 0)
    assert buffer.missing("A") == []


def test_a_void_id_that_jumps_ahead_opens_a_hole() -> None:
    made = bars_of((-1, 1, "1"), (0, 2, "1"), (10, 4, "0"), (20, 5, "1"), (60, 6, "1"))
    assert made[1] == (0, "GAP", 2, 105, 2, 5)


def test_a_late_trade_below_a_void_id_becomes_the_close() -> None:
    buffer = BarBuffer("1m", ids="contiguous")
    for seconds, trade_id, size in ((-1, 1, "1"), (0, 2, "1"), (10, 4, "0"), (11, 5, "0")):
        buffer.add("A", T0 + seconds * SECOND, str(100 + trade_id), size, 1, trade_id)
    buffer.add("A", T0 + 9 * SECOND, "103", "1", 1, 3)
    bars = buffer.add("A", T0 + MINUTE, "106", "1", 1, 6)
    assert summary(bars[-1]) == (0, "COMPLETE", 2, 103, 2, 3)


def test_void_ids_that_come_twice_or_late_are_dropped_and_counted() -> None:
    late: list[TickData] = []
    buffer = BarBuffer("1m", ids="contiguous", lateness_s=0, on_late=late.append)
    for seconds, trade_id, size in ((0, 1, "1"), (1, 2, "0"), (1, 2, "0"), (200, 3, "1"), (400, 4, "1"), (2, 2, "0")):
        buffer.add("A", T0 + seconds * SECOND, "1", size, 1, trade_id)
    buffer.add("A", T0, "1", "0", 1, 6)  # ahead of its id, and older than any bar at hand
    stats = buffer.stats
    assert (stats.trades, stats.duplicates, stats.void_ids, stats.late) == (3, 2, 2, 0)
    assert late == []


@pytest.mark.parametrize("spec", ["tick:2", "volume:2", "value:200"])
@pytest.mark.parametrize("beside", [(), ("1m",)])
def test_path_driven_bars_ignore_void_ids_and_stay_whole(spec: str, beside: tuple[str, ...]) -> None:
    rows = [(float(n), n, "0" if n % 3 == 1 else "1") for n in range(1, 13)]
    trades = [row for row in rows if row[2] != "0"]
    buffer = BarBuffer([spec, *beside], ids="contiguous")
    batch = buffer.new_batch()
    for seconds, trade_id, size in rows:
        batch.append("A", T0 + round(seconds * SECOND), "0" if size == "0" else "100", size, 1, trade_id)
    bars = [bar for bar in buffer.add_batch(batch) if bar.spec == spec]
    assert [(bar.trade_count, bar.first_trade_id, bar.last_trade_id) for bar in bars] == [
        (2, trades[n][1], trades[n + 1][1]) for n in range(0, len(trades), 2)
    ]
    assert [str(bar.status) for bar in bars] == ["PARTIAL", *["COMPLETE"] * (len(bars) - 1)]
    assert [bar.close_time.timestamp() * SECOND for bar in bars] == [
        T0 + trades[n + 1][0] * SECOND for n in range(0, len(trades), 2)
    ]


@pytest.mark.parametrize("ids", ["none", "unique", "sampled"])
def test_a_size_of_zero_stays_refused_where_ids_prove_nothing(ids: Any) -> None:
    buffer = BarBuffer("1m", ids=ids)
    with pytest.raises(InvalidTickError, match="A: size 0 is not positive"):
        buffer.add("A", T0, "1", "0", 1, 5)
    with pytest.raises(InvalidTickError, match="volume 0 is not positive"):
        TickData("A", T0, "1", "0")
    batch = TickBatch(buffer.instruments, counts=True)
    batch.append("A", T0, "1", "0", 1, 5)
    with pytest.raises(InvalidTickError, match="A: row 0: size 0 is not at least 1"):
        buffer.add_batch(batch)
    with pytest.raises(InvalidTickError, match="row 1: size 0 is not at least 1"):
        fastbars.aggregate([T0, T0], [1, 1], [1, 0])


def test_a_price_of_zero_stays_refused_where_there_is_a_size() -> None:
    buffer = BarBuffer("1m", ids="contiguous")
    with pytest.raises(InvalidTickError, match="A: price 0 is not positive"):
        buffer.add("A", T0, "0", "1", 1, 5)
    with pytest.raises(InvalidTickError, match="price 0 is not at least 1"):
        fastbars.aggregate([T0, T0], [1, 0], [0, 1], trade_id=[1, 2])


def test_the_price_of_a_void_id_widens_no_scale() -> None:
    buffer = BarBuffer("1m", ids="contiguous")
    buffer.add("A", T0, "1.5", "1", 1, 1)
    buffer.add("A", T0, "0.000000000000000001", "0", 1, 2)
    assert buffer.instruments.scales("A") == (1, 0)


def test_a_void_id_as_an_object() -> None:
    tick = TickData("A", T0, "0", "0", trade_id=7, last_trade_id=9)
    assert not tick.volume
    assert tick.trade_count == 0
    buffer = BarBuffer("1m", ids="contiguous")
    buffer.add("A", T0 - SECOND, "1", "1", 1, 6)
    assert buffer.add_tick(tick) == []
    assert buffer.missing("A") == []
    (bar,) = buffer.add("A", T0, "1", "1", 1, 10)
    assert (bar.trade_count, buffer.stats.void_ids) == (1, 1)


ROW = ROW_DTYPE.names.index("row") if ROW_DTYPE.names else 0


def columns(rows: int, share: float, symbols: int = 3, seed: int = 5) -> dict[str, np.ndarray[Any, Any]]:
    """Trades of some symbols, a share of them void."""
    random = np.random.default_rng(seed)
    symbol_id = random.integers(0, symbols, rows).astype(np.int32)
    ids = np.zeros(rows, np.int64)
    for s in range(symbols):
        ids[symbol_id == s] = np.arange(int((symbol_id == s).sum()))
    void = random.random(rows) < share
    return {
        "time_ns": T0 + np.sort(random.integers(0, rows * SECOND // 20, rows)),
        "symbol_id": symbol_id,
        "price": np.where(void, 0, random.integers(1, 10_000, rows)),
        "size": np.where(void, 0, random.integers(1, 1_000, rows)),
        "side": random.integers(-1, 2, rows).astype(np.int8),
        "first_id": ids,
        "last_id": ids.copy(),
        "count": np.where(void, 0, 1),
    }


def run(rows: dict[str, np.ndarray[Any, Any]], specs: list[str], cut: int) -> list[Any]:
    """The bars of a kernel that takes so many rows at once."""
    instruments = Instruments()
    for symbol in "ABC":
        instruments.add(symbol, 2, 3)
    kernel = BarKernel(instruments, parse_specs(specs), Ledger())
    made = []
    for start in range(0, len(rows["time_ns"]), cut):
        part = {name: column[start : start + cut] for name, column in rows.items()}
        made += [
            row[:ROW] + row[ROW + 1 :]
            for row in kernel.update(TickBatch.from_columns(instruments, **part))[0].array().tolist()
        ]
    return made


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("specs", [["1s", "1m"], ["7s", "5s"], ["tick:10"], ["1m", "tick:7", "volume:3"], ["value:9"]])
def test_rows_cut_in_any_way_give_the_same_bars(share: float, specs: list[str]) -> None:
    rows = columns(12_000, share)
    whole = run(rows, specs, 12_000)
    assert run(rows, specs, 1500) == whole
    assert run(rows, specs, 97) == whole
    if share < 1:
        assert whole
    # Without side, count and a column of last ids of its own other loops run.
    plain = {name: rows[name] for name in ("time_ns", "symbol_id", "price", "size", "first_id")}
    plain["last_id"] = plain["first_id"]
    whole = run(plain, specs, 12_000)
    assert run(plain, specs, 97) == whole


PATHS = ("tick:9", "volume:7", "value:300", "range:80", "renko:30", "delta:3", "cusum:60")


@pytest.mark.parametrize("share", [0.01, 0.5])
@pytest.mark.parametrize("spec", ["1m", *PATHS])
@pytest.mark.parametrize("symbols", [1, 3], ids=["in_stretches", "by_turns"])
def test_void_rows_change_nothing_but_the_proof(share: float, spec: str, symbols: int) -> None:
    rows = columns(3_000, share, symbols)
    kept = rows["size"] > 0
    # A void row may have any price, one that trades have too: it is none.
    rows["price"] = np.where(kept, rows["price"], np.random.default_rng(6).integers(0, 10_000, len(kept)))
    names = ("trade_count", "open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume",
             "first_trade_id", "last_trade_id")  # fmt: skip

    def values(taken: dict[str, np.ndarray[Any, Any]]) -> list[tuple[Any, ...]]:
        instruments = Instruments()
        for symbol in "ABC":
            instruments.add(symbol, 2, 3)
        buffer = BarBuffer(spec, ids="contiguous", instruments=instruments, lateness_s=10**6)
        bars = buffer.add_batch(TickBatch.from_columns(instruments, **taken)) + buffer.flush_all()
        return [tuple(getattr(bar, name) for name in names) for bar in bars if not bar.revision]

    made = values(rows)
    assert len(made) > 5 * symbols or spec == "1m"
    assert made == values({name: column[kept] for name, column in rows.items()})


@pytest.mark.parametrize("spec", ["tick:2", "volume:3", "value:350", "range:25", "renko:10", "delta:3", "cusum:25"])
@pytest.mark.parametrize("cuts", [(), (3,), (4,), (3, 6)])
def test_a_bar_that_begins_with_a_late_trade_ends_where_void_ids_follow(spec: str, cuts: tuple[int, ...]) -> None:
    # The first three rows end a bar of each spec, and the next one begins with the trade that was missing until then.
    rows = [(1, "100", "1"), (3, "130", "2"), (2, "125", "1"), (4, "999", "0"), (5, "106", "1"), (6, "0", "0")]
    rows += [(n, "100" if n % 3 else "131", "1") for n in range(7, 40)]

    def bars(ids: Literal["contiguous", "none"]) -> list[tuple[Any, ...]]:
        buffer = BarBuffer(spec, ids=ids)
        made, batch = [], buffer.new_batch()
        for n, (trade_id, price, size) in enumerate(rows):
            if n in cuts:
                made += buffer.add_batch(batch)
                batch = buffer.new_batch()
            if ids == "contiguous":
                batch.append("A", T0 + n * SECOND, price, size, 1, trade_id)
            elif size != "0":
                batch.append("A", T0 + n * SECOND, price, size, 1)
        made += buffer.add_batch(batch)
        return [(bar.trade_count, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.open_time) for bar in made]

    made = bars("contiguous")
    assert len(made) > 5
    assert made == bars("none")  # where no trade is late, and none is void


@pytest.mark.parametrize("spec", ["1m", "tick:50"])
def test_aggregate_takes_void_rows(spec: str) -> None:
    rows = columns(30_000, 0.3)
    prices = [f"{price / 100:.2f}" for price in rows["price"].tolist()]
    made = fastbars.aggregate(
        rows["time_ns"], prices, rows["size"], symbol=rows["symbol_id"], trade_id=rows["first_id"], side=rows["side"],
        bars=spec,
    )  # fmt: skip
    bars = made.to_bars()
    assert sum(bar.trade_count or 0 for bar in bars) == int((rows["size"] > 0).sum())
    for symbol in "012":
        statuses = [str(bar.status) for bar in bars if bar.symbol == symbol]
        assert set(statuses[1:-1]) == {"COMPLETE"}


def test_a_negative_size_among_void_rows_is_refused_and_changes_nothing() -> None:
    rows = columns(5_000, 0.5)
    rows["size"][4_000] = -1
    instruments = Instruments()
    for symbol in "ABC":
        instruments.add(symbol, 2, 3)
    buffer = BarBuffer("1m", ids="contiguous", instruments=instruments)
    with pytest.raises(InvalidTickError, match="row 4000: size -1 is not at least 1"):
        buffer.add_batch(TickBatch.from_columns(instruments, **rows))
    assert (buffer.stats.void_ids, buffer.flush_all()) == (0, [])


# Messages of exchanges.


def binance_trade(seconds: float, trade_id: int, *, void: bool, symbol: str = "BTCUSDT") -> bytes:
    """A trade of Binance futures as it is sent."""
    milliseconds = (T0 + round(seconds * SECOND)) // 1_000_000
    price, size, kind = ("0", "0", "NA") if void else (f"{61_000 + trade_id}.10", "0.250", "MARKET")
    return orjson.dumps({
        "e": "trade", "E": milliseconds + 1, "T": milliseconds, "s": symbol, "t": trade_id, "p": price, "q": size,
        "X": kind, "m": trade_id % 2 == 0,
    })  # fmt: skip


def other_trade(venue: str, seconds: float, trade_id: int, *, void: bool) -> bytes:
    """A trade of a venue whose ids are contiguous, where a size of 0 was never seen and is taken all the same."""
    time_ns = T0 + round(seconds * SECOND)
    price, size = "100.5", "0" if void else "2"
    stamp = np.datetime_as_string(np.datetime64(time_ns, "ns"), unit="us") + "Z"
    if venue == "okx":
        row = {"instId": "BTC-USDT", "tradeId": str(trade_id), "px": price, "sz": size, "side": "buy",
               "ts": str(time_ns // 1_000_000), "count": "1"}  # fmt: skip
        return orjson.dumps({"arg": {"channel": "trades-all", "instId": "BTC-USDT"}, "data": [row]})
    if venue == "coinbase":
        return orjson.dumps({
            "channel": "market_trades", "client_id": "", "timestamp": stamp, "sequence_num": trade_id,
            "events": [{"type": "update", "trades": [
                {"product_id": "BTC-USD", "trade_id": str(trade_id), "price": price, "size": size, "side": "BUY",
                 "time": stamp}]}],
        })  # fmt: skip
    body = {
        "channel": "trade", "type": "update",
        "data": [{"symbol": "BTC/USD", "side": "buy", "qty": float(size), "price": 100.5, "ord_type": "limit",
                  "trade_id": trade_id, "timestamp": stamp}],
    }  # fmt: skip
    return orjson.dumps(body)


def received(exchange: str, market: str | None, payloads: list[bytes], *, tells: bool, lines: int = 1) -> Any:
    """(bars, ticks told, buffer's counters) of a session that receives these, over redundant lines too."""
    ticks: list[TickData] = []
    config = StreamConfig(bars="1m", lines=lines)
    callbacks = Callbacks(on_tick=ticks.append) if tells else Callbacks()
    session = Session(find_exchange(exchange, market) if market else find_exchange(exchange), config, callbacks,
                      channel=None)  # fmt: skip
    bars = []
    for payload in payloads:
        for line in range(lines):
            bars += session.receive([payload], T0, 0, line=line).bars
    bars += session.flush(T0)
    return [summary(bar) for bar in bars], ticks, session.buffer_stats


@pytest.mark.parametrize("tells", [False, True])
@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("market", ["usdm", "coinm"])
def test_void_ids_of_binance_futures_leave_bars_complete(tells: bool, lines: int, market: str) -> None:
    rows = [(-1.0, 1, False), (0.0, 2, False), (5.0, 3, True), (30.0, 4, False), (59.0, 5, True), (61.0, 6, True)]
    payloads = [binance_trade(at, trade_id, void=void) for at, trade_id, void in [*rows, (120.0, 7, False)]]
    bars, ticks, stats = received("binance", market, payloads, tells=tells, lines=lines)
    assert bars[1] == (0, "COMPLETE", 2, 61004, 2, 4)
    assert (stats.void_ids, stats.refused, stats.late) == (3, 0, 0)
    assert [tick.trade_id for tick in ticks] == ([1, 2, 4, 7] if tells else [])


@pytest.mark.parametrize("venue", ["okx", "coinbase", "kraken"])
def test_a_size_of_zero_is_void_on_every_venue_with_contiguous_ids(venue: str) -> None:
    rows = [(-1.0, 1, False), (0.0, 2, False), (5.0, 3, True), (30.0, 4, False), (60.0, 5, False)]
    payloads = [other_trade(venue, at, trade_id, void=void) for at, trade_id, void in rows]
    bars, _, stats = received(venue, None, payloads, tells=False)
    assert [bar[1:3] for bar in bars] == [("PARTIAL", 1), ("COMPLETE", 2), ("PARTIAL", 1)]
    assert (stats.void_ids, stats.refused) == (1, 0)


def test_an_aggregate_of_quantity_zero_uses_its_ids_up() -> None:
    def aggregate(seconds: float, first: int, last: int, size: str) -> bytes:
        milliseconds = (T0 + round(seconds * SECOND)) // 1_000_000
        return orjson.dumps({
            "e": "aggTrade", "E": milliseconds, "s": "BTCUSDT", "a": first, "p": "100", "q": size, "f": first,
            "l": last, "T": milliseconds, "m": False,
        })  # fmt: skip

    payloads = [aggregate(-1, 1, 3, "1"), aggregate(0, 4, 6, "1"), aggregate(1, 7, 9, "0.0"), aggregate(2, 10, 11, "1"),
                aggregate(60, 12, 12, "1")]  # fmt: skip
    bars, _, stats = received("binance", None, payloads, tells=False)
    assert [bar[1:3] for bar in bars] == [("PARTIAL", 3), ("COMPLETE", 5), ("PARTIAL", 1)]
    assert (stats.void_ids, stats.refused) == (1, 0)


def test_void_ids_go_on_across_a_snapshot() -> None:
    def fed(buffer: BarBuffer, *rows: tuple[float, int, str]) -> list[Any]:
        bars = []
        for at, trade_id, size in rows:
            bars += buffer.add("A", T0 + round(at * SECOND), str(100 + trade_id), size, 1, trade_id)
        return bars

    before = BarBuffer("1m", ids="contiguous")
    fed(before, (-1, 1, "1"), (0, 2, "1"), (1, 3, "0"))
    after = BarBuffer("1m", ids="contiguous")
    after.load(before.dump())
    bars = fed(after, (2, 4, "0"), (3, 5, "1"), (60, 6, "1"))
    assert [summary(bar) for bar in bars] == [(0, "COMPLETE", 2, 105, 2, 5)]
    assert (after.stats.void_ids, after.stats.trades) == (2, 4)
