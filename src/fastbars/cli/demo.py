"""`fastbars demo`: an embedded exchange in its own process, the ordinary adapter, and a verdict.

Each closed bar is compared with the candle that the exchange computed for it, independently, in plain Decimal.
"""

from __future__ import annotations

import asyncio
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fastbars.bars import BarStatus, ExchangeBar, OHLCVBar
from fastbars.cli.console import Console
from fastbars.cli.output import terminal_width
from fastbars.errors import WSConnectionError
from fastbars.exchanges import find_exchange
from fastbars.live.config import StreamConfig
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.simulator.dialects import find_dialect
from fastbars.verification import COMPARED

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

_SPEC = "1s"
_COMPARED = ("open_time", "close_time", *COMPARED)
_TABLE = ("symbol", "time", "open", "high", "low", "close", "volume", "trades", "status", "candle")
_WIDE = 110
# (columns of the terminal, below which these are left out of the table)
_NARROW = ((_WIDE, {"high", "low"}), (80, {"open", "trades"}), (60, {"time", "volume"}))
_REFRESH_S = 0.5
_START_TIMEOUT_S = 20.0
_LAST_CANDLES_S = 2.5
_REMARK = 34  # the column of the summary where its remarks begin

Key = tuple[str, datetime]


@dataclass
class Verdict:
    """Compares bars with the exchange's candles; a later revision of a bar replaces the earlier one."""

    bars: dict[Key, OHLCVBar] = field(default_factory=dict)
    candles: dict[Key, ExchangeBar] = field(default_factory=dict)
    issued: int = 0
    partial: int = 0

    def add_bar(self, bar: OHLCVBar) -> None:
        """Add a bar; a PARTIAL one, which began or ended with the stream, is only counted."""
        self.issued += 1
        if bar.status is BarStatus.PARTIAL:
            self.partial += 1
        else:
            self.bars[bar.symbol, bar.open_time] = bar

    def add_candle(self, candle: ExchangeBar) -> None:
        """Add a candle of the exchange."""
        if candle.is_closed:
            self.candles[candle.symbol, candle.open_time] = candle

    def of(self, bar: OHLCVBar) -> bool | None:
        """Whether the bar equals its candle in every field; None: no candle has come yet."""
        candle = self.candles.get((bar.symbol, bar.open_time))
        return None if candle is None else all(getattr(bar, name) == getattr(candle, name) for name in _COMPARED)

    def count(self) -> tuple[int, int, int]:
        """(equal, different, without a candle)."""
        verdicts = [self.of(bar) for bar in self.bars.values()]
        return verdicts.count(True), verdicts.count(False), verdicts.count(None)


