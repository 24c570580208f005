"""What each subcommand does; the options come from `fastbars.cli`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from fastbars.cli.output import BarWriter
from fastbars.live.config import StreamConfig
from fastbars.simulator import SimulatedExchange
from fastbars.streams import BarStream, run, stream
from fastbars.tapes.recorder import Recording
from fastbars.tapes.replay import replay
from fastbars.verification import Verification, verify


@contextmanager
def _writer(options: argparse.Namespace, *, live: bool = False) -> Iterator[BarWriter]:
    if options.output is None:
        yield BarWriter(sys.stdout, options.format, live=live)
        sys.stdout.flush()
    else:
        with options.output.open("w", encoding="utf-8", newline="") as file:
            yield BarWriter(file, options.format, live=live)


def _replay(options: argparse.Namespace) -> int:
    bars = replay(options.tapes, options.exchange, options.bars, market=options.market, channel=options.channel)
    with _writer(options) as writer:
        try:
            for bar in bars:
                writer.write(bar)
        finally:
            sys.stdout.flush()
    return 0


def _stream(options: argparse.Namespace) -> int:
    bars = stream(
        options.exchange,
        options.symbols,
        options.bars,
        market=options.market,
        channel=options.channel,
        url=options.url,
        config=StreamConfig(close_by=options.close_by),
        once=options.once,
        record=options.record,
        lines=options.lines,
        verify=options.verify or False,
    )
    with _writer(options, live=True) as writer:
        status = run(_write_stream(bars, writer))
    if bars.verification is not None:
        _print_verdict(bars.verification, sys.stderr)
    return status


async def _write_stream(bars: BarStream, writer: BarWriter) -> int:
    stopping: list[asyncio.Task[None]] = []
    with _on_signals(lambda: stopping.append(asyncio.create_task(bars.stop()))):
        async with bars:
            async for bar in bars:
                writer.write(bar)
        await asyncio.gather(*stopping)
    return 0


def _record(options: argparse.Namespace) -> int:
    recording = Recording(options.output, file_bytes=int(options.file_mb * 2**20), file_s=options.file_s)
    bars = stream(
        options.exchange,
        options.symbols,
        options.bars,
        market=options.market,
        channel=options.channel,
        url=options.url,
        once=options.once,
        record=recording,
        lines=options.lines,
        verify=options.candles,
    )
    run(_drain(bars, recording, options.seconds))
    stats = recording.stats
    print(f"{stats.messages:,} messages in {stats.files} files, {stats.written_bytes / 2**20:.1f} MB: {options.output}")
    return 0


async def _drain(bars: BarStream, recording: Recording, seconds: float | None) -> None:
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        stopping.append(asyncio.create_task(bars.stop()))

    recording.on_failure = lambda _: loop.call_soon_threadsafe(stop)
    timer = None if seconds is None else loop.call_later(seconds, stop)
    with _on_signals(stop):
        async with bars:
            async for _ in bars:
                pass
        await asyncio.gather(*stopping)
    if timer is not None:
        timer.cancel()
    if recording.failure is not None:
        raise recording.failure


def _verify(options: argparse.Namespace) -> int:
    result = verify(
        options.tapes,
        options.exchange,
        options.bars,
        klines=options.klines,
        market=options.market,
        channel=options.channel,
        on_difference=print,
    )
    _print_verdict(result, sys.stdout)
    return 0 if result.equal and not result.different and not result.without_bar else 1


def _print_verdict(result: Verification, file: TextIO) -> None:
    for name, remark in (
        ("equal", "bars equal the exchange's candles in every field that these have"),
        ("different", "do not"),
        ("mended", "did not at first"),
        ("partial", "are PARTIAL and were not compared"),
        ("without_candle", "had no candle"),
        ("without_bar", "candles with trades had no bar"),
    ):
        print(f"{getattr(result, name):>10,} {remark}", file=file)


def _simulate(options: argparse.Namespace) -> int:
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
    with _on_signals(stopped.set):
        async with exchange:
            print(exchange.url, flush=True)
            await stopped.wait()
    return 0


@contextmanager
def _on_signals(action: Callable[[], object]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        try:
            loop.add_signal_handler(number, action)
        except NotImplementedError:  # asyncio on Windows: Ctrl-C arrives as KeyboardInterrupt
            return (yield)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _demo(options: argparse.Namespace) -> int:
    from fastbars.cli.demo import demo  # noqa: PLC0415 rich is loaded for the demo only

    return run(demo(options.symbols, options.seconds, options.rate))


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "demo": _demo,
    "replay": _replay,
    "record": _record,
    "verify": _verify,
    "stream": _stream,
    "simulate": _simulate,
}
