"""What a program does wrong is said at once, by an error that names it: callbacks, entering, running, declaring."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import re
import subprocess
import sys
import textwrap
import types
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import pytest

import fastbars
from fastbars import BarBuffer, BinanceWebSocketAdapter, StreamConfig
from fastbars.callbacks import call, check_callbacks
from fastbars.errors import SubscriptionError, TapeError, WSConnectionError
from fastbars.exchanges import EXCHANGES, find_exchange
from fastbars.exchanges.binance import SPOT, USDM, Binance
from fastbars.exchanges.declaration import Exchange, Keepalive, Limits
from fastbars.exchanges.kraken import Kraken
from fastbars.live.adapters import AdapterOptions
from fastbars.live.callbacks import Callbacks
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.live.past.plan import HistoryFrom
from fastbars.live.past.spans import Since, Span
from fastbars.live.session import Session
from fastbars.tapes.recorder import Recording
from fastbars.verification import verify
from fastbars.wire.fields import TradeFields
from servers import START_NS, TradeServer, refuse, trade, trades, until

NAMES = [
    "on_tick", "on_bar", "on_bars", "on_late", "on_exchange_bar", "on_event", "on_message", "on_state", "on_error",
    "on_difference",
]  # fmt: skip


async def asynchronous(_: object) -> None:
    """What people write who come from other libraries."""


async def asynchronous_generator(_: object) -> AsyncIterator[None]:
    yield


def generator(_: object) -> Iterator[None]:
    yield


class Awaited:
    async def __call__(self, _: object) -> None:
        """Likewise, as an object."""

    async def method(self, _: object) -> None:
        """Likewise, bound."""


@functools.wraps(asynchronous)
def wrapped(value: object) -> object:
    return asynchronous(value)


# Callbacks.


@pytest.mark.parametrize("name", NAMES)
def test_an_async_callback_is_refused_by_its_name(name: str) -> None:
    callback: dict[str, Any] = {name: asynchronous}
    with pytest.raises(TypeError, match=rf"^{name} must be a plain function, got the async function asynchronous: "):
        fastbars.stream("binance", ["BTCUSDT"], **callback)
    if name in inspect.signature(BaseWebSocketAdapter).parameters:
        with pytest.raises(TypeError, match=rf"^{name} must be a plain function"):
            BaseWebSocketAdapter(SPOT, **callback)
        with pytest.raises(TypeError, match=rf"^{name} must be a plain function"):
            BinanceWebSocketAdapter(**callback)
    if name in inspect.signature(BarBuffer).parameters:
        with pytest.raises(TypeError, match=rf"^{name} must be a plain function"):
            BarBuffer("1m", ids="none", **callback)
    if name in inspect.signature(Callbacks).parameters:
        with pytest.raises(TypeError, match=rf"^{name} must be a plain function"):
            Callbacks(**callback)


@pytest.mark.parametrize(
    "callback",
    [
        asynchronous, asynchronous_generator, functools.partial(asynchronous), functools.partial(Awaited().method),
        functools.partial(functools.partial(asynchronous)), Awaited(), Awaited().method, functools.partial(Awaited()),
        wrapped, generator, functools.partial(generator),
    ],
)  # fmt: skip
def test_no_spelling_of_an_async_function_or_generator_is_a_callback(callback: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="on_bar must be a plain function, got the "):
        check_callbacks(on_bar=callback)


@pytest.mark.parametrize("callback", [print, [].append, list, lambda _: None, functools.partial(print, 1), Session])
def test_whatever_can_be_called_is_a_callback(callback: Callable[[Any], Any]) -> None:
    check_callbacks(on_bar=callback, on_bars=None)


@pytest.mark.parametrize("callback", ["print", 5, [print], ()])
def test_what_cannot_be_called_is_no_callback(callback: Any) -> None:
    with pytest.raises(TypeError, match="on_tick must be a function, got "):
        fastbars.stream("binance", ["BTCUSDT"], on_tick=callback)


def test_an_async_parser_is_refused(tmp_path: Path) -> None:
    class OwnAdapter(BaseWebSocketAdapter):
        async def parse_message(self, _: Any) -> None:  # type: ignore[override]
            """Nobody would await it."""

    with pytest.raises(TypeError, match="parse_message must be a plain function"):
        OwnAdapter(SPOT)
    parser: Any = asynchronous
    with pytest.raises(TypeError, match="parse_message must be a plain function"):
        fastbars.replay(tmp_path, "binance", parse_message=parser)
    with pytest.raises(TypeError, match="on_difference must be a plain function"):
        verify(tmp_path, "binance", on_difference=asynchronous)


@pytest.mark.filterwarnings("error")
def test_a_callback_that_returns_a_coroutine_counts_as_failed_and_leaves_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = Session(SPOT, StreamConfig(), Callbacks(on_bar=lambda _: asynchronous(1)), channel="trade")
    bars = session.receive([trade(1, 0), trade(2, 60_000)], START_NS).bars
    gc.collect()
    assert len(bars) == 1
    assert session.stats.callback_errors == 1
    assert "returned a coroutine; callbacks must be plain functions" in caplog.text


def test_a_callback_may_return_what_it_likes() -> None:
    assert call(lambda value: value, 5)
    assert call(lambda _: object(), 5)


def test_errors_of_all_callbacks_are_counted_in_one_place() -> None:
    called: list[str] = []

    def failing(name: str) -> Callable[[object], None]:
        def fail(_: object) -> None:
            called.append(name)
            raise RuntimeError(name)

        return fail

    async def main() -> None:
        async with TradeServer(refuse("nosuch@trade")) as server:
            callbacks: dict[str, Any] = {name: failing(name) for name in NAMES}
            bars = fastbars.stream("binance", ["BTCUSDT"], url=server.url, verify=True, config=calm(), **callbacks)
            async with bars:
                with suppress(SubscriptionError):
                    await bars.subscribe(["NOSUCH"])
                bars.adapter.connections.first.subscriptions.want([("NOSUCH", "trade")])
                await server.send(*(trade(5 + n, 60_000 * n) for n in range(4)), trade(1, -60_000))
                await server.send(kline_of(1), b'{"e":"depthUpdate","s":"BTCUSDT"}')
                await until(lambda: {*called} >= {*NAMES} - {"on_error"})
                await bars.adapter.reconnect()  # NOSUCH is asked for again
                await until(lambda: "on_error" in called)
            assert {*called} == {*NAMES}
            assert bars.stats().session.callback_errors == len(called)
            assert bars.stats().buffer.callback_errors == 0

    asyncio.run(main())


def calm() -> StreamConfig:
    return StreamConfig(heal=False, grace=0.05, reconnect_delay=0.05, reconnect_max_delay=0.05)


def kline_of(minute: int) -> bytes:
    start = START_NS // 1_000_000 + 60_000 * minute
    return (
        f'{{"e":"kline","E":{start + 60_001},"s":"BTCUSDT","k":{{"t":{start},"T":{start + 59_999},"s":"BTCUSDT",'
        '"i":"1m","f":1,"L":3,"o":"9","c":"9","h":"9","l":"9","v":"9","n":3,"x":true,"q":"9","V":"9","Q":"9","B":"0"}}'
    ).encode()


def test_callbacks_are_typed_and_none_is_unknown() -> None:
    parameters = inspect.signature(fastbars.stream).parameters
    assert not [one for one in parameters.values() if one.kind is inspect.Parameter.VAR_KEYWORD]
    loaded_late = {"Recording": Recording, "Span": Span, "Since": Since, "HistoryFrom": HistoryFrom}
    hints = get_type_hints(fastbars.stream, localns=loaded_late)
    assert [name for name in NAMES if "Callable" not in str(hints[name])] == []
    assert {*NAMES} - {"on_tick", "on_difference"} <= AdapterOptions.__annotations__.keys()
    unknown: dict[str, Any] = {"on_trade": print}
    with pytest.raises(TypeError, match="unexpected keyword argument 'on_trade'"):
        fastbars.stream("binance", ["BTCUSDT"], **unknown)
    with pytest.raises(TypeError, match="unexpected keyword argument 'on_trade'"):
        BinanceWebSocketAdapter(**unknown)


# Entering and running.


async def test_a_stream_that_was_not_entered_says_async_with() -> None:
    bars = fastbars.stream("binance", ["BTCUSDT"], url="ws://127.0.0.1:9")
    with pytest.raises(RuntimeError, match=r"not connected: enter it first, `async with stream\(\.\.\.\) as bars:`"):
        async for _ in bars:
            pass
    with pytest.raises(RuntimeError, match="async with"):
        await anext(bars)


async def test_a_stream_is_entered_once() -> None:
    async with TradeServer() as server:
        bars = fastbars.stream("binance", ["BTCUSDT"], url=server.url)
        async with bars:
            with pytest.raises(RuntimeError, match="was entered before; a stream runs once"):
                await bars.__aenter__()
            await server.send(trade(1, 0))
            await until(lambda: bars.stats().session.trades == 1)
        assert [bar.status async for bar in bars] == ["PARTIAL"]  # what is left
        assert [bar async for bar in bars] == []
        with pytest.raises(RuntimeError, match="was entered before"):
            async with bars:
                pass


async def test_a_stream_that_could_not_connect_has_no_bars_and_keeps_nobody_waiting() -> None:
    async with TradeServer() as server:
        url = server.url
    bars = fastbars.stream("binance", ["BTCUSDT"], url=url)
    with pytest.raises(WSConnectionError):
        async with bars:
            pass
    async with asyncio.timeout(5):
        assert [bar async for bar in bars] == []


async def main_of_a_program() -> int:
    return 5


@pytest.mark.filterwarnings("error")
async def test_run_inside_a_running_loop_says_so_and_leaves_no_warning() -> None:
    with pytest.raises(RuntimeError, match=r"one is running in this thread already.*`await` the coroutine instead"):
        fastbars.run(main_of_a_program())
    gc.collect()
    assert await asyncio.to_thread(lambda: fastbars.run(main_of_a_program())) == 5


def test_run_takes_a_coroutine_and_says_what_to_call() -> None:
    function: Any = main_of_a_program
    with pytest.raises(TypeError, match=r"run\(\) takes a coroutine, got .*: call it, run\(main_of_a_program\(\)\)"):
        fastbars.run(function)
    for wrong in (None, print, 5, asynchronous_generator(0)):
        with pytest.raises(TypeError, match=r"run\(\) takes a coroutine, got "):
            fastbars.run(wrong)  # type: ignore[arg-type]
    assert fastbars.run(main_of_a_program()) == 5


# Exchanges given as objects.


async def test_a_stream_takes_an_exchange_as_it_is() -> None:
    async with TradeServer() as server:
        async with fastbars.stream(SPOT, ["BTCUSDT"], url=server.url) as bars:
            await server.send(trade(1, 0))
            await until(lambda: bars.stats().session.trades == 1)
        assert [bar.symbol async for bar in bars] == ["BTCUSDT"]


def test_replay_and_verify_take_an_exchange_as_it_is(tmp_path: Path) -> None:
    tape = tmp_path / "tape"
    tape.write_bytes(b"".join(b"1 %b\n" % message for message in trades(101, 180, 0, 1_000)))
    assert [bar.status for bar in fastbars.replay(tape, SPOT)] == ["PARTIAL", "COMPLETE", "PARTIAL"]
    assert verify(tape, USDM).partial == 2
    assert find_exchange(USDM) is USDM


def test_a_recording_of_an_exchange_of_ones_own_replays_with_it(tmp_path: Path) -> None:
    own = replace(SPOT, name="own")
    recording = Recording(tmp_path)
    session = Session(own, StreamConfig(bars="1m"), channel="trade", record=recording.session)
    session.receive(trades(1, 120, 0, 1_000), START_NS, 1)
    recording.close()
    with pytest.raises(TapeError, match="'own', an exchange that this fastbars does not know"):
        list(fastbars.replay(tmp_path))
    assert [bar.status for bar in fastbars.replay(tmp_path, own)] == ["PARTIAL", "PARTIAL"]


def test_what_is_no_exchange_is_told_so() -> None:
    with pytest.raises(TypeError, match=r"got the class Kraken: pass Kraken\(\)"):
        fastbars.stream(Kraken, ["BTC/USD"])  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"exchange must be a name such as 'binance', or an Exchange, got 5"):
        find_exchange(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"binance spot: market='usdm' cannot be given with an Exchange"):
        fastbars.stream(SPOT, ["BTCUSDT"], market="usdm")


# Declarations.

RIGHT: dict[str, Any] = {
    "name": "own",
    "channels": {"trade": "unique", "book": None},
    "default_channel": "trade",
    "limits": Limits(10, 10, 1),
    "routes": {"wss://own.example": ("trade", "book")},
}
METHODS: dict[str, Any] = {
    "subscribe": lambda *_: [], "unsubscribe": lambda *_: [], "parse": lambda *_: (), "event_time_ns": lambda *_: None,
}  # fmt: skip
WRONG: list[tuple[str, Any, str]] = [
    ("name", None, "text such as"),
    ("name", "", "text such as"),
    ("docs", 5, "text"),
    ("channels", ["trade"], "a mapping of channels"),
    ("channels", {"trade": "rising"}, "a mapping of channels"),
    ("channels", {1: None}, "a mapping of channels"),
    ("default_channel", ["trade"], "text, one of the trade channels"),
    ("limits", 5, r"Limits\(\.\.\.\)"),
    ("limits", Limits, r"Limits\(\.\.\.\)"),
    ("routes", "wss://own.example", "a mapping of URLs"),
    ("routes", {"wss://own.example": "trade"}, "a mapping of URLs"),
    ("keepalive", 30, r"Keepalive\(\.\.\.\)"),
    ("keepalive", None, r"Keepalive\(\.\.\.\)"),
    ("greeting", b"hello", "a tuple of frames"),
    ("greeting", ("hello",), "a tuple of frames"),
    ("acks", "stream", "'request', 'streams' or 'none'"),
    ("candle_open", "first", "'first trade' or 'previous close'"),
    ("negative_prices", 1, "True or False"),
    ("candles", ["1m"], "a mapping of bar specs"),
    ("histories", {"trade": 5}, "a mapping of trade channels"),
    ("histories", {"trade": ("https://own.example",)}, "a mapping of trade channels"),
    ("symbols", "[A-Z]+", r"SymbolRules\(\.\.\.\)"),
    ("listing", "https://api.example.com", "Listing"),
    ("regions", {"eea": "host"}, "a mapping of regions"),
    ("regions", {"eea": {"host": 5}}, "a mapping of regions"),
]


def declare(**changes: Any) -> type[Exchange]:
    given = {name: value for name, value in (RIGHT | changes).items() if value is not ...}
    return types.new_class("Own", (Exchange,), exec_body=lambda namespace: namespace.update(METHODS | given))


def test_a_whole_declaration_is_taken() -> None:
    assert declare()().name == "own"
    assert declare(keepalive=Keepalive(), greeting=(b"x",), acks="none")().acks == "none"


@pytest.mark.parametrize("name", RIGHT)
def test_a_missing_attribute_is_named_when_the_class_is_made(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^Own\.{name} is missing; it must be "):
        declare(**{name: ...})


@pytest.mark.parametrize(("name", "value", "expected"), WRONG)
def test_a_wrong_attribute_is_named_when_the_class_is_made(name: str, value: Any, expected: str) -> None:
    with pytest.raises(TypeError, match=rf"^Own\.{name} must be {expected}.*, got "):
        declare(**{name: value})


@pytest.mark.parametrize(("name", "value", "expected"), [one for one in WRONG if hasattr(SPOT, one[0])])
def test_a_wrong_attribute_of_an_instance_is_named_when_it_is_made(name: str, value: Any, expected: str) -> None:
    def set_up(self: Any) -> None:
        setattr(self, name, value)

    with pytest.raises(TypeError, match=rf"^Own\.{name} must be {expected}"):
        declare(__init__=set_up, **({name: ...} if name in RIGHT else {}))()
    if name in {one.name for one in Binance.__dataclass_fields__.values()}:
        with pytest.raises(TypeError, match=rf"^Binance\.{name} must be {expected}"):
            replace(SPOT, **{name: value})


def test_what_an_instance_lacks_is_named_when_it_is_made() -> None:
    with pytest.raises(TypeError, match=r"^Own\.limits is missing; it must be Limits"):
        declare(limits=..., __init__=lambda _: None)()
    with pytest.raises(TypeError, match=r"^Own\.limits is missing"):
        declare(limits=..., __annotations__={"limits": "Limits"})()
    with pytest.raises(ValueError, match=r"^Own\.default_channel is 'book', which is not a trade channel"):
        declare(default_channel="book")()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams_per_connection": 0}, "streams_per_connection must be a positive number, got 0"),
        ({"streams_per_request": None}, "streams_per_request must be a positive number, got None"),
        ({"requests_per_second": "8"}, "requests_per_second must be a positive number, got '8'"),
        ({"lifetime_s": -1.0}, "lifetime_s must be a positive number or None, got -1.0"),
        ({"streams": True}, "streams must be a positive number or None, got True"),
        ({"connects": (8, 0)}, r"connects must be (how many, in how many seconds) or None, got (8, 0)"),
        ({"connects": 8}, r"connects must be (how many, in how many seconds) or None, got 8"),
        ({"requests_shared": 1}, "requests_shared must be True or False, got 1"),
        ({"exclusive": "book"}, "exclusive must be a tuple of keys of the channels, got 'book'"),
        ({"streams_per_request": 11}, "streams_per_request is 11, more than the 10 of streams_per_connection"),
    ],
)
def test_limits_that_no_exchange_can_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'Limits.{message}')}$"):
        replace(RIGHT["limits"], **changes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"payload": "ping", "interval_s": 5.0}, "payload must be bytes or None, got 'ping'"),
        ({"payload": b"ping"}, "interval_s must be a positive number with a payload, and 0 without one, got 0.0"),
        ({"interval_s": 5.0}, "interval_s must be a positive number with a payload, and 0 without one, got 5.0"),
        ({"payload": b"ping", "interval_s": -1}, "interval_s must be a positive number with a payload"),
        ({"silence_s": 0}, "silence_s must be a positive number or None, got 0"),
    ],
)
def test_a_keepalive_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'Keepalive.{message}')}"):
        Keepalive(**given)


FIELDS = TradeFields(match={"e": "trade"}, symbol="s", price="p", size="q", time="T", key="i")
WRONG_UNIT: dict[str, Any] = {"time_unit": "h"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"default_channel": "book"}, "default_channel is 'book', which is not a trade channel; those are ['trade']"),
        (
            {"channels": {"trade": "unique", "book": None, "t_*": "unique"}},
            "channels has 't_*' with ids; a trade channel must be named in full",
        ),
        ({"histories": {"book": ()}}, "histories has 'book', which is not a trade channel; those are ['trade']"),
        (
            {"limits": Limits(10, 10, 1, exclusive=("kline",))},
            "limits.exclusive has 'kline', which is not one of the channels ['trade', 'book']",
        ),
        (
            {"routes": {"wss://own.example": ("trade", "books")}},
            "routes has 'books', which is not one of the channels ['trade', 'book']",
        ),
        (
            {"candles": {"1m": "kline_1m"}},
            "candles has 'kline_1m' for '1m', which is not one of the channels ['trade', 'book']",
        ),
    ],
)
def test_attributes_that_contradict_each_other_are_named_when_the_class_is_made(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'Own.{message}')}$"):
        declare(**changes)

    def set_up(self: Any) -> None:
        for name, value in changes.items():
            setattr(self, name, value)

    with pytest.raises(ValueError, match=f"^{re.escape(f'Own.{message}')}$"):
        declare(__init__=set_up)()


def test_a_wrong_declaration_of_trades_is_named() -> None:
    assert declare(fields=lambda *_: FIELDS)().trade_readers[0].channel == "trade"
    with pytest.raises(TypeError, match=r"^Own\.fields must return TradeFields\(\.\.\.\) or None, got 5$"):
        declare(fields=lambda *_: 5)()
    with pytest.raises(ValueError, match="time unit 'h' is not one of"):
        declare(fields=lambda *_: replace(FIELDS, **WRONG_UNIT))()


def test_what_stands_under_a_name_that_no_exchange_has_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"^Own\.limit is not an attribute of an exchange; Limits is for limits$"):
        declare(limit=Limits(1, 1, 1))
    with pytest.raises(
        TypeError, match=r"^Own\.heartbeat is not an attribute of an exchange; Keepalive is for keepalive$"
    ):
        declare(heartbeat=Keepalive())
    assert declare(_spare=Limits(1, 1, 1), note="mine")().name == "own"


def test_bases_dataclasses_and_properties_may_say_it_later() -> None:
    class Base(Exchange):  # abstract: its subclasses have the rest
        name = "base"

    @dataclass(frozen=True)
    class Fields(declare()):  # type: ignore[misc]
        limits: Limits
        name: str = "fields"
        candles: Any = field(default_factory=dict)
        class_level: ClassVar[int] = 5

    class Computed(declare()):  # type: ignore[misc]
        @property
        def name(self) -> str:
            return "computed"

    assert inspect.isabstract(Base)
    assert Fields(Limits(1, 1, 1)).name == "fields"
    assert Computed().name == "computed"
    for markets in EXCHANGES.values():
        for exchange in markets.values():
            assert find_exchange(exchange).name == exchange.name


# Leaving early.


@pytest.mark.parametrize("kind", ["tape", "gzip", "recording"])
def test_leaving_a_replay_early_leaves_nothing_behind(kind: str, tmp_path: Path) -> None:
    messages = trades(1, 20_000, 0, 1_000)
    if kind == "recording":
        recording = Recording(tmp_path / "tape")
        session = Session(SPOT, StreamConfig(bars="1m"), channel="trade", record=recording.session)
        for n in range(0, len(messages), 1000):
            session.receive(messages[n : n + 1000], START_NS, n)
        recording.close()
    else:
        (tmp_path / "tape").write_bytes(b"".join(b"1 %b\n" % message for message in messages))
    if kind == "gzip":
        subprocess.run(["gzip", tmp_path / "tape"], check=True)
        (tmp_path / "tape.gz").rename(tmp_path / "tape")
    program = f"""
        import gc, os, sys
        import fastbars
        before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        def leave(how):
            bars = fastbars.replay({str(tmp_path / "tape")!r}, "binance")
            if how == "break":
                for bar in bars:
                    break
            elif how == "error":
                try:
                    for bar in bars:
                        raise KeyError(bar.symbol)
                except KeyError:
                    pass
            else:
                iterator = iter(bars)
                next(iterator)
                if how == "close":
                    iterator.close()
        for how in ("break", "close", "drop", "error"):
            leave(how)
        gc.collect()
        after = len(os.listdir("/proc/self/fd")) if before else 0
        print(after - before)
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_no_tape_and_a_missing_tape_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="no tape given"):
        fastbars.replay([], "binance")
    with pytest.raises(TapeError, match=r"none\.tape: cannot be read: No such file or directory"):
        fastbars.replay(tmp_path / "none.tape")
    recording = Recording(tmp_path / "run")
    recording.close()
    with pytest.raises(TapeError, match=r"none\.tape: cannot be read: No such file or directory"):
        fastbars.replay([tmp_path / "run", tmp_path / "none.tape"])


def test_a_stream_that_is_refused_leaves_no_recording_open(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 1"):
        fastbars.stream("binance", ["BTCUSDT"], verify=1.5, record=tmp_path / "run")
    assert not (tmp_path / "run").exists()
