"""The subcommands; `options.py` defines their options."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastbars.cli.bar_writer import BarWriter, bar_writer, outlet_to_stdout
from fastbars.cli.console import Console
from fastbars.cli.files import refuse_own_input
from fastbars.cli.outlet import READER_TIMEOUT_S
from fastbars.cli.signals import on_signals
from fastbars.cli.symbols import list_symbols, symbols_of
from fastbars.cli.text import printable
from fastbars.errors import FastbarsError
from fastbars.exchanges.instruments import Where
from fastbars.live.config import StreamConfig
from fastbars.past_bars import history
from fastbars.simulator import SimulatedExchange
from fastbars.streams import BarStream, VenueStreams, run, stream
from fastbars.tapes.recorder import Recording
from fastbars.tapes.replay import replay
from fastbars.verification import Verification, verify

_PROGRESS_S = 0.5


def _replay(options: argparse.Namespace, _: Console) -> int:
    refuse_own_input(options.output or sys.stdout, options.tapes)
    bars = replay(options.tapes, options.exchange, options.bars, market=options.market, channel=options.channel)
    with bar_writer(options.format, options.output) as writer:
        for bar in bars.through(writer.write_rows):
            writer.write_bar(bar)
    return 0


def _stream(options: argparse.Namespace, console: Console) -> int:
    if options.append and options.output is None:
        raise FastbarsError("--append needs -o FILE")
    config = StreamConfig(close_by=options.close_by, rest_url=options.rest_url)
    bars = _open_streams(options, config)
    with bar_writer(options.format, options.output, live=True, append=options.append) as writer:
        run(_write_stream(bars, writer, console, watched=options.output is None and sys.stdout.isatty()))
    if bars.verification is not None:
        for line in _verdict(bars.verification):
            console.say(line)
    return 0


def _history(options: argparse.Namespace, console: Console) -> int:
    past = history(
        options.exchange,
        options.symbols,
        options.bars,
        options.since,
        options.until,
        last=options.last,
        market=options.market,
        channel=options.channel,
        history_from=options.history_from,
        config=StreamConfig(rest_url=options.rest_url),
        on_progress=lambda done: console.show(
            f"{done.symbol} {', '.join(done.specs)}: up to {done.reached:%Y-%m-%d %H:%M}, {done.bars:,} bars"
        ),
    )
    with bar_writer(options.format, options.output) as writer:
        for batch in past:
            for bar in batch.to_bars():
                writer.write_bar(bar)
    console.clear()
    return 0


def _open_stream(
    options: argparse.Namespace,
    symbols: list[str] | Where,
    *,
    record: Recording | Path | None,
    verify: bool | float,
    config: StreamConfig,
) -> BarStream:
    return stream(
        options.exchange,
        symbols,
        options.bars,
        market=options.market,
        channel=options.channel,
        url=options.url,
        config=config,
        once=options.once,
        record=record,
        lines=options.lines,
        repair=options.repair,
        verify=verify,
        history=getattr(options, "history", None),
        history_from=getattr(options, "history_from", None),
    )


def _open_streams(options: argparse.Namespace, config: StreamConfig) -> BarStream | VenueStreams:
    # Of the venues behind `--and` too, where there are any.
    first = options.exchange if options.market is None else f"{options.exchange}:{options.market}"
    venues: dict[str, list[str] | Where] = {first: symbols_of(options)}
    for name, *symbols in options.others:
        if not symbols:
            raise FastbarsError(f"--and {name}: no symbols are given")
        given = venues.setdefault(name, [])
        if isinstance(given, Where):
            raise FastbarsError(f"--and {name}: its symbols are chosen by --where; none can be given beside it")
        given.extend(symbols)
    if len(venues) > 1 and options.rest_url is not None:
        raise FastbarsError("--rest-url is of one venue, and several are given")
    urls = dict(_url_of(text, first) for text in options.url)
    if len(venues) == 1:
        options.url = urls.pop(first, None)
        if urls:
            raise FastbarsError(f"--url {next(iter(urls))}=...: no such venue; given is {first}")
        verify = options.verify or False
        return _open_stream(options, venues[first], record=options.record, verify=verify, config=config)
    return stream(
        venues,
        bars=options.bars,
        channel=options.channel,
        url=urls,
        config=config,
        once=options.once,
        record=options.record,
        lines=options.lines,
        repair=options.repair,
        verify=options.verify or False,
        history=options.history,
        history_from=options.history_from,
    )


def _url_of(text: str, first: str) -> tuple[str, str]:
    # VENUE=URL, or the URL of the first venue.
    venue, is_named, url = text.partition("=")
    return (venue, url) if is_named and "://" not in venue else (first, text)


async def _write_stream(bars: BarStream | VenueStreams, writer: BarWriter, console: Console, *, watched: bool) -> None:
    def progress_text() -> str:
        stats = bars.stats()
        return f"{stats.state}: {stats.session.trades:,} trades of {stats.symbols:,} symbols, {writer.bars:,} bars"

    stopping: list[asyncio.Task[None]] = []  # kept, as the loop holds tasks only weakly

    def stop() -> None:
        writer.outlet.set_timeout(READER_TIMEOUT_S)
        stopping.append(asyncio.create_task(bars.stop()))

    with on_signals(stop):
        async with _progress(console, progress_text) as progress, bars:
            async for bar in bars:
                if watched:  # the bars themselves are progress enough
                    progress.cancel()
                    console.clear()
                await writer.write_live(bar)
        await asyncio.gather(*stopping)


@asynccontextmanager
async def _progress(console: Console, text: Callable[[], str]) -> AsyncIterator[asyncio.Task[None]]:
    async def show() -> None:
        while console.shows_progress:
            console.show(text())
            await asyncio.sleep(_PROGRESS_S)

    showing = asyncio.create_task(show(), name="fastbars progress")
    try:
        yield showing
    finally:
        showing.cancel()
        await asyncio.wait([showing])
        console.clear()


def _record(options: argparse.Namespace, console: Console) -> int:
    symbols = symbols_of(options)
    recording = Recording(options.output, file_bytes=int(options.file_mb * 2**20), file_s=options.file_s)
    config = StreamConfig(rest_url=options.rest_url)
    bars = _open_stream(options, symbols, config=config, record=recording, verify=options.candles)
    run(_drain(bars, recording, options.seconds, console))
    print(f"{_written(recording)}: {printable(str(options.output))}")
    return 0


def _written(recording: Recording) -> str:
    stats = recording.stats
    return f"{stats.messages:,} messages in {stats.files} files, {stats.written_bytes / 2**20:.1f} MB"


async def _drain(bars: BarStream, recording: Recording, seconds: float | None, console: Console) -> None:
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        stopping.append(asyncio.create_task(bars.stop()))

    recording.on_failure = lambda _: loop.call_soon_threadsafe(stop)  # called in the writing thread
    timer = None if seconds is None else loop.call_later(seconds, stop)
    with on_signals(stop):
        async with _progress(console, lambda: f"{bars.stats().state}: {_written(recording)}"), bars:
            async for _ in bars:
                pass
        await asyncio.gather(*stopping)
    if timer is not None:
        timer.cancel()
    if recording.failure is not None:
        raise recording.failure


def _verify(options: argparse.Namespace, _: Console) -> int:
    with outlet_to_stdout() as outlet:

        def show(difference: object) -> None:
            with suppress(OSError):  # raised again at the end
                outlet.put(printable(str(difference)) + "\n")

        result = verify(
            options.tapes,
            options.exchange,
            options.bars,
            klines=options.klines,
            market=options.market,
            channel=options.channel,
            on_difference=show,
        )
        outlet.put("".join(f"{line}\n" for line in _verdict(result)))
    return 0 if result.equal and not result.different and not result.without_bar else 1


def _verdict(result: Verification) -> Iterator[str]:
    for name, remark in (
        ("equal", "bars equal the exchange's candles in every field that these have"),
        ("different", "do not"),
        ("repaired", "did not at first"),
        ("partial", "are PARTIAL and were not compared"),
        ("reported", "are REPORTED, the exchange's own candles, and were not compared"),
        ("without_candle", "had no candle"),
        ("without_bar", "candles with trades had no bar"),
    ):
        yield f"{getattr(result, name):>10,} {remark}"


def _simulate(options: argparse.Namespace, _: Console) -> int:
    exchange = SimulatedExchange(
        options.exchange,
        market=options.market,
        symbols=options.symbols,
        rate=options.rate,
        seed=options.seed,
        tapes=options.tape,
        port=options.port,
    )
    return run(_serve(exchange))


async def _serve(exchange: SimulatedExchange) -> int:
    stopped = asyncio.Event()
    with on_signals(stopped.set):
        async with exchange:
            print(exchange.url, flush=True)
            await stopped.wait()
    return 0


def _demo(options: argparse.Namespace, console: Console) -> int:
    if options.web:
        from fastbars.cli.web import demo_on_page  # noqa: PLC0415 no other demo has a web server

        options.seconds, options.rate = options.seconds or 600.0, options.rate or 1_000.0
        return demo_on_page(options, console)
    options.seconds, options.rate = options.seconds or 15.0, options.rate or 20_000.0
    from fastbars.cli.demo import demo  # noqa: PLC0415 rich is loaded for the demo only

    async def main() -> int:
        task = asyncio.create_task(demo(options.symbols, options.seconds, options.rate, console))
        with on_signals(task.cancel):
            await asyncio.wait([task])
        return 130 if task.cancelled() else task.result()

    return run(main())


def _check(options: argparse.Namespace, console: Console) -> int:
    from fastbars.cli.check import run_check  # noqa: PLC0415 no other command reads archives

    return run_check(options, console)


def _build(options: argparse.Namespace, console: Console) -> int:
    from fastbars.cli.build import run_build  # noqa: PLC0415 no other command reads archives

    return run_build(options, console)


def _resample(options: argparse.Namespace, _: Console) -> int:
    from fastbars.cli.resample import run_resample  # noqa: PLC0415 pyarrow is for those who have it

    return run_resample(options)


def _run_service(options: argparse.Namespace, console: Console) -> int:
    from fastbars.cli.service import run_service  # noqa: PLC0415 its libraries come with an extra

    return run_service(options, console)


def _init(options: argparse.Namespace, console: Console) -> int:
    from fastbars.cli.service import write_example  # noqa: PLC0415 likewise

    return write_example(options, console)


def _status(options: argparse.Namespace, console: Console) -> int:
    from fastbars.cli.status import show_status  # noqa: PLC0415 no other command asks a service

    return show_status(options, console)


def _serve_stored(options: argparse.Namespace, console: Console) -> int:
    from fastbars.cli.web import serve_stored  # noqa: PLC0415 no other command has it

    return serve_stored(options, console)


COMMANDS: dict[str, Callable[[argparse.Namespace, Console], int]] = {
    "demo": _demo,
    "replay": _replay,
    "record": _record,
    "verify": _verify,
    "stream": _stream,
    "history": _history,
    "symbols": list_symbols,
    "simulate": _simulate,
    "resample": _resample,
    "check": _check,
    "build": _build,
    "run": _run_service,
    "init": _init,
    "status": _status,
    "serve": _serve_stored,
}
