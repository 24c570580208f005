"""SinkWorker: brings the bars of one stream, or of several venues, to one sink, each at least once.

    Delivery --bars that it has not confirmed--> batch -> write, flush -> confirmed, by number
       +-- too many wait: reading is paused        +-- SinkError: wait, open, and again, for ever

There is no second queue: what the sink has not confirmed stays in the delivery, which snapshots and the delivery log
know, so that a restart brings it again. Units: seconds on a steady clock.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from random import uniform
from typing import Protocol

from fastbars.bars import OHLCVBar
from fastbars.clocks import steady_s
from fastbars.log import SparseLog, log
from fastbars.redaction import without_credentials
from fastbars.sinks import open_sink
from fastbars.sinks.declaration import Sink, SinkError, SinkRefused, SinkState, SinkStats
from fastbars.sinks.rows import Rows, now

__all__ = ["Bars", "SinkWorker", "SinkWorkers"]

BATCH_BARS = 10_000
BATCH_S = 1.0  # a bar waits so long for others
STOP_S = 10.0  # what a sink has not taken by then at the end of a stream stays unconfirmed
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 30.0
_MOST_SINKS, _LONGEST_NAME = 50, 500
CONSUMER = "sink:"


class Bars(Protocol):
    """What a worker asks of the delivery of a stream; `live.delivery.Delivery` has it."""

    on_issued: list[Callable[[], object]]

    @property
    def next_number(self) -> int:
        """Number of the bar that is issued next."""

    def add_consumer(self, name: str) -> int:
        """Keep bars until `confirm`. Returns the number of the first one that it has not confirmed."""

    def bar(self, number: int) -> OHLCVBar | None:
        """A bar that is not confirmed by all."""

    def confirm(self, name: str, end: int) -> None:
        """All below the number `end` are confirmed."""


@dataclass(slots=True)
class _Part:
    # One delivery: where the worker is in it, and how reading is paused for it.
    bars: Bars
    pause: Callable[[bool], object]
    most: int
    at: int
    is_paused: bool = False
    since: list[tuple[int, datetime, float]] = field(default_factory=list)  # (number, when issued) from there on

    @property
    def waiting(self) -> int:
        return self.bars.next_number - self.at

    def note_issued(self) -> None:
        if not self.since or self.since[-1][0] < self.bars.next_number:
            first = self.since[-1][0] if self.since else self.at
            if self.bars.next_number > first:
                self.since.append((self.bars.next_number, now(), steady_s()))
        if not self.is_paused and self.waiting >= self.most:
            self.is_paused = True
            self.pause(True)

    def take(self, most: int) -> tuple[list[OHLCVBar], list[datetime], int]:
        # Bars, when each was issued, and the number behind them.
        end = min(self.bars.next_number, self.at + most)
        found, times, place = [], [], 0
        for number in range(self.at, end):
            while place < len(self.since) and self.since[place][0] <= number:
                place += 1
            bar = self.bars.bar(number)
            if bar is not None:
                found.append(bar)
                times.append(self.since[place][1] if place < len(self.since) else now())
        return found, times, end

    def confirm(self, name: str, end: int) -> None:
        self.at = end
        while self.since and self.since[0][0] <= end:
            self.since.pop(0)
        self.bars.confirm(name, end)
        if self.is_paused and self.waiting <= self.most // 2:
            self.is_paused = False
            self.pause(False)


class SinkWorker:
    """Writes bars to one sink until it is stopped.

    Args:
        name: of the sink among others; what it has confirmed is remembered by it.
        sink: where the bars go.
        source: name of the stream, in each row.
        batch_bars: most bars of one batch; None: as the sink wants it (`batch_bars` of it), else 10,000.
        batch_s: how long a bar waits for others, s; None: as the sink wants it (`batch_s` of it), else 1.
    """

    def __init__(
        self, name: str, sink: Sink, source: str, *, batch_bars: int | None = None, batch_s: float | None = None
    ) -> None:
        self.name = name
        self.sink = sink
        self._source = source
        self._batch_bars: int = getattr(sink, "batch_bars", BATCH_BARS) if batch_bars is None else batch_bars
        self._batch_s: float = getattr(sink, "batch_s", BATCH_S) if batch_s is None else batch_s
        self._parts: list[_Part] = []
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._state = SinkState.CLOSED
        self._error = ""
        self._counts = _Counts()
        self._warnings = SparseLog(sink=name)

    def add(self, bars: Bars, pause: Callable[[bool], object], most: int) -> None:
        """Take the bars of one more stream.

        Args:
            pause: pauses its reading (True), or lets it go on.
            most: bars that may wait before it is paused.
        """
        part = _Part(bars, pause, most, bars.add_consumer(CONSUMER + self.name))
        self._parts.append(part)

        def note_issued() -> None:
            part.note_issued()
            self._ready.set()

        bars.on_issued.append(note_issued)
        note_issued()

    async def open(self) -> None:
        """Open the sink and begin; one that is down is tried again for ever.

        Raises:
            SinkRefused: as it is configured, it can take nothing.
        """
        if self._task is not None:
            return
        try:
            await self._attempt(self.sink.open())
        except SinkRefused:
            await self.sink.close()
            raise
        except SinkError:
            pass  # it is noted, and retried below
        self._task = asyncio.create_task(self._run(), name=f"fastbars sink {self.name}")

    async def stop(self, within_s: float = STOP_S) -> None:
        """Write what waits, for so many seconds at most, and close the sink. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        self._ready.set()
        done, _ = await asyncio.wait([task], timeout=within_s)
        if not done:
            task.cancel()
            await asyncio.wait([task])
        left = sum(part.waiting for part in self._parts)
        if left:
            log.warning("sink_left_bars", sink=self.name, bars=left, error=self._error)
        await self.sink.close()
        self._state = SinkState.CLOSED

    def stats(self) -> SinkStats:
        """A snapshot of its counters."""
        oldest = min((part.since[0][2] for part in self._parts if part.since and part.waiting), default=None)
        return SinkStats(
            self._state,
            sum(part.waiting for part in self._parts),
            self._counts.confirmed,
            self._counts.batches,
            self._counts.failures,
            any(part.is_paused for part in self._parts),
            0.0 if oldest is None else steady_s() - oldest,
            self._counts.busy_s,
            self._error,
        )

    async def _run(self) -> None:
        delay_s = _FIRST_DELAY_S
        while True:
            if self._state is SinkState.UP and not any(part.waiting for part in self._parts):
                if self._stopping.is_set():
                    return
                self._ready.clear()
                await self._ready.wait()
                await self._gather()
                continue
            try:
                if self._state is not SinkState.UP:
                    await self._attempt(self.sink.open())
                await self._write_batch()
                delay_s = _FIRST_DELAY_S
            except SinkError:
                await asyncio.sleep(uniform(delay_s / 2, delay_s))  # noqa: S311 no secret
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _gather(self) -> None:
        # Waits for more bars of a batch.
        until_s = steady_s() + self._batch_s
        while (
            not self._stopping.is_set()
            and (left_s := until_s - steady_s()) > 0
            and sum(part.waiting for part in self._parts) < self._batch_bars
            and not any(part.is_paused for part in self._parts)
        ):
            self._ready.clear()
            try:
                await asyncio.wait_for(self._ready.wait(), left_s)
            except TimeoutError:
                return

    async def _write_batch(self) -> None:
        bars: list[OHLCVBar] = []
        times: list[datetime] = []
        ends: list[tuple[_Part, int]] = []
        for part in self._parts:
            if len(bars) < self._batch_bars:
                found, own_times, end = part.take(self._batch_bars - len(bars))
                bars += found
                times += own_times
                ends.append((part, end))
        if bars:
            await self._attempt(self._write(Rows(bars, self._source, times)))
            self._counts.batches += 1
            self._counts.confirmed += len(bars)
        for part, end in ends:
            part.confirm(CONSUMER + self.name, end)

    async def _write(self, rows: Rows) -> None:
        await self.sink.write(rows)
        await self.sink.flush()

    async def _attempt(self, call: Awaitable[None]) -> None:
        # Awaits something of the sink, and notes what became of it.
        began_s = steady_s()
        try:
            await call
        except SinkError as error:
            self._note_failure(error)
            raise
        except Exception as error:  # a fault of a sink or its library must not end the worker
            self._note_failure(error)
            raise SinkError(f"{self.name}: {type(error).__name__}: {error}") from error
        finally:
            self._counts.busy_s += steady_s() - began_s
        if self._state is not SinkState.UP:
            log.info("sink_up", sink=self.name)
        self._state, self._error = SinkState.UP, ""

    def _note_failure(self, error: Exception) -> None:
        self._counts.failures += 1
        self._state = SinkState.REFUSED if isinstance(error, SinkRefused) else SinkState.DOWN
        self._error = without_credentials(str(error) or type(error).__name__)[:500]
        self._warnings.warn("sink_down", error=self._error, waiting=sum(part.waiting for part in self._parts))


