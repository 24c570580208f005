"""The states of a connection, and the table of legal transitions between them."""

from __future__ import annotations

from enum import StrEnum

from fastbars.errors import WebSocketError


class ConnectionState(StrEnum):
    """Where a connection stands."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"


_S = ConnectionState
TRANSITIONS: dict[ConnectionState, frozenset[ConnectionState]] = {
    # connect() was called
    _S.DISCONNECTED: frozenset({_S.CONNECTING}),
    # the handshake succeeded | it failed, or disconnect() was called
    _S.CONNECTING: frozenset({_S.CONNECTED, _S.DISCONNECTED}),
    # the connection was lost, or reconnect() was called | disconnect() was called, or the server was done
    _S.CONNECTED: frozenset({_S.RECONNECTING, _S.DISCONNECTED}),
    # an attempt succeeded | no attempts are left, or disconnect() was called
    _S.RECONNECTING: frozenset({_S.CONNECTED, _S.DISCONNECTED}),
}


def check_transition(old: ConnectionState, new: ConnectionState) -> None:
    """Raises WebSocketError for a transition that the table does not know."""
    if new not in TRANSITIONS[old]:
        raise WebSocketError(f"a connection does not go from {old} to {new}")
