"""What each subcommand does; the options come from `fastbars.cli`."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from fastbars.bars import OHLCVBar
from fastbars.cli.console import Console
from fastbars.cli.files import OutputFile, refuse_own_input
from fastbars.cli.outlet import Outlet
from fastbars.cli.output import BarText, terminal_width
from fastbars.cli.text import printable
from fastbars.errors import FastbarsError
from fastbars.live.config import StreamConfig
from fastbars.simulator import SimulatedExchange
from fastbars.streams import BarStream, run, stream
from fastbars.tapes.recorder import Recording
from fastbars.tapes.replay import replay
from fastbars.verification import Verification, verify

_PATIENCE_S = 1.0  # for a reader who has stopped reading, once it is time to end
_PROGRESS_S = 0.5
_BATCH = 256  # bars handed to the writing thread at once, where nobody watches them come


class _BarWriter:
    """Writes bars as they come, and counts them."""

    def __init__(self, outlet: Outlet, text: BarText, *, live: bool, has_header: bool = False) -> None:
        self.outlet = outlet
        self.bars = 0
        self._text = text
        self._most = 1 if live else _BATCH
        self._lines = [] if text.header is None or has_header else [text.header + "\n"]
        if live:
            self.flush()

    def write(self, text: str) -> None:
        """Lines; whoever calls it waits for the reader."""
        self._lines.append(text)
        if len(self._lines) >= self._most:
            lines, self._lines = self._lines, []
            self.outlet.put("".join(lines))

    def write_bar(self, bar: OHLCVBar) -> None:
        """One bar; whoever calls it waits for the reader."""
        self.bars += 1
        self.write(self._text.line(bar))

    async def write_live(self, bar: OHLCVBar) -> None:
        """One bar, in an event loop, which goes on while this waits for the reader."""
        await self.outlet.room()
        self.bars += 1
        self.outlet.add(self._text.line(bar))

    def flush(self) -> None:
        """Hand over what is left."""
        lines, self._lines = self._lines, []
        self.outlet.add("".join(lines))


@contextmanager
def _outlet_to_stdout() -> Iterator[Outlet]:
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "stdout")
    outlet = Outlet(sys.stdout, "stdout")
    try:
        yield outlet
    except KeyboardInterrupt:
        if not outlet.is_hurried:  # else it is the second one
            with suppress(OSError):
                outlet.close(_PATIENCE_S)
        raise
    except BaseException:
        outlet.close()
        raise
    outlet.close()


@contextmanager
def _writer(options: argparse.Namespace, *, live: bool = False, append: bool = False) -> Iterator[_BarWriter]:
    if options.output is None:
        with _outlet_to_stdout() as outlet:
            writer = _BarWriter(outlet, BarText(options.format, terminal_width(sys.stdout)), live=live)
            try:
                yield writer
            finally:
                writer.flush()
        return
    text = BarText(options.format)
    output = OutputFile(options.output, live=live, append=append, header=text.header)
    outlet = Outlet(output.file, str(options.output))
    writer = _BarWriter(outlet, text, live=live, has_header=output.goes_on)
    try:
        yield writer
        writer.flush()
        outlet.close()
    except BaseException as error:
        with suppress(OSError):
            writer.flush()
            outlet.close(_PATIENCE_S)
        beside = "" if outlet.is_stuck else output.keep(writer.bars, succeeded=False)
        if beside:
            error.add_note(f"what was written before is in {beside}")
        raise
    output.keep(writer.bars, succeeded=True)


def _replay(options: argparse.Namespace, _: Console) -> int:
    refuse_own_input(options.output or sys.stdout, options.tapes)
    bars = replay(options.tapes, options.exchange, options.bars, market=options.market, channel=options.channel)
    with _writer(options) as writer:
        for bar in bars:
            writer.write_bar(bar)
    return 0


def _stream(options: argparse.Namespace, console: Console) -> int:
    if options.append and options.output is None:
        raise FastbarsError("--append needs -o FILE")
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
    with _writer(options, live=True, append=options.append) as writer:
        run(_write_stream(bars, writer, console, watched=options.output is None and sys.stdout.isatty()))
    if bars.verification is not None:
        for line in _verdict(bars.verification):
            console.say(line)
    return 0


async def _write_stream(bars: BarStream, writer: _BarWriter, console: Console, *, watched: bool) -> None:
    def told() -> str:
        stats = bars.stats()
        symbols = len({symbol for adapter in bars.pool.adapters for symbol in adapter.session.symbols})
        return f"{stats.state}: {stats.session.trades:,} trades of {symbols:,} symbols, {writer.bars:,} bars"

    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        writer.outlet.hurry(_PATIENCE_S)
        stopping.append(asyncio.create_task(bars.stop()))

    with _on_signals(stop):
        async with _progress(console, told) as progress, bars:
            async for bar in bars:
                if watched:  # the bars themselves show that it goes on
                    progress.cancel()
                    console.clear()
                await writer.write_live(bar)
        await asyncio.gather(*stopping)


@asynccontextmanager
async def _progress(console: Console, told: Callable[[], str]) -> AsyncIterator[asyncio.Task[None]]:
    async def show() -> None:
        while console.shows_progress:
            console.show(told())
            await asyncio.sleep(_PROGRESS_S)

    showing = asyncio.create_task(show(), name="fastbars progress")
    try:
        yield showing
    finally:
        showing.cancel()
        await asyncio.wait([showing])
        console.clear()


def _record(options: argparse.Namespace, console: Console) -> int:
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

    recording.on_failure = lambda _: loop.call_soon_threadsafe(stop)
    timer = None if seconds is None else loop.call_later(seconds, stop)
    with _on_signals(stop):
        async with _progress(console, lambda: f"{bars.stats().state}: {_written(recording)}"), bars:
            async for _ in bars:
                pass
        await asyncio.gather(*stopping)
    if timer is not None:
        timer.cancel()
    if recording.failure is not None:
        raise recording.failure


def _verify(options: argparse.Namespace, _: Console) -> int:
    with _outlet_to_stdout() as outlet:

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
        ("mended", "did not at first"),
        ("partial", "are PARTIAL and were not compared"),
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
    with _on_signals(stopped.set):
        async with exchange:
            print(exchange.url, flush=True)
            await stopped.wait()
    return 0


@contextmanager
def _on_signals(action: Callable[[], object]) -> Iterator[None]:
    """End by `action` at the first SIGINT, SIGTERM or SIGHUP; at once at a SIGINT after that."""
    loop = asyncio.get_running_loop()
    ending = False

    def end() -> None:
        nonlocal ending
        if not ending:
            ending = True
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            action()

    signals = [signal.SIGINT, signal.SIGTERM]
    # `nohup` has it ignored, and it stays so.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    for number in signals:
        try:
            loop.add_signal_handler(number, end)
        except NotImplementedError:  # asyncio on Windows: Ctrl-C arrives as KeyboardInterrupt
            return (yield)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        if ending:  # the second one ends it at once, whatever is still to be done
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _demo(options: argparse.Namespace, console: Console) -> int:
    from fastbars.cli.demo import demo  # noqa: PLC0415 rich is loaded for the demo only

    async def main() -> int:
        task = asyncio.create_task(demo(options.symbols, options.seconds, options.rate, console))
        with _on_signals(task.cancel):
            await asyncio.wait([task])
        return 130 if task.cancelled() else task.result()

    return run(main())


COMMANDS: dict[str, Callable[[argparse.Namespace, Console], int]] = {
    "demo": _demo,
    "replay": _replay,
    "record": _record,
    "verify": _verify,
    "stream": _stream,
    "simulate": _simulate,
}
