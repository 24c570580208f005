"""The states of a connection, and the table of legal transitions between them.

    DISCONNECTED -> CONNECTING -> CONNECTED <-> RECONNECTING        any of them -> CLOSED
         ^               |            |             |
         +---------------+------------+-------------+

DISCONNECTED is where a connection begins, and where `disconnect()`, a failed first attempt or giving up leave it:
`connect()` starts it again. CLOSED, after `close()`, is for good.
"""

from __future__ import annotations

from enum import StrEnum

from fastbars.errors import WebSocketError


class ConnectionState(StrEnum):
    """Where a connection stands."""

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
    # the connection was lost, or reconnect() was called | disconnect() was called, or the server was done
    _S.CONNECTED: frozenset({_S.RECONNECTING, _S.DISCONNECTED, _S.CLOSED}),
    # an attempt succeeded | no attempts are left, trying again makes no sense, or disconnect() was called
    _S.RECONNECTING: frozenset({_S.CONNECTED, _S.DISCONNECTED, _S.CLOSED}),
    # nothing leads out of here
    _S.CLOSED: frozenset(),
}


def check_transition(old: ConnectionState, new: ConnectionState) -> None:
    """Raises WebSocketError for a transition that the table does not know."""
    if new not in TRANSITIONS[old]:
        raise WebSocketError(f"a connection does not go from {old} to {new}")
