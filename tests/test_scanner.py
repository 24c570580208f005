"""The trade scanner against a slow reader of the same declarations, and against orjson's verdict on JSON."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings, strategies as st

from declared import FIELDS, MESSAGES, Row, read
from examples import examples
from fastbars.errors import PrecisionError
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.scaled import to_decimal
from fastbars.wire.fields import TradeFields
from fastbars.wire.scanner import TradeScanner

TRADE = MESSAGES["binance trade"]


class Scan:
    """A scanner and the batch that it fills."""

    def __init__(self, fields: TradeFields, *, remembers: bool = True) -> None:
        self.instruments = Instruments("test")
        self.batch = TickBatch(self.instruments, ids=fields.first_id is not None, counts=True, sequences=True)
        self.scanner = TradeScanner(fields, self.batch, self.instruments.add, remembers=remembers)

    def rows(self) -> list[Row]:
        def column(name: str) -> list[int]:
            values = self.batch.column(name)
            return [0] * len(self.batch) if values is None else [int(value) for value in values]

        names = ("time_ns", "symbol_id", "price", "size", "side", "first_id", "last_id", "count", "sequence")
        rows: list[Row] = []
        for time_ns, symbol_id, price, size, *others in zip(*map(column, names), strict=True):
            symbol = self.instruments.symbol(symbol_id)
            scales = self.batch.scales(symbol)
            rows.append((time_ns, symbol, to_decimal(price, scales[0]), to_decimal(size, scales[1]), *others))
        return rows

    def take(self, payload: bytes) -> tuple[bool, list[Row], int | None]:
        """What one message comes to."""
        self.batch.clear()
        taken = self.scanner.scan(payload)
        rows, event_ns = self.rows(), self.scanner.take_event_time()
        if not taken:
            assert (rows, event_ns) == ([], None)
        return taken, rows, event_ns


def scans(kind: str, payload: bytes) -> bool:
    """Whether a message is taken, with and without a layout learnt before; then its trades are the reader's."""
    fields = FIELDS[kind]
    fresh, learnt = Scan(fields, remembers=False), Scan(fields)
    assert learnt.take(MESSAGES[kind])[0]
    outcome = fresh.take(payload)
    assert learnt.take(payload) == outcome
    assert learnt.take(payload) == outcome  # now the layout is this message's own
    if outcome[0]:
        orjson.loads(payload)
        assert outcome[1:] == read(fields, payload)
    return outcome[0]


@pytest.mark.parametrize("kind", MESSAGES)
def test_the_documented_message_of_every_kind_is_taken(kind: str) -> None:
    assert scans(kind, MESSAGES[kind])


def test_a_trade_becomes_a_row() -> None:
    scan = Scan(FIELDS["binance trade"])
    assert scan.take(TRADE) == (
        True,
        [(1723161255342000000, "BTCUSDT", Decimal("61837.63"), Decimal("0.02"), -1, 3735683259, 3735683259, 1,
          3735683259)],
        1723161255343000000,
    )  # fmt: skip
    assert scan.batch.scales("BTCUSDT") == (2, 2)
    assert scan.scanner.take_counts() == (1, len(TRADE), 1)
    assert scan.scanner.take_counts() == (0, 0, 0)


@pytest.mark.parametrize("kind", MESSAGES)
def test_keys_in_any_order_white_space_and_unknown_values_change_nothing(kind: str) -> None:
    def stir(value: Any) -> Any:
        if isinstance(value, dict):
            odd = {"": None, "other": [[], {}, {"a": [1.5e3, -0, '\u00e9\n"']}], "a long name of its own": False}
            return dict(reversed([(key, stir(each)) for key, each in value.items()])) | odd
        return [stir(each) for each in value] if isinstance(value, list) else value

    message = stir(json.loads(MESSAGES[kind], parse_float=Decimal))
    for indent in (None, 2):
        text = json.dumps(message, indent=indent, default=float, ensure_ascii=False)
        assert scans(kind, f" \n{text}\r\t ".encode())


def test_trades_of_one_message_come_out_in_time_order() -> None:
    times = [row[0] for row in Scan(FIELDS["coinbase"]).take(MESSAGES["coinbase"])[1]]
    assert times == sorted(times)
    assert len(times) == 2


def test_a_layout_takes_any_number_of_trades() -> None:
    message = json.loads(MESSAGES["bybit"])
    one = message["data"][0]
    scan = Scan(FIELDS["bybit"])
    for number in (1, 3, 2, 1000):
        message["data"] = [one | {"T": one["T"] + n, "p": str(n + 1)} for n in range(number)]
        taken, rows, _ = scan.take(orjson.dumps(message))
        assert taken
        assert [row[2] for row in rows] == [Decimal(n + 1) for n in range(number)]


