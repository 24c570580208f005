"""The contract of every exchange, as checks that raise AssertionError, for authors of exchanges.

    from fastbars.testing import CHECKS, ExchangeFixtures

    FIXTURES = ExchangeFixtures(exchange=Bitstamp(), trades=[...], acks=[...], ...)

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_bitstamp_keeps_the_contract(check):
        check(FIXTURES)

Any test framework will do; without one, `check_exchange(FIXTURES)` runs all checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import urlencode

from fastbars.bars import BarStatus, ExchangeBar, OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.errors import ParseError, RestError, SubscriptionError
from fastbars.exchanges.candles import CandleHistory, CandlePaging, grid_of, read_candles
from fastbars.exchanges.checked import BROKEN
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.messages import Heartbeat, Message, RawMessage, RefusedTrade, Stream, Trade, make_candle
from fastbars.kernel.batch import TickBatch
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.session import Session
from fastbars.wire.scanner import TradeScanner

__all__ = ["CHECKS", "CandleFixture", "ExchangeFixtures", "check_exchange"]

Case = tuple[str, Sequence[Message]]
Request = tuple[Sequence[Stream], Sequence[str]]

_REQUEST_ID = 7
_COLUMNS = ("symbol_id", "time_ns", "price", "size", "side", "first_id", "last_id", "count", "sequence")


class CandleFixture(NamedTuple):
    """A request for candles, and an answer as the documentation shows it.

    Attributes:
        symbol, spec: requested.
        since_ns, until_ns: open times, the second exclusive: one page of intervals, the last of which has ended.
        request: such as "GET https://host/path?query", or "POST https://host/path body".
        body: the answer.
        candles: what it means, in its order.
    """

    symbol: str
    spec: str
    since_ns: int
    until_ns: int
    request: str
    body: str
    candles: Sequence[ExchangeBar]


@dataclass(frozen=True, kw_only=True)
class ExchangeFixtures:
    """Messages of one market as its documentation shows them, with their meaning.

    Attributes:
        exchange: the market.
        trades: (payload, meaning); the first has one trade of the default channel. Where trades are samples, the last
            differs from the first.
        acks, refusals, heartbeats: (payload, meaning).
        others: (payload, meaning) of candles, quotes, tickers and notices.
        raw: (payload, kind, symbol) of messages that are passed on as RawMessage.
        empty: payloads of a known kind with nothing in them.
        garbage: malformed payloads of a known kind.
        unknown: payloads of no known kind.
        event_times: (payload, when the exchange sent it in ns).
        subscribes, unsubscribes: (streams, the frames that request or end them) with request id 7.
        contracts: symbol -> quote units per contract; None: it is not an inverse one.
        past_candles: requests and answers of `candle_history`, where the exchange declares one.
    """

    exchange: Exchange
    trades: Sequence[Case]
    subscribes: Sequence[Request]
    unsubscribes: Sequence[Request]
    acks: Sequence[Case] = ()
    refusals: Sequence[Case] = ()
    heartbeats: Sequence[Case] = ()
    others: Sequence[Case] = ()
    raw: Sequence[tuple[str, str, str | None]] = ()
    empty: Sequence[str] = ()
    garbage: Sequence[str] = ()
    unknown: Sequence[str] = ()
    event_times: Sequence[tuple[str, int | None]] = ()
    contracts: Mapping[str, Decimal | None] = field(default_factory=dict)
    past_candles: Sequence[CandleFixture] = ()

    def __post_init__(self) -> None:
        first = _trades_in(self.trades[0][1]) if self.trades else []
        if len(first) != 1 or first[0].channel != self.exchange.default_channel:
            raise ValueError(
                f"{self.exchange.name}: trades must begin with a payload of one trade of the default channel"
                f" {self.exchange.default_channel!r}"
            )
        if any(not _trades_in(meaning) for _, meaning in self.trades):
            raise ValueError(
                f"{self.exchange.name}: each payload in trades must contain a trade; put other messages in `others`"
            )

        if bool(self.past_candles) != (self.exchange.candle_history is not None):
            raise ValueError(f"{self.exchange.name}: past_candles belong to a declared candle_history, and it to them")

    def payloads(self) -> list[str]:
        """All payloads, without duplicates."""
        cases = (self.trades, self.acks, self.refusals, self.heartbeats, self.others, self.raw, self.event_times)
        found = [payload for case in cases for payload, *_ in case]
        return list(dict.fromkeys([*found, *self.empty, *self.garbage, *self.unknown]))


def check_exchange(fixtures: ExchangeFixtures) -> None:
    """Run every check. Raises AssertionError: naming the exchange, the payload, the expected and the actual result."""
    for check in CHECKS:
        check(fixtures)


def each_payload_means_what_the_documentation_says(fixtures: ExchangeFixtures) -> None:
    exchange = fixtures.exchange
    for cases in (fixtures.trades, fixtures.acks, fixtures.refusals, fixtures.heartbeats, fixtures.others):
        for payload, meaning in cases:
            _expect(exchange, payload, _read(exchange, payload), list(meaning))
            _expect(exchange, f"{payload} by itself", list(exchange.read(_decoded(exchange, payload))), list(meaning))


def untyped_messages_are_passed_on_unchanged(fixtures: ExchangeFixtures) -> None:
    exchange = fixtures.exchange
    for payload, kind, symbol in fixtures.raw:
        _expect(exchange, payload, _read(exchange, payload), [RawMessage(kind, symbol, _decoded(exchange, payload))])


def unknown_messages_mean_nothing(fixtures: ExchangeFixtures) -> None:
    for payload in fixtures.unknown:
        _expect(fixtures.exchange, payload, _read(fixtures.exchange, payload), [])


def malformed_messages_of_a_known_kind_are_errors(fixtures: ExchangeFixtures) -> None:
    for payload in fixtures.garbage:
        try:
            read = _read(fixtures.exchange, payload)
        except BROKEN:
            continue
        if any(isinstance(item, RefusedTrade) for item in read):
            continue
        _fail(fixtures.exchange, payload, read, "an error")


def empty_messages_of_a_known_kind_are_heartbeats(fixtures: ExchangeFixtures) -> None:
    exchange, raw = fixtures.exchange, list[RawMessage]()
    session = _session(exchange, Callbacks(on_message=raw.append))
    for payload in fixtures.empty:
        _expect(exchange, payload, _read(exchange, payload), [Heartbeat()])
        received = session.receive([payload.encode()], 0)
        _expect(exchange, f"errors and data of {payload}", (received.errors, received.data_messages), (0, 0))
    counted = (session.stats.control, session.stats.messages)
    _expect(exchange, "counters of empty messages", counted, (len(fixtures.empty),) * 2)
    _expect(exchange, "messages passed on", raw, [])


def garbage_is_counted_and_costs_no_good_message(fixtures: ExchangeFixtures) -> None:
    exchange, raw = fixtures.exchange, list[RawMessage]()
    good, meaning = fixtures.trades[0]
    session = _session(exchange, Callbacks(on_message=raw.append))
    payloads = [payload.encode() for payload in (*fixtures.garbage, good, *fixtures.unknown, "{cut")]
    received = session.receive(payloads, 0)
    stats = session.stats
    _expect(exchange, "trades amid garbage", stats.trades, len(_trades_in(meaning)))
    _expect(exchange, "parse errors", stats.parse_errors, len(fixtures.garbage))
    counted = (stats.unknown, stats.invalid_json, stats.messages)
    _expect(exchange, "unknown, invalid, all", counted, (len(fixtures.unknown), 1, len(payloads)))
    _expect(exchange, "errors", received.errors, len(fixtures.garbage) + 1)
    _expect(exchange, "unknown messages passed on", [one.kind for one in raw], ["unknown"] * len(fixtures.unknown))


def event_time_is_when_the_exchange_sent_a_message(fixtures: ExchangeFixtures) -> None:
    exchange = fixtures.exchange
    for payload, time_ns in fixtures.event_times:
        _expect(exchange, f"event time of {payload}", exchange.event_time_ns(_decoded(exchange, payload)), time_ns)


def requests_are_the_documented_bytes(fixtures: ExchangeFixtures) -> None:
    exchange = fixtures.exchange
    for ask, requests in ((exchange.subscribe, fixtures.subscribes), (exchange.unsubscribe, fixtures.unsubscribes)):
        for streams, frames in requests:
            sent = [frame.decode() for frame in ask(streams, _REQUEST_ID)]
            _expect(exchange, f"{ask.__name__} {streams}", sent, list(frames))


def the_largest_request_fits_the_byte_limit(fixtures: ExchangeFixtures) -> None:
    exchange = fixtures.exchange
    most_bytes = exchange.limits.request_bytes
    streams = [(f"SYMBOL{n:04}USDT", exchange.default_channel) for n in range(exchange.limits.streams_per_request)]
    longest = max(map(len, exchange.subscribe(streams, 10**6)), default=0)
    if most_bytes is not None and longest > most_bytes:
        _fail(exchange, f"the longest frame that subscribes to {len(streams)} streams", longest, f"<= {most_bytes}")


def every_channel_has_a_route_and_an_unknown_one_is_refused(fixtures: ExchangeFixtures) -> None:
    exchange = fixtures.exchange
    for channel in exchange.channels:
        asked = channel.replace("*", "1m")
        exchange.check_channel(asked)
        if not exchange.url([asked]).startswith(("wss://", "ws://")):
            _fail(exchange, f"address of {asked}", exchange.url([asked]), "one that begins with wss://")
    _expect(exchange, "address of no channel", exchange.url([]), exchange.url([exchange.default_channel]))
    for channel in ("", "nonsense", *(each for each in exchange.channels if each.endswith("*"))):
        try:
            exchange.check_channel(channel)
        except SubscriptionError:
            continue
        _fail(exchange, f"channel {channel!r}", "taken", "SubscriptionError")


def symbols_match_the_declared_rules(fixtures: ExchangeFixtures) -> None:
    exchange = fixtures.exchange
    rules = exchange.symbols
    names, _, _ = rules.example.partition(": ")  # the rest is an explanation
    for symbol in names.replace(" or ", ", ").split(", "):
        _expect(exchange, f"symbol {symbol!r}", exchange.exact_symbols([symbol, f" {symbol}\n"]), [symbol])
        if rules.case != "exact":
            exact = exchange.exact_symbols([symbol.lower(), symbol.upper()])
            _expect(exchange, f"symbol {symbol!r} in any case", exact, [symbol])
    traded = sorted({trade.symbol for _, meaning in fixtures.trades for trade in _trades_in(meaning)})
    _expect(exchange, "symbols of trades", exchange.exact_symbols(traded), traded)


def trades_are_in_time_order_with_the_ids_declared(fixtures: ExchangeFixtures) -> None:
    exchange = fixtures.exchange
    for payload, _ in fixtures.trades:
        trades = _trades_in(_read(exchange, payload))
        times = [trade.time_ns for trade in trades]
        _expect(exchange, f"times of the trades of {payload}", times, sorted(times))
        for trade in trades:
            policy = exchange.id_policy(trade.channel)
            has = (trade.first_id is not None, trade.key is not None)
            _expect(exchange, f"(id, key) of a trade where ids are {policy.name!r}", has,
                    (policy.numbered, policy.only_unique))  # fmt: skip


def a_repeated_trade_counts_once_in_a_partial_bar(fixtures: ExchangeFixtures) -> None:
    exchange, issued = fixtures.exchange, list[OHLCVBar]()
    payload, meaning = fixtures.trades[0]
    first = _trades_in(meaning)[0]
    session = _session(exchange, Callbacks(on_bar=issued.append))
    session.receive([payload.encode()], 0)
    session.receive([payload.encode()], 0)  # the same bytes again
    session.flush(0)
    bars = [(bar.status, bar.trade_count, bar.close, bar.volume) for bar in issued]
    _expect(exchange, f"bar of {payload}", bars, [(BarStatus.PARTIAL, 1, Decimal(first.price), Decimal(first.size))])


def trades_of_unsubscribed_symbols_make_no_bars(fixtures: ExchangeFixtures) -> None:
    for scans in (True, False):
        _check_unsubscribed(fixtures, scans=scans)


def contract_sizes_are_as_documented(fixtures: ExchangeFixtures) -> None:
    sizes = {symbol: fixtures.exchange.contract_size(symbol) for symbol in fixtures.contracts}
    _expect(fixtures.exchange, "contract sizes", sizes, dict(fixtures.contracts))


def scanner_and_reader_read_the_same_trades(fixtures: ExchangeFixtures) -> None:
    exchange = fixtures.exchange
    for payload, meaning in fixtures.trades:
        trades = _trades_in(meaning)
        declared = exchange.fields(trades[0].channel)
        if declared is None:
            continue
        buffers = [BarBuffer(ids=exchange.ids(trades[0].channel)) for _ in range(2)]
        scanned, read = (buffer.new_batch() for buffer in buffers)
        scanner = TradeScanner(declared, scanned, buffers[0].instruments.add)
        for trade in trades:
            read.append(*trade.row)
        if not scanner.scan(payload.encode()):
            if len(trades) == 1 and declared.trade_count is None:
                _fail(exchange, f"the scanner, of {payload}", "left", "taken")
            continue  # trades out of order, or of another shape: the reader's
        _expect(exchange, f"rows of {payload}", _rows(scanned), _rows(read))
        event_ns = exchange.event_time_ns(_decoded(exchange, payload))
        _expect(exchange, f"event time of {payload}", scanner.take_event_time(), event_ns)


def candle_requests_and_answers_mean_what_the_documentation_says(fixtures: ExchangeFixtures) -> None:
    exchange, history = fixtures.exchange, fixtures.exchange.candle_history
    for case in fixtures.past_candles:
        assert history is not None
        ask = history.ask(case.symbol, case.spec, case.since_ns, case.until_ns, case.until_ns)
        request = history.request(ask)
        url = f"{history.api.url}{request.path}" + (f"?{urlencode(request.query)}" if request.query else "")
        sent = f"GET {url}" if request.body is None else f"POST {url} {request.body.decode()}"
        _expect(exchange, f"request for {case.symbol} {case.spec}", sent, case.request)
        read = list(read_candles(history, ask, case.body.encode(), negative_prices=exchange.negative_prices))
        _expect(exchange, f"candles of {case.body}", read, list(case.candles))
        for one in read:
            told = [name for name in history.lacks if getattr(one, name) is not None]
            _expect(exchange, f"fields told of those that it declares to lack, of {one}", told, [])


def malformed_answers_about_candles_are_errors(fixtures: ExchangeFixtures) -> None:
    exchange, history = fixtures.exchange, fixtures.exchange.candle_history
    for case in fixtures.past_candles:
        assert history is not None
        ask = history.ask(case.symbol, case.spec, case.since_ns, case.until_ns, case.until_ns)
        for body in (b"", b"null!", b'"text"', case.body.encode()[:-1], case.body.encode() * 2, b"7", b'{"a":1}'):
            try:
                read = list(read_candles(history, ask, body))
            except (ParseError, RestError):
                continue
            _fail(exchange, f"candles of {body!r}", read, "ParseError or RestError")


def pages_of_candles_make_progress(fixtures: ExchangeFixtures) -> None:
    history = fixtures.exchange.candle_history
    for spec in () if history is None else history.intervals:
        assert history is not None
        grid = grid_of(spec)
        until_ns = grid.floor(1_700_000_000 * 10**9)
        span = grid.shift(until_ns, -3 * history.page_size), until_ns
        for candle in (None, "first", "last"):
            _check_progress(fixtures.exchange, history, spec, span, candle)


CHECKS: tuple[Callable[[ExchangeFixtures], None], ...] = (
    each_payload_means_what_the_documentation_says,
    untyped_messages_are_passed_on_unchanged,
    unknown_messages_mean_nothing,
    malformed_messages_of_a_known_kind_are_errors,
    empty_messages_of_a_known_kind_are_heartbeats,
    garbage_is_counted_and_costs_no_good_message,
    event_time_is_when_the_exchange_sent_a_message,
    requests_are_the_documented_bytes,
    the_largest_request_fits_the_byte_limit,
    every_channel_has_a_route_and_an_unknown_one_is_refused,
    symbols_match_the_declared_rules,
    trades_are_in_time_order_with_the_ids_declared,
    a_repeated_trade_counts_once_in_a_partial_bar,
    trades_of_unsubscribed_symbols_make_no_bars,
    contract_sizes_are_as_documented,
    scanner_and_reader_read_the_same_trades,
    candle_requests_and_answers_mean_what_the_documentation_says,
    malformed_answers_about_candles_are_errors,
    pages_of_candles_make_progress,
)


def _check_progress(
    exchange: Exchange, history: CandleHistory, spec: str, span: tuple[int, int], candle: str | None
) -> None:
    # An answer with no candle, or one at either end of what was requested, leaves less to ask for, at the right end.
    ask = history.ask("AB", spec, *span, span[1])
    answer: list[ExchangeBar] = []
    if candle is not None:
        open_ns = ask.since_ns if candle == "first" else ask.last_ns
        answer = [make_candle("AB", spec, open_ns, ["1"] * 4, "1")]
    since_ns, until_ns = history.left(ask, span, answer)
    where = f"what is left of {span} after {ask} and a {candle} candle"
    if not span[0] <= since_ns <= until_ns <= span[1] or (since_ns, until_ns) == span:
        _fail(exchange, where, (since_ns, until_ns), "less")
    if history.paging is CandlePaging.BACKWARD:
        _expect(exchange, where, since_ns, span[0])
    else:
        _expect(exchange, where, until_ns, span[1])


def _check_unsubscribed(fixtures: ExchangeFixtures, *, scans: bool) -> None:
    exchange = fixtures.exchange
    channel, policy = exchange.default_channel, exchange.id_policy(exchange.default_channel)
    cases = [(payload.encode(), _trades_in(meaning)) for payload, meaning in fixtures.trades]
    of_channel = [(payload, trades) for payload, trades in cases if trades[0].channel == channel]
    payload, trades = cases[0]
    symbol = trades[0].symbol
    session = _session(exchange, Callbacks(), channel)
    if not scans:
        session.intake.scanner = None
    session.follow("line", [], 0)
    # A sample counts only as a change, so one with other values comes first.
    session.receive([of_channel[-1][0] if policy.best is BarStatus.SAMPLED else payload], 0)
    counted = (session.stats.never_subscribed, session.stats.trades, session.symbols)
    _expect(exchange, "never subscribed, trades, symbols", counted, (len(trades), 0, ()))
    session.follow("line", [(symbol, channel)], 0)
    session.receive([payload], 0)  # a dropped trade is not remembered as seen
    counted = (session.stats.trades, session.stats.duplicates, session.symbols)
    _expect(exchange, "trades, duplicates, symbols", counted, (len(trades), 0, (symbol,)))
    session.follow("line", [], 0)
    session.flush(0, symbol)
    session.receive([payload], 0)
    if policy.numbered:  # elsewhere it is known already, by its key or as the same sample
        _expect(exchange, "no longer subscribed", session.stats.no_longer_subscribed, len(trades))
    _expect(exchange, "trades and bars at the end", (session.stats.trades, session.flush(0)), (len(trades), []))


def _session(exchange: Exchange, callbacks: Callbacks, channel: str | None = None) -> Session:
    return Session(exchange, StreamConfig(close_by="trades"), callbacks, channel=channel)


def _decoded(exchange: Exchange, payload: str) -> Any:
    return exchange.loads(payload.encode())


def _read(exchange: Exchange, payload: str) -> list[Message]:
    return list(exchange.reader()(_decoded(exchange, payload)))


def _trades_in(meaning: Iterable[Message]) -> list[Trade]:
    return [item for item in meaning if isinstance(item, Trade)]


def _rows(batch: TickBatch) -> dict[str, list[int]]:
    return {name: list(column) for name in _COLUMNS if (column := batch.column(name)) is not None}


def _expect(exchange: Exchange, what: str, got: object, expected: object) -> None:
    if got != expected:
        _fail(exchange, what, got, repr(expected))


def _fail(exchange: Exchange, what: str, got: object, expected: str) -> None:
    raise AssertionError(f"{exchange.name}: {what}\n  expected {expected}\n  got      {got!r}")
