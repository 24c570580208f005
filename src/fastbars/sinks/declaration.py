"""What a sink is: a place that keeps bars, such as a folder of files, a database or a message broker.

A sink is one file in this folder: a class with the methods of `Sink`, and a line in `fastbars.sinks`. It is given
batches in order, one at a time, and confirms by returning from `flush`:

    open -> write, write, ... -> flush -> write ... -> flush -> close
              +--- SinkError: it may come back ---> open, and all since the last flush again

So it may be given a bar twice, and must keep it once: by `Rows.key`, source and revision.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from fastbars.errors import FastbarsError
from fastbars.sinks.rows import Rows

__all__ = ["Sink", "SinkError", "SinkRefused", "SinkState", "SinkStats"]


class SinkError(FastbarsError):
    """A sink cannot take bars now: it is retried, and nothing is lost."""


class SinkRefused(SinkError):  # noqa: N818 as the state of the same name
    """It never will as it is configured: wrong credentials, a table of another shape, no such folder."""


class Sink(Protocol):
    """A place for bars. Every method raises SinkError where it is down, SinkRefused where it is wrong.

    Attributes:
        name: for logs, metrics and the record of what it has confirmed: the same after a restart, without secrets.

    It may have `batch_bars` and `batch_s` too: most bars of one batch, and how long a bar waits for others, s.
    """

    name: str

    async def open(self) -> None:
        """Connect, and create or check what is needed. Also called again after an error; closes what was open."""

    async def write(self, rows: Rows) -> None:
        """Take bars; they are safe after the next `flush`."""

    async def flush(self) -> None:
        """Return once everything written would survive a crash of this process."""

    async def close(self) -> None:
        """Let go of everything. Called once, also where `open` has failed; raises nothing for what is closed."""


class SinkState(StrEnum):
    """Whether a sink takes bars."""

    CLOSED = "closed"  # not opened yet, or closed
    UP = "up"
    DOWN = "down"  # it failed, and is retried
    REFUSED = "refused"  # likewise, and somebody has to repair its configuration


@dataclass(frozen=True, slots=True)
class SinkStats:
    """Counters of one sink.

    Attributes:
        state: whether it takes bars.
        waiting: bars that it has not confirmed.
        confirmed: bars that it has, since the start.
        batches: flushes that succeeded.
        failures: times that it failed.
        paused: whether reading waits for it.
        lag_s: age of the oldest bar that waits, since this process took it, s; 0 where none does.
        busy_s: time spent in it, s.
        error: its last failure, without secrets; empty where it is up.
    """

    state: SinkState
    waiting: int = 0
    confirmed: int = 0
    batches: int = 0
    failures: int = 0
    paused: bool = False
    lag_s: float = 0.0
    busy_s: float = 0.0
    error: str = ""