def test_a_trade_that_does_not_count_is_passed_over() -> None:
    message = MESSAGES["bybit"].replace(b'"BT":false', b'"BT":true', 1)
    assert [row[2] for row in Scan(FIELDS["bybit"]).take(message)[1]] == [Decimal(65114)]
    assert scans("bybit", message)
    assert not scans("bybit", MESSAGES["bybit"].replace(b'"BT":false', b'"BT":true'))  # none is left: Python's


EDGES = b'\x00\x1f "+,-./09:;A\\]}\x7f\x80\xff'


@pytest.mark.parametrize("kind", MESSAGES)
def test_one_byte_changed_in_any_place_is_judged_as_orjson_and_the_reader_do(kind: str) -> None:
    message, fields = MESSAGES[kind], FIELDS[kind]
    general, learnt = Scan(fields, remembers=False), Scan(fields)
    for place in range(len(message)):
        for byte in range(256) if kind == "binance trade" else EDGES:
            payload = message[:place] + bytes([byte]) + message[place + 1 :]
            assert learnt.take(message)[0]  # what is remembered is the message as it was
            outcome = learnt.take(payload)
            assert outcome == general.take(payload), payload
            if outcome[0]:
                assert outcome[1:] == read(fields, payload), payload


def but(old: bytes, new: bytes) -> bytes:
    assert old in TRADE
    return TRADE.replace(old, new, 1)


NOT_JSON = [
    TRADE[:-1],
    TRADE + b"x",
    TRADE + b"}",
    TRADE + b"\x00",
    b"\xef\xbb\xbf" + TRADE,
    b"",
    b"{",
    b"[" + TRADE + b"]",
    but(b'"M":true', b'"M":tru'),
    but(b'"M":true', b'"M":NaN'),
    but(b":true}", b":true,}"),
    but(b'"M":true', b'"M":01'),
    but(b'"M":true', b'"M":1.'),
    but(b'"M":true', b'"M":-'),
    but(b'"M":true', b'"M":1e'),
    but(b'"M":true', b'"M":1e999'),
    but(b'"M":true', b'"M":+1'),
    but(b'"M":true', b'"M":"\x1f"'),
    but(b'"M":true', b'"M":"\\x"'),
    but(b'"M"', b'"\xff"'),
    but(b'"M":true', b'"M":"\\ud800"'),
    but(b'"M":true', b'"M":"\\u12g4"'),
    but(b'"M":true', b'"M":"\xc0\x80"'),
    but(b'"M":true', b'"M":"\xed\xa0\x80"'),
    but(b'"M":true', b'"M":"\xf4\x90\x80\x80"'),
    but(b'"M":true', b'"M":[1,]'),
    but(b'"M":true', b'"M":{"a"}'),
    but(b'"M":true', b'"M":{1:2}'),
    but(b'"t":', b'"t":0'),
    but(b'"T":1', b'"T":01'),
    but(b"BTCUSDT", b"BTC\nUSDT"),
    but(b"BTCUSDT", b"\xff"),
    but(b',"q"', b'"q"'),
    but(b'"p":', b'"p"'),
    but(b'"m":true', b'"m":true true'),
]
PYTHONS = [
    but(b'"trade"', b'"aggTrade"'),
    but(b'"e"', b'"\\u0065"'),
    but(b'"p":', b'"p":"1","p":'),
    but(b'"s":"BTCUSDT",', b""),
    but(b'"BTCUSDT"', b'""'),
    but(b'"BTCUSDT"', b"null"),
    but(b"61837.63000000", b"0.000"),
    but(b"61837.63000000", b"-1"),
    but(b"61837.63", b"x"),
    but(b'"61837.63000000"', b"61837.63"),
    but(b'"61837.63000000"', b'""'),
    but(b"61837.63000000", b"1234567890123456789"),
    but(b"61837.63000000", b"1e30"),
    but(b'"m":true', b'"m":null'),
    but(b'"m":true', b'"m":"true"'),
    but(b":3735", b":-3735"),
    but(b":3735683259", b":3735683259.0"),
    but(b":3735683259", b":37356832593735683259"),
    but(b"1723161255342", b"172316125534200000000"),
    but(b"1723161255343", b"17231612553430000000"),
    b'{"stream":"x","data":[' + TRADE + b"]}",
    b'{"e":"trade","data":' + TRADE + b"}",
    b'{"data":{"data":' + TRADE + b"}}",
    but(b'"M":true', b'"M":' + b"[" * 70 + b"]" * 70),
    b"[]",
    b"{}",
    b'"trade"',
    b"1",
]


@pytest.mark.parametrize("payload", NOT_JSON)
def test_what_orjson_refuses_is_never_a_trade(payload: bytes) -> None:
    assert not scans("binance trade", payload)


