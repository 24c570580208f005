"""The layout memory: whatever a venue sends, with and without it the scanner takes the trades that Python reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from examples import examples
from fastbars.exchanges import find_exchange
from fastbars.exchanges.reader import TradeReader
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.recent import RecentKeys
from fastbars.kernel.scaled import to_decimal
from fastbars.wire.fields import TradeFields
from fastbars.wire.scanner import TradeScanner
from fastbars.wire.walker import FrameWalker

UUID = "a9188a0a-82bc-50de-be60-03eedbe3cdd7"
HASH = "0xde477894bfb2b4eac0a8041c9228ca013100955485522c8e6e787dfa0077475b"
USERS = ["0xe9ed7e16612d676df804f5aecd16e1f9bf9ec9dd", "0x6802b4267f7f2bf7003dcf993c51542245b38329"]
BINANCE = {"e": "trade", "E": 1723161255343, "s": "BTCUSDT", "t": 3735683259, "p": "61837.63000000", "q": "0.02000000",
           "T": 1723161255342, "m": True, "M": True}  # fmt: skip
# exchange, market, channel; a message and where its trades are
VENUES: dict[str, tuple[str, str | None, str | None, dict[str, Any], tuple[str | int, ...]]] = {
    "binance": ("binance", "spot", "trade", BINANCE, ()),
    "binance combined": ("binance", "spot", "trade", {"stream": "btcusdt@trade", "data": BINANCE}, ("data",)),
    "binance aggTrade": (
        "binance", "spot", "aggTrade",
        {"e": "aggTrade", "E": 1617566591315, "s": "BTCUSDT", "a": 665076760, "p": "58001.03", "q": "0.0862",
         "f": 745522870, "l": 745522877, "T": 1617566591314, "m": False, "M": True}, ()),
    "binance futures": (
        "binance", "usdm", "trade",
        {"e": "trade", "E": 1723161256322, "T": 1723161256322, "s": "BTCUSDT", "t": 5266583935, "p": "61800.30",
         "q": "0.006", "X": "MARKET", "m": False}, ()),
    "bybit": (
        "bybit", None, None,
        {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1786310819681, "data": [
            {"T": 1786310819680, "s": "BTCUSDT", "S": "Sell", "v": "0.004", "p": "65114.20", "L": "MinusTick",
             "i": UUID, "BT": False, "RPI": False, "seq": 753843954913}]}, ("data",)),
    "okx": (
        "okx", None, None,
        {"arg": {"channel": "trades-all", "instId": "BTC-USDT"}, "data": [
            {"instId": "BTC-USDT", "tradeId": "130639474", "px": "42219.9", "sz": "0.12060306", "side": "buy",
             "ts": "1630048897897"}]}, ("data",)),
    "coinbase": (
        "coinbase", None, None,
        {"channel": "market_trades", "timestamp": "2026-08-09T21:05:48.251397169Z", "sequence_num": 9, "events": [
            {"type": "update", "trades": [
                {"product_id": "BTC-USD", "trade_id": "1068572091", "price": "65083.67", "size": "0.0103",
                 "time": "2026-08-09T21:05:48.167634Z", "side": "SELL"}]}]}, ("events", 0, "trades")),
    "kraken": (
        "kraken", None, None,
        {"channel": "trade", "type": "update", "data": [
            {"symbol": "BTC/USD", "side": "buy", "price": 105944.2, "qty": 0.5, "ord_type": "limit",
             "trade_id": 10218208, "timestamp": "2023-10-06T17:35:55.440295Z"}]}, ("data",)),
    "deribit": (
        "deribit", None, None,
        {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": "trades.BTC-PERPETUAL.100ms", "data": [
            {"trade_seq": 30289442, "trade_id": "48079269", "timestamp": 1590484512188, "tick_direction": 2,
             "price": 8950.5, "instrument_name": "BTC-PERPETUAL", "direction": "sell", "amount": 10.5}]}},
        ("params", "data")),
    "hyperliquid": (
        "hyperliquid", None, None,
        {"channel": "trades", "data": [
            {"coin": "BTC", "hash": HASH, "px": "105056.0", "side": "B", "sz": "0.02222", "tid": 917211710228416,
             "time": 1737918847000, "users": USERS}]}, ("data",)),
}  # fmt: skip


class Bare(str):
    """A number as it is to stand in the message."""

    __slots__ = ()


def written(value: Any, space: str) -> str:
    """JSON, with white space around everything."""
    if isinstance(value, Bare):
        return str(value)
    if isinstance(value, dict):
        pairs = (f"{space}{json.dumps(key)}{space}:{space}{written(each, space)}{space}" for key, each in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(f"{space}{written(each, space)}{space}" for each in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def fields_of(name: str) -> tuple[TradeFields, str]:
    exchange = find_exchange(*VENUES[name][:2])
    channel = VENUES[name][2] or exchange.default_channel
    fields = exchange.fields(channel)
    assert fields is not None
    return fields, channel


Row = tuple[Any, ...]  # time_ns, symbol, price, size, side, first_id, last_id, count


class Side:
    """A scanner with a batch and keys of its own."""

    def __init__(self, name: str, *, remembers: bool) -> None:
        self.fields, channel = fields_of(name)
        self.instruments = Instruments("test")
        self.batch = TickBatch(self.instruments, ids=self.fields.has_ids, counts=True, sequences=True)
        self.scanner = TradeScanner(self.fields, self.batch, self.instruments.add, RecentKeys(), remembers=remembers)
        self.reader = TradeReader(channel, self.fields)
        self.exchange = find_exchange(*VENUES[name][:2])
        self.seen: set[tuple[object, ...]] = set()

    def rows(self) -> list[Row]:
        columns = [
            None if (column := self.batch.column(name)) is None else column.tolist()
            for name in ("time_ns", "symbol_id", "price", "size", "side", "first_id", "last_id", "count")
        ]
        rows = []
        for at in range(len(self.batch)):
            time_ns, symbol_id, price, size, *others = [0 if column is None else column[at] for column in columns]
            symbol = self.instruments.symbol(symbol_id)
            scales = self.batch.scales(symbol)
            rows.append((time_ns, symbol, to_decimal(price, scales[0]), to_decimal(size, scales[1]), *others))
        return rows

    def take(self, payload: bytes) -> tuple[bool, list[Row], int | None]:
        """What one message comes to."""
        self.batch.clear()
        return self.scanner.scan(payload), self.rows(), self.scanner.take_event_time()

    def in_python(self, payload: bytes) -> list[Row]:
        """The same trades by the reader, those that were seen before left out."""
        trades = self.reader.read(self.exchange.loads(payload))
        assert trades is not None
        rows = []
        for trade in trades:
            key = (trade.symbol, trade.time_ns, trade.key)
            if trade.key is not None and key in self.seen:
                continue
            self.seen.add(key)
            size = Decimal(trade.size)
            first, last = trade.first_id or 0, trade.last_id if trade.last_id is not None else trade.first_id or 0
            price = Decimal(trade.price) if size else Decimal(0)
            count = trade.trade_count or last - first + 1
            rows.append((trade.time_ns, trade.symbol, price, size, trade.side, first, last, count))
        return rows


def frame(payload: bytes) -> bytes:
    size = len(payload)
    return b"\x81" + (size.to_bytes() if size < 126 else b"\x7e" + size.to_bytes(2)) + payload


TEXTS = ["", "x", "MinusTick", "ZeroPlusTick", "a b", "!", 'quo"ted', "back\\slash", "\u00e9", "\x7f", "0" * 64,
         "y" * 255, "z" * 256, HASH, HASH[:-1], UUID, UUID[:-1] + "\\"]  # fmt: skip
DECIMALS = ["0.1", "61837.63", "00.5", "1e3", "2.5E-2", "123456789012345678", "12345678901234567890", "-1", "0",
            "0.000", "1.", ".5", "12345678.12345678", "123456789.5", "1.123456789", "", "7"]  # fmt: skip
NUMBERS = ["0", "7", "12", "00", "-1", "1.5", "1e3", "9" * 15, "9" * 16, "9" * 18, "9" * 19, "1737918847001", "true"]
OTHERS = [False, True, None, [], {}, [1, 2], ["a"], ["a", "b", "c"], {"a": "b"}, {"a": ["b\\", 1.5, None]}, Bare("12"),
          Bare("-0.5"), Bare("1e5"), "text"]  # fmt: skip


def values_for(value: Any) -> st.SearchStrategy[Any]:
    """What may stand in the place of a value: something like it, or something odd."""
    if isinstance(value, bool):
        return st.sampled_from([True, False]) | st.sampled_from(OTHERS)
    if isinstance(value, int | float):
        near = st.integers(0, 40).map(lambda more: Bare(str(value + more) if isinstance(value, int) else f"{more}.25"))
        return near | st.sampled_from(NUMBERS).map(Bare) | st.sampled_from(DECIMALS[:9]).map(Bare)
    if not isinstance(value, str):
        return st.sampled_from(OTHERS)
    alike = st.integers(0, 9).map(lambda digit: value[:-1] + str(digit))
    return alike | st.sampled_from(DECIMALS) | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS)


@st.composite
def messages(draw: Callable[..., Any], name: str) -> bytes:
    """One message: mostly as documented, of one to four trades, here and there something else."""
    *_, whole, path = VENUES[name]
    whole = json.loads(json.dumps(whole))
    place: Any = whole
    for step in path:
        place = place[step]
    orders = draw(st.integers(0, 9)) == 0

    def changed(trade: dict[str, Any]) -> dict[str, Any]:
        trade = dict(trade)
        for key in draw(st.lists(st.sampled_from(sorted(trade)), max_size=3, unique=True)):
            trade[key] = draw(values_for(trade[key]))
        return dict(draw(st.permutations(list(trade.items())))) if orders else trade

    if isinstance(place, list):
        (one,) = place
        place[:] = [changed(one) for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 2, 3, 4])))]
    else:
        new = changed(place)
        place.clear()
        place.update(new)
    if draw(st.integers(0, 9)) == 0:
        key = draw(st.sampled_from(sorted(whole)))
        whole[key] = draw(values_for(whole[key]))
    text = written(whole, draw(st.sampled_from(["", "", "", "", " ", "\n\t"])))
    if draw(st.integers(0, 19)) == 0:
        text = text[: draw(st.integers(0, len(text)))]  # cut
    if draw(st.integers(0, 19)) == 0:
        text = text.replace("{", '{"twice":1,"twice":2,', 1)
    return text.encode()


@pytest.mark.parametrize("name", VENUES)
@settings(max_examples=examples(80))
@given(data=st.data())
def test_any_messages_of_a_venue_give_the_same_trades_with_and_without_layouts(name: str, data: st.DataObject) -> None:
    payloads = data.draw(st.lists(messages(name), min_size=1, max_size=12))
    general, remembering = Side(name, remembers=False), Side(name, remembers=True)
    outcomes = []
    for payload in payloads:
        outcome = general.take(payload)
        outcomes.append(outcome)
        assert remembering.take(payload) == outcome, payload
        if outcome[0]:
            assert outcome[1] == general.in_python(payload), payload
    # The same again in one read, where bytes of other messages lie behind each.
    walked = []
    for remembers in (False, True):
        walking, left = Side(name, remembers=remembers), list[bytes]()
        FrameWalker(left.append, lambda _: True, walking.scanner).feed(b"".join(map(frame, payloads)))
        walked.append((walking.rows(), left))
    assert walked[0] == walked[1]


@pytest.mark.parametrize("name", VENUES)
def test_messages_of_one_shape_are_read_by_their_layout(name: str) -> None:
    *_, whole, path = VENUES[name]
    side = Side(name, remembers=True)
    taken = 0
    for number in range(40):
        message = json.loads(json.dumps(whole), parse_float=Bare, parse_int=Bare)
        place = message
        for step in path:
            place = place[step]
        many = isinstance(place, list)
        if many:
            place += [dict(place[0]) for _ in range(number % 3)]
        for at, trade in enumerate(place if many else [place]):
            for key in trade.keys() & {"i", "tid"}:
                text = trade[key]
                trade[key] = type(text)(text[:-3] + f"{10 * number + at:03}")
        payload = written(message, "").encode()
        ready, rows, _ = side.take(payload)
        assert ready
        assert rows == side.in_python(payload)
        taken += 1
    # The first is learnt; others may differ in the length of a number once.
    assert side.scanner.learnt_count <= 3 < taken


def test_a_word_that_became_a_number_leaves_no_room_for_others() -> None:
    def message(value: str) -> bytes:
        return written(BINANCE | {"M": Bare(value)}, "").encode()

    side = Side("binance", remembers=True)
    for value in ("false", "12", "12", "false", "12"):
        assert side.take(message(value))[0]
    for value in ("false12", "falsexy", "false\xff", "false, "):
        assert not side.take(message(value))[0], value


def test_arrays_of_ever_other_shapes_are_passed_over_as_a_whole() -> None:
    side = Side("hyperliquid", remembers=True)
    whole = VENUES["hyperliquid"][3]
    for number in range(200):
        trade = whole["data"][0] | {"users": USERS * (number % 5), "tid": number, "time": 1737918847000 + number}
        assert side.take(written(whole | {"data": [trade]}, "").encode())[0]
    assert side.scanner.learnt_count < 20
