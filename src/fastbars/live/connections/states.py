"""The states of a connection, the table of legal transitions between them, and the machine that keeps to it.

    DISCONNECTED -> CONNECTING -> CONNECTED <-> RECONNECTING        any of them -> CLOSED
         ^               |            |             |
         +---------------+------------+-------------+

DISCONNECTED is where a connection begins, and where `disconnect()`, a failed first attempt or giving up leave it:
`connect()` starts it again. CLOSED, after `close()`, is for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum

from fastbars.errors import WebSocketError


class ConnectionState(StrEnum):
    """The state of a connection."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


_S = ConnectionState
TRANSITIONS: dict[ConnectionState, frozenset[ConnectionState]] = {
    # connect() was called | close() was called, here and below
    _S.DISCONNECTED: frozenset({_S.CONNECTING, _S.CLOSED}),
    # the handshake succeeded | it failed, or disconnect() was called
    _S.CONNECTING: frozenset({_S.CONNECTED, _S.DISCONNECTED, _S.CLOSED}),
    # the connection was lost, or reconnect() was called | disconnect() was called, or the server closed normally (once)
    _S.CONNECTED: frozenset({_S.RECONNECTING, _S.DISCONNECTED, _S.CLOSED}),
    # an attempt succeeded | no attempts are left, the error is permanent, or disconnect() was called
    _S.RECONNECTING: frozenset({_S.CONNECTED, _S.DISCONNECTED, _S.CLOSED}),
    # nothing leads out of here
    _S.CLOSED: frozenset(),
}


def check_transition(old: ConnectionState, new: ConnectionState) -> None:
    """Raises WebSocketError for a transition that the table does not have."""
    if new not in TRANSITIONS[old]:
        raise WebSocketError(f"illegal transition {old} -> {new}")


class StateMachine:
    """The state of one connection, which changes along the table alone.

    Args:
        on_change: called with each new state, after the change.
    """

    def __init__(self, on_change: Callable[[ConnectionState], object]) -> None:
        self.state = ConnectionState.DISCONNECTED
        self._on_change = on_change
        self._changed = asyncio.Event()

    def move_to(self, state: ConnectionState) -> None:
        """Change the state; nothing happens where it is that one already, or CLOSED.

        Tasks that are still ending report so after `close()`: that is no error.

        Raises:
            WebSocketError: the table does not have this transition.
        """
        if state is self.state or self.state is ConnectionState.CLOSED:
            return
        check_transition(self.state, state)
        self.state = state
        # An event of its own for each change: even a state that is left in the same turn of the loop wakes its waiters.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._on_change(state)

    async def leave(self, *states: ConnectionState) -> None:
        """Wait while it is in one of these states."""
        while self.state in states:
            await self._changed.wait()