@pytest.mark.parametrize("payload", PYTHONS)
def test_what_is_not_as_declared_is_left_to_python(payload: bytes) -> None:
    assert not scans("binance trade", payload)


@pytest.mark.parametrize("ending", [b"", b" ", b"\n"])
@pytest.mark.parametrize(
    ("price", "value"),
    [("1", "1"), ("0.1", "0.1"), ("00012.50", "12.5"), ("123456789012345678", "123456789012345678"), ("1e3", "1000"),
     ("0.00000000123456789", "1.23456789E-9"), ("1.50E-07", "1.5E-7"), ("100000000.00000001", "100000000.00000001")],
)  # fmt: skip
def test_a_price_is_read_digit_for_digit(price: str, value: str, ending: bytes) -> None:
    taken, rows, _ = Scan(FIELDS["binance trade"]).take(TRADE.replace(b"61837.63000000", price.encode()) + ending)
    assert taken
    assert rows[0][2] == Decimal(value)


def test_a_scale_widens_with_the_rows_of_the_same_batch() -> None:
    scan = Scan(FIELDS["binance trade"])
    for price in (b"5", b"61837.63000000", b"0.12345678", b"2"):
        assert scan.scanner.scan(TRADE.replace(b"61837.63000000", price))
    assert [str(row[2]) for row in scan.rows()] == ["5", "61837.63", "0.12345678", "2"]


def test_a_trade_that_does_not_fit_its_symbols_scale_leaves_no_row() -> None:
    scan = Scan(FIELDS["binance trade"])
    assert scan.scanner.scan(TRADE.replace(b"61837.63000000", b"0.0000000000000001"))
    assert not scan.scanner.scan(TRADE.replace(b"61837.63000000", b"123456789"))
    assert [row[2] for row in scan.rows()] == [Decimal("1E-16")]
    with pytest.raises(PrecisionError, match="does not fit 64 bits"):
        scan.batch.append("BTCUSDT", 0, "123456789", "1", first_id=1)


def test_a_message_of_which_one_trade_does_not_fit_leaves_no_row() -> None:
    scan = Scan(FIELDS["bybit"])
    message = json.loads(MESSAGES["bybit"])
    message["data"][0]["p"], message["data"][1]["p"] = "0.00000000000000001", "123456789"
    assert scan.take(orjson.dumps(message)) == (False, [], None)


def test_every_symbol_is_asked_for_once_however_many_there_are() -> None:
    asked: list[str] = []
    instruments = Instruments()
    batch = TickBatch(instruments, counts=True)

    def add(symbol: str) -> int:
        asked.append(symbol)
        return instruments.add(symbol)

    scanner = TradeScanner(FIELDS["binance trade"], batch, add)
    names = [f"{'LONGNAME' * (n % 4)}{n}" for n in range(3000)]
    for _ in range(2):
        for name in names:
            assert scanner.scan(TRADE.replace(b"BTCUSDT", name.encode()))
    assert asked == names
    assert [instruments.symbol(int(i)) for i in batch.column("symbol_id")[:3000]] == names  # type: ignore[index]


def test_a_symbol_spelled_with_escapes_is_the_same_symbol() -> None:
    scan = Scan(FIELDS["binance trade"])
    for name in (b"BTC\\/USD", b"BTC/USD", b"BTC\\u002fUSD", b"\xe5\xb8\x81\xe5\xae\x89", b"\\u5e01\\u5b89"):
        assert scan.scanner.scan(TRADE.replace(b"BTCUSDT", name))
    assert [row[1] for row in scan.rows()] == ["BTC/USD"] * 3 + ["\u5e01\u5b89"] * 2