@dataclass(slots=True)
class _Counts:
    confirmed: int = 0
    batches: int = 0
    failures: int = 0
    busy_s: float = 0.0


class SinkWorkers:
    """The sinks of one stream, or of the streams of several venues, which share them.

    Args:
        sinks: what `open_sink` takes, in a list, or by names of your own.
        source: name of the stream, in each row; empty: the name of this host.

    Raises:
        SinkRefused: as `open_sink`; two have one name; a name is longer than 500 characters, or there are more than 50
            sinks. TypeError: it is neither a list nor a mapping.
    """

    def __init__(
        self, sinks: Sequence[str | Sink | Callable[..., object]] | Mapping[str, str | Sink | Callable[..., object]],
        source: str = "",
    ) -> None:  # fmt: skip
        if isinstance(sinks, str) or not isinstance(sinks, Sequence | Mapping):
            raise TypeError(f"sinks must be a list, or a mapping by name, got {type(sinks).__name__}")
        if len(sinks) > _MOST_SINKS:
            raise SinkRefused(f"{len(sinks)} sinks: at most {_MOST_SINKS}")
        self.source = source or socket.gethostname()
        made: dict[str, Sink] = {}
        named = sinks.items() if isinstance(sinks, Mapping) else ((None, sink) for sink in sinks)
        for name, target in named:
            sink = open_sink(target)
            own = sink.name if name is None else name
            if own in made:
                raise SinkRefused(f"two sinks are named {own!r:.200}; give them names: sinks={{NAME: ...}}")
            if len(own) > _LONGEST_NAME:  # state files limit it
                raise SinkRefused(f"the name {own!r:.100} of a sink has {len(own)} characters, at most {_LONGEST_NAME}")
            made[own] = sink
        self._workers = {name: SinkWorker(name, sink, self.source) for name, sink in made.items()}
        self._streams = 0
        self._opening: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._workers)

    def join(self, bars: Bars, pause: Callable[[str, bool], object], most: int) -> None:
        """Take the bars of one more stream; `pause` is called with the sink's name, and whether it pauses."""
        self._streams += 1
        for name, worker in self._workers.items():
            worker.add(bars, partial(pause, CONSUMER + name), most)

    async def open(self) -> None:
        """Open all, once. Raises SinkRefused: one that can take nothing; the others are closed again."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        try:
            for worker in self._workers.values():
                await worker.open()
        except SinkRefused:
            await self._stop(0.0)
            raise

    async def leave(self, within_s: float = STOP_S) -> None:
        """A stream has ended; with the last one what waits is written, and all are closed."""
        self._streams -= 1
        if self._streams <= 0:
            await self._stop(within_s)

    async def _stop(self, within_s: float) -> None:
        if self._workers:
            await asyncio.gather(*(worker.stop(within_s) for worker in self._workers.values()))

    def stats(self) -> dict[str, SinkStats]:
        """The counters of each, by name."""
        return {name: worker.stats() for name, worker in self._workers.items()}
