"""Find out which stream a recorded Binance message belongs to, so that a tape can be served by subscription.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
Units: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from fastbars.errors import TapeError
from fastbars.tapes import read_tapes

__all__ = ["stream_of", "streams_in"]

_COMBINED_PREFIX = b'{"stream":"'
_CHANNEL_OF_EVENT = {
    "trade": "trade",
    "aggTrade": "aggTrade",
    "24hrTicker": "ticker",
    "24hrMiniTicker": "miniTicker",
    "bookTicker": "bookTicker",
    "depthUpdate": "depth",
    "markPriceUpdate": "markPrice",
}


def stream_of(payload: bytes) -> str | None:
    """Return the stream that a message came from; None for replies and whatever else is no stream's message.

    Combined messages name it. Bare ones tell symbol and event; a depth's update speed is lost there.
    """
    if payload.startswith(_COMBINED_PREFIX):
        end = payload.find(b'"', len(_COMBINED_PREFIX))
        if end > 0:
            return payload[len(_COMBINED_PREFIX) : end].decode("utf-8", "replace")
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(message, dict):
        return None
    if isinstance(message.get("stream"), str):
        return str(message["stream"])
    channel = _channel_of(message)
    symbol = message.get("s")
    return f"{symbol.lower()}@{channel}" if channel and isinstance(symbol, str) else None


def _channel_of(message: dict[str, Any]) -> str | None:
    event = message.get("e")
    if event == "kline":
        kline = message.get("k")
        return f"kline_{kline['i']}" if isinstance(kline, dict) and "i" in kline else None
    if event is None and message.keys() >= {"u", "b", "B", "a", "A"}:  # spot's bookTicker names no event
        return "bookTicker"
    return _CHANNEL_OF_EVENT.get(event) if isinstance(event, str) else None


def streams_in(tapes: Iterable[str | Path]) -> Sequence[str]:
    """Read tapes through once and list their streams, in the order of their first messages.

    Raises:
        TapeError: a tape cannot be read to its end, or there is no message of a Binance stream in any.
    """
    paths = list(tapes)
    names = dict.fromkeys(stream_of(record.payload) for record in read_tapes(paths))
    names.pop(None, None)
    if not names:
        raise TapeError(f"{', '.join(map(str, paths))}: no message of a Binance stream")
    return [name for name in names if name is not None]
