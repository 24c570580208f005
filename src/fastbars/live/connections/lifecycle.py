"""Lifecycle: the task that keeps one connection up, the calls that start and end it, and the states that they lead to.

    connect()      DISCONNECTED -> CONNECTING, creates the task and waits until CONNECTED or DISCONNECTED
    the task       CONNECTING -> CONNECTED <-> RECONNECTING; where it ends by itself -> DISCONNECTED
    cancel()       -> DISCONNECTED, cancels the task; `wait_ended()` waits for its end
    close()        -> CLOSED, of what was cancelled

Who owns the task:

- The `connect` that created it. Only that call, when it is cancelled itself, cancels the task; any other `connect` or
  `reconnect` that waits for it leaves it alone.
- `cancel` takes it over, and awaits nothing: a `disconnect` that is cancelled, at whatever point, has ended the
  connection all the same.
- The task never cancels or awaits itself. A heartbeat, a watchdog, a circuit breaker or a user's `reconnect` only drops
  the socket; the task waits for that, and notices.
- A task that was cancelled may take its time to close its socket. The next one waits for that, so that there are never
  two. It is remembered until it is done, and cancelled once more by a further `cancel`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from fastbars.errors import WSConnectionError
from fastbars.live.connections.cancelled import CancelledTasks
from fastbars.live.connections.states import ConnectionState, StateMachine
from fastbars.live.secrets import hidden
from fastbars.log import log

_S = ConnectionState


class Lifecycle:
    """Starts and ends what keeps a connection up.

    Args:
        exchange: its name, for logs and errors.
        keep_connected: moves `states` between CONNECTING, CONNECTED and RECONNECTING, until it returns or raises
            WSConnectionError.
        on_start: called before each start; what it raises, `connect` raises.
        on_end: awaited when `keep_connected` has ended by itself.
        on_state: called with each new state.
        on_error: called with an unexpected error that `keep_connected` has raised; it calls `fail`.

    Attributes:
        states: the state of the connection.
        failure: why it has ended for good; None while it has not, or where the user ended it.
    """

    def __init__(
        self,
        exchange: str,
        keep_connected: Callable[[], Awaitable[None]],
        *,
        on_start: Callable[[], object],
        on_end: Callable[[], Awaitable[None]],
        on_state: Callable[[ConnectionState], object],
        on_error: Callable[[Exception], object],
    ) -> None:
        self.states = StateMachine(on_state)
        self.failure: WSConnectionError | None = None
        self._exchange = exchange
        self._keep_connected = keep_connected
        self._on_start = on_start
        self._on_end = on_end
        self._on_error = on_error
        self._task: asyncio.Task[None] | None = None
        self._cancelled = CancelledTasks()

    @property
    def is_running(self) -> bool:
        """Whether the task is running."""
        return self._task is not None and not self._task.done()

    async def connect(self) -> None:
        """Start, and wait until it is up; it stays up until `cancel`. Where it is started already, only wait.

        Raises:
            WSConnectionError: the first attempt failed, or `close` was called.
        """
        if self.states.state is _S.CLOSED:
            raise WSConnectionError(f"{self._exchange}: the connection was closed for good")
        starts = not self.is_running
        if starts:
            self.failure = None
            self._on_start()
            self._task = asyncio.create_task(
                self._supervise(self._cancelled.pending), name=f"fastbars {self._exchange}"
            )
            self.states.move_to(_S.CONNECTING)
        try:
            await self._settled()
        except asyncio.CancelledError:
            if starts:  # only the call that started the connection cancels it
                self.cancel()
                await self.wait_ended()
            raise
        self.raise_failure()

    def cancel(self) -> None:
        """End it: it is DISCONNECTED from here on. Idempotent."""
        task, self._task = self._task, None
        self._cancelled.cancel(task)
        self.states.move_to(_S.DISCONNECTED)

    async def wait_ended(self) -> None:
        """Wait until every task that was cancelled has ended."""
        await self._cancelled.wait_ended()

    def close(self) -> None:
        """Close it for good: it can no longer be started."""
        self.states.move_to(_S.CLOSED)

    async def reconnect(self, drop: Callable[[], object]) -> None:
        """Have the connection dropped, and wait until there is a new one; or connect where nothing is under way.

        Raises:
            WSConnectionError: as `connect`; or it could not be brought back.
        """
        if not self.is_running:
            await self.connect()
            return
        if self.states.state is _S.CONNECTED:
            drop()
            await self.states.leave(_S.CONNECTED)
        await self._settled()
        self.raise_failure()

    async def wait_closed(self) -> None:
        """Wait until the task has ended. Raises WSConnectionError: it was lost and could not be brought back."""
        if self._task is not None:
            await asyncio.wait([self._task])
        self.raise_failure()

    def fail(self, error: Exception) -> None:
        """Record the internal error that ends it; the caller drops the socket."""
        self.failure = WSConnectionError(f"{self._exchange}: internal error: {error!r}")
        self.failure.__cause__ = hidden(error)

    def raise_failure(self) -> None:
        """Raises WSConnectionError where it has ended for good, or is about to."""
        if self.failure is not None:
            raise self.failure

    async def _settled(self) -> None:
        await self.states.leave(_S.CONNECTING, _S.RECONNECTING)

    async def _supervise(self, earlier: Sequence[asyncio.Task[None]]) -> None:
        try:
            if earlier:  # one connection ends before the next begins
                await asyncio.wait(earlier)
            await self._keep_connected()
        except asyncio.CancelledError:
            raise  # `cancel` has set the state already, and a new `connect` may have set another
        except WSConnectionError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001 a task's top: it logs and stops loudly
            log.exception("supervisor_failed", exchange=self._exchange)
            self._on_error(error)
        await self._on_end()
        self.states.move_to(_S.DISCONNECTED)
