"""Binance's dialect, the incoming half: what a client asks for, and the replies to it.

A request that is not understood is refused by `{"code","msg"[,"id"]}`. Names are not looked at: Binance acknowledges
any.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams (live subscribing)
Units: none.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

__all__ = [
    "MAX_STREAMS",
    "Command",
    "RefusalError",
    "acknowledge",
    "parse_command",
    "parse_path",
]

MAX_STREAMS = 1024  # a connection

_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS")
_INVALID_REQUEST = 2
_INVALID_JSON = 3

CommandId = int | str | None


@dataclass(frozen=True)
class Command:
    """A request that was understood: its method, the stream names, and the id to answer with."""

    method: str
    streams: tuple[str, ...]
    id: CommandId


class RefusalError(Exception):
    """A request is refused; `reply` is the message that says so to the client."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply

    @classmethod
    def of_request(cls, text: str, code: int = _INVALID_REQUEST, **known_id: CommandId) -> RefusalError:
        """The request is not understood; give `id=` where it could be read."""
        return cls(orjson.dumps({"code": code, "msg": text, **known_id}))


def acknowledge(command: Command, result: list[str] | None = None) -> bytes:
    """Write the reply to a command that was carried out."""
    return orjson.dumps({"result": result, "id": command.id})


def parse_command(message: str | bytes) -> Command:
    """Read what a client sent.

    Raises:
        RefusalError: it is no JSON object, has an id that is no unsigned integer, text or null, an unknown
            method, or params that are not a list of stream names.
    """
    try:
        request = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        raise RefusalError.of_request(
            f"Invalid JSON: {error.msg} at column {error.colno}", code=_INVALID_JSON
        ) from None
    if not isinstance(request, dict):
        raise RefusalError.of_request("Invalid request: not a JSON object")
    command_id = request.get("id")
    is_number = isinstance(command_id, int) and not isinstance(command_id, bool) and command_id >= 0
    if not (command_id is None or is_number or isinstance(command_id, str)):
        raise RefusalError.of_request("Invalid request: id is neither an unsigned integer nor a text")
    method = request.get("method")
    if method not in _METHODS:
        raise RefusalError.of_request(
            f"Invalid request: method {method!r} is none of {', '.join(_METHODS)}", id=command_id
        )
    if method == "LIST_SUBSCRIPTIONS":
        return Command(method, (), command_id)
    params = request.get("params")
    if not isinstance(params, list) or not params or not all(isinstance(name, str) for name in params):
        raise RefusalError.of_request("Invalid request: params is not a list of stream names", id=command_id)
    return Command(method, tuple(params), command_id)


def parse_path(path: str) -> tuple[bool, tuple[str, ...]] | None:
    """Read a request path such as "/ws/btcusdt@trade" or "/stream?streams=btcusdt@trade/ethusdt@trade".

    Returns:
        Whether messages are wrapped, and the stream names; None for a path that the exchange does not have.
    """
    path, _, query = path.partition("?")
    root, _, rest = path.strip("/").partition("/")
    if root == "ws":
        return False, tuple(name for name in rest.split("/") if name)
    if root == "stream" and not rest:
        for parameter in query.split("&"):
            key, _, value = parameter.partition("=")
            if key == "streams":
                return True, tuple(name for name in value.replace("%40", "@").split("/") if name)
        return True, ()
    return None