@asynccontextmanager
async def _exchange_process(symbols: int, rate: float) -> AsyncIterator[str]:
    # In another process, so that the CPU time measured here is only the client's.
    command = [sys.executable, "-m", "fastbars", "simulate", "--symbols", str(symbols), "--rate", str(rate)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise WSConnectionError(f"the embedded exchange did not start (exit status {await process.wait()})")
        yield url
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def demo(symbols: int, seconds: float, rate: float, console: Console | None = None) -> int:
    """Run the demo; returns 1 if a closed bar differed from the exchange's candle, or none could be compared."""
    verdict = Verdict()
    console = console or Console(None, progress=False)
    console.show("starting the embedded exchange ...")
    async with _exchange_process(symbols, rate) as url:
        adapter = BaseWebSocketAdapter(
            find_exchange("binance", "spot"),
            StreamConfig(bars=_SPEC),
            on_bar=verdict.add_bar,
            on_exchange_bar=verdict.add_candle,
            url=url,
        )
        console.clear()
        names = [instrument.symbol for instrument in find_dialect("binance").list_market("spot", symbols)[1]]
        print(f"embedded exchange at {url}: {symbols} symbols, about {rate:,.0f} trades a second, {seconds:g} s")
        console.show(f"connecting, subscribing to {symbols} symbols ...")
        await adapter.connect()
        try:
            await adapter.subscribe(names, ["trade", f"kline_{_SPEC}"])
            console.clear()
            started_s, started_cpu_s = time.perf_counter(), time.process_time()
            started_trades = adapter.session.stats.trades
            await _watch(adapter, verdict, seconds)
            wall_s = time.perf_counter() - started_s
            cpu_s = time.process_time() - started_cpu_s
            trades = adapter.session.stats.trades - started_trades
            await adapter.unsubscribe(names, ["trade"])
            # The exchange closes the candles of the last second a moment after its last trade.
            deadline = time.perf_counter() + _LAST_CANDLES_S
            while verdict.count()[2] and time.perf_counter() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(_REFRESH_S)
        finally:
            await adapter.disconnect()
    return _summarise(adapter, verdict, trades, wall_s, cpu_s)


async def _watch(adapter: BaseWebSocketAdapter, verdict: Verdict, seconds: float) -> None:
    live = _live_table()
    end = time.perf_counter() + seconds
    if live is None:
        while (left := end - time.perf_counter()) > 0:
            await asyncio.sleep(min(1.0, left))
            equal, different, _ = verdict.count()
            print(
                f"{adapter.session.stats.trades:>10,} trades  {verdict.issued:>6,} bars"
                f"  {equal:>6,} equal to the exchange's candles  {different} different",
                flush=True,
            )
        return
    with live:
        while time.perf_counter() < end:
            await asyncio.sleep(_REFRESH_S)
            live.update(_table(verdict, live.console.width), refresh=True)


def _live_table() -> Live | None:
    # None: plain lines, because the output is not a terminal or rich is not installed.
    try:
        from rich.console import Console  # noqa: PLC0415 an extra
        from rich.live import Live  # noqa: PLC0415
    except ImportError:
        return None
    console = Console()
    return Live(console=console, auto_refresh=False) if console.is_terminal else None


def _table(verdict: Verdict, width: int = _WIDE) -> Table:
    from rich import box  # noqa: PLC0415 an extra
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    names = list(_TABLE)
    for least, left_out in _NARROW:
        names = [name for name in names if width >= least or name not in left_out]
    for name in names:
        left = name in {"symbol", "time", "status", "candle"}
        table.add_column(name, justify="left" if left else "right", no_wrap=True, overflow="ellipsis")
    latest: dict[str, OHLCVBar] = {}
    for bar in verdict.bars.values():
        if bar.symbol not in latest or bar.open_time >= latest[bar.symbol].open_time:
            latest[bar.symbol] = bar
    for symbol in sorted(latest):
        bar = latest[symbol]
        equal = verdict.of(bar)
        mark = "…" if equal is None else "[green]equal[/]" if equal else "[red]different[/]"
        prices: list[Any] = [bar.open, bar.high, bar.low, bar.close, bar.volume]
        cells = [f"{price:f}" for price in prices]
        row = (symbol, f"{bar.open_time:%H:%M:%S}", *cells, str(bar.trade_count), str(bar.status), mark)
        table.add_row(*(cell for cell, name in zip(row, _TABLE, strict=True) if name in names))
    return table


def _summarise(adapter: BaseWebSocketAdapter, verdict: Verdict, trades: int, wall_s: float, cpu_s: float) -> int:
    equal, different, without = verdict.count()
    stats = adapter.session.buffer_stats
    gaps = sum(bar.status is BarStatus.GAP for bar in verdict.bars.values())
    for bar in verdict.bars.values():
        if verdict.of(bar) is False:
            print(f"different: {bar!r}\n       not {verdict.candles[bar.symbol, bar.open_time]}")
    cpu_us = cpu_s / max(trades, 1) * 1e6
    outcome = f"{different} DIFFERENT" if different else "all of them, to the last digit"
    rows = (
        ("trades received", f"{trades:,}", f"in {wall_s:.1f} s: {trades / wall_s:,.0f} a second"),
        ("CPU time a trade", f"{cpu_us:.1f} µs", "socket to bar, the candles and this display included"),
        (
            "bars issued",
            f"{verdict.issued:,}",
            f"{verdict.partial} PARTIAL (the stream began or ended inside), {gaps} GAP",
        ),
        ("trades not in a bar", f"{stats.late + stats.refused:,}", f"and {stats.duplicates} duplicates"),
        (
            "bars compared",
            f"{equal + different:,}",
            f"with the exchange's candles, {len(_COMPARED)} fields each; {without} had none",
        ),
        ("equal", f"{equal:,}", outcome),
    )
    print()
    width = max((terminal_width(sys.stdout) or _WIDE) - _REMARK, 20)
    for name, value, remark in rows:
        first, *others = textwrap.wrap(remark, width)
        print(f"{name:<20} {value:>10}   {first}")
        for line in others:
            print(" " * _REMARK + line)
    return 0 if equal and not different else 1
