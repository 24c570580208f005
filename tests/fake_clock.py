"""An event loop whose time is turned: it stands still while anything is left to do, then jumps to the next timer.

Every test runs on such a loop, but those that are marked `real_clock`. Sockets are real, and so is what sends and reads
them; only waiting takes no time. `asyncio.sleep(60)`, in a test or in the library, is over at once and took 60 s by
both clocks of `fastbars.clocks` and by the loop's, however busy the machine is. What a test measures can therefore be
compared with `==`: a bound that allows for a slow machine would be one that nothing fails.

Time may jump only where nothing is under way any more:

- Sockets. What was sent over loopback lies in a queue of the kernel's until the receiver has it, for ever so short a
  time. A byte that the loop sends to itself behind it comes out behind it.
- Threads. The loop waits for those that it has started itself (`asyncio.to_thread`, `getaddrinfo`).

Other threads and other processes are not waited for: a test that has any needs the real clock.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import socket
from asyncio import Future
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from fastbars import clocks

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_STEADY_NS = 1_000_000_000_000
START_WALL_NS = 1_723_161_240_000_000_000  # 2024-08-08 23:54:00 UTC, the beginning of a minute

_HOPS = 3  # a connection is made in three packets, each sent by the kernel on the arrival of the one before
_LOOK_S = 0.01  # real time, between two looks at whether a thread is done


class FakeClockLoop(asyncio.SelectorEventLoop):
    """A selector loop on the held clocks of `fastbars.clocks`, which it turns where it would have to wait."""

    def __init__(self) -> None:
        self.threads = 0  # at work for it
        self._now_ns = START_STEADY_NS
        self.turn(0.0)
        super().__init__(_TurningSelector(self))

    def time(self) -> float:
        """The steady clock, s."""
        return clocks.steady_s()

    def turn(self, seconds: float) -> None:
        """Set both clocks forward."""
        self._now_ns += math.ceil(seconds * 1e9)
        clocks.hold(self._now_ns, START_WALL_NS + self._now_ns - START_STEADY_NS)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> Future[T]:
        """Count the thread until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self.threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def close(self) -> None:
        """Let the clocks run again."""
        super().close()
        clocks.release()

    def _thread_ended(self, _: Future[Any]) -> None:
        self.threads -= 1


class _TurningSelector(selectors.DefaultSelector):
    def __init__(self, loop: FakeClockLoop) -> None:
        super().__init__()
        self._loop = loop
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._sender = socket.create_connection(server.getsockname())
            self._receiver, _ = server.accept()
        self._sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        for _ in range(_HOPS):
            self._sender.send(b".")
            self._receiver.recv(1)
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            return super().select(None)
        if self._loop.threads:
            return super().select(_LOOK_S)
        self._loop.turn(timeout)
        return []

    def close(self) -> None:
        super().close()
        self._sender.close()
        self._receiver.close()


class Stopwatch:
    """What passes by the steady clock from here on, to the microsecond: no timer of the library is finer."""

    def __init__(self) -> None:
        self._began_ns = clocks.steady_ns()

    @property
    def seconds(self) -> float:
        """Until now."""
        return round((clocks.steady_ns() - self._began_ns) / 1e9, 6)