@pytest.mark.parametrize(
    ("text", "good"),
    [("2024-02-29T00:00:00Z", True), ("2023-02-29T00:00:00Z", False), ("2100-02-29T00:00:00Z", False),
     ("1970-01-01T00:00:00.000000001Z", True), ("2023-10-06T17:35:55.1234567890Z", False),
     ("2023-10-06T17:35:55.Z", False), ("2023-13-06T17:35:55Z", False), ("2023-10-06T24:35:55Z", False),
     ("2023-10-06T17:35:60Z", False), ("2023-10-06T17:35:55+00:00", False), ("2023-10-06 17:35:55Z", False),
     ("2023-10-06T17:35:55", False), ("202x-10-06T17:35:55Z", False), ("1969-12-31T23:59:59.999999999Z", True)],
)  # fmt: skip
def test_times_in_text_are_read_to_the_nanosecond(text: str, good: bool) -> None:
    assert scans("kraken", MESSAGES["kraken"].replace(b"2023-10-06T17:35:55.440295Z", text.encode())) == good


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"price": "s"}, "'s' is declared twice"),
        ({"price": "p" * 40}, "is not ASCII of 1 to 32 bytes"),
        ({"match": {("s", "x"): "y"}}, "is declared as a value and as an object"),
        ({"envelope": "s"}, "'s' is declared as envelope and as a key within"),
        ({"match": {"e": "x" * 50}}, "is longer than 48 bytes"),
        ({"match": {"e": tuple("abcdefghijklmnopqrstuvwxyz" * 2)}}, "more than 48 literals"),
        ({"match": {f"k{n}": "v" for n in range(30)}}, "the limit is 23"),
        ({"match": {tuple("abcdefghij"): "v"}}, "more than 8 objects"),
    ],
)
def test_a_declaration_that_cannot_be_followed_is_refused(changes: dict[str, Any], message: str) -> None:
    least: dict[str, Any] = {"match": {"e": "t"}, "symbol": "s", "price": "p", "size": "q", "time": "T"}
    with pytest.raises(ValueError, match=message):
        Scan(TradeFields(**least | changes))


NUMBERS = st.one_of(
    st.decimals(min_value=0, max_value=10**10, places=6, allow_nan=False).map(lambda number: format(number, "f")),
    st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,10})?([eE][-+]?[0-9]{1,2})?", fullmatch=True),
)
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def payloads(draw: st.DrawFn, kind: str) -> bytes:
    """A message like the documented one: other values, order, unknown keys, white space; sometimes damaged."""
    text = MESSAGES[kind].decode()
    root = json.loads(text, parse_float=lambda number: "#" + number)

    def vary(value: Any) -> Any:
        if isinstance(value, dict):
            pairs = [(key, vary(each)) for key, each in value.items()]
            if draw(st.booleans()):
                pairs = draw(st.permutations(pairs))
            if draw(st.booleans()):
                pairs.insert(draw(st.integers(0, len(pairs))), (draw(st.text(max_size=9)), draw(ANY_VALUE)))
            return dict(pairs)
        if isinstance(value, list):
            return [vary(each) for each in value] * draw(
                st.integers(1, 3) if isinstance(value[0], dict) else st.just(1)
            )
        choice = draw(st.integers(0, 5))
        if isinstance(value, str) and value[:1].isdigit() and "-" not in value and choice < 3:
            return draw(NUMBERS)
        if isinstance(value, int) and not isinstance(value, bool) and choice < 3:
            return draw(st.integers(0, 10**18))
        if isinstance(value, str) and choice == 3:
            return draw(st.text(max_size=12))
        return draw(ANY_VALUE) if choice == 4 and draw(st.booleans()) else value

    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), ("\n,", "\t:")]))
    payload = json.dumps(vary(root), separators=separators, ensure_ascii=draw(st.booleans()))
    payload = payload.replace('"#', "").replace('e-04"', "e-04").replace('.2"', ".2") if "#" in payload else payload
    raw = bytearray(payload.encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(
            st.binary(max_size=2) | st.sampled_from([b'"', b",", b"}", b"\\"])
        )
    return bytes(raw)


def bybit_numbers(first: int, second: int) -> bytes:
    """Two trades of one message, whose sequence numbers differ in length."""
    return MESSAGES["bybit"].replace(b"753843954913", b"%d" % first).replace(b'"seq":2}', b'"seq":%d}' % second)


CASES = st.sampled_from(list(MESSAGES)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(payloads(kind), max_size=5))
)


@given(CASES)
@example(("binance trade", [TRADE, TRADE.replace(b'"M":true', b'"M":{"p":1}'), TRADE]))
@example(("binance trade", [TRADE.replace(b'"t":3735683259', b'"t":0').replace(b"61837.63000000", b"0.000000")]))
@example(("binance trade", [TRADE, TRADE.replace(b"61837.63000000", b"61837163000000"), TRADE]))
@example(("bybit", [bybit_numbers(7, 940127549046)]))
@example(("seconds", [MESSAGES["seconds"], MESSAGES["seconds"].replace(b"1.5", b"105")]))
@settings(max_examples=examples(400))
def test_any_messages_give_the_readers_trades_whatever_is_remembered(case: tuple[str, list[bytes]]) -> None:
    kind, messages = case
    with_memory, without = Scan(FIELDS[kind]), Scan(FIELDS[kind], remembers=False)
    for payload in [MESSAGES[kind], *messages, MESSAGES[kind]]:
        outcome = without.take(payload)
        assert with_memory.take(payload) == outcome
        if outcome[0]:
            assert outcome[1:] == read(FIELDS[kind], payload)
    assert outcome[0]  # and the documented message is taken at the end as at the beginning
