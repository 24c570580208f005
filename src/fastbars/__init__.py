"""Exact OHLCV bars, live, from every trade that exchanges send over WebSockets."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastbars.bars import BarBatch, BarStatus, CloseReason, ExchangeBar, OHLCVBar
from fastbars.batch import TickBatch
from fastbars.buffer import BarBuffer
from fastbars.errors import (
    FastbarsError,
    InvalidTickError,
    ParseError,
    PrecisionError,
    SpecError,
    SubscriptionError,
    TapeError,
    UnknownExchangeError,
    WebSocketError,
    WSConnectionError,
)
from fastbars.instruments import Instruments
from fastbars.specs import BarKind, BarSpec
from fastbars.ticks import TickData, TickSide

if TYPE_CHECKING:
    from fastbars.arrays import aggregate
    from fastbars.events import MarketDataEvent, Quote, Ticker
    from fastbars.exchanges.adapters import (
        BinanceWebSocketAdapter,
        BybitWebSocketAdapter,
        CoinbaseWebSocketAdapter,
        HyperliquidWebSocketAdapter,
        InteractiveBrokersWebSocketAdapter,
        KrakenWebSocketAdapter,
        OKXWebSocketAdapter,
    )
    from fastbars.live.adapter import BaseWebSocketAdapter
    from fastbars.live.config import StreamConfig
    from fastbars.live.exchange import Exchange
    from fastbars.live.messages import RawMessage
    from fastbars.live.states import ConnectionState
    from fastbars.live.stats import StreamStats
    from fastbars.streams import BarStream, run, stream
    from fastbars.tapes.replay import replay
    from fastbars.verification import Difference, Verification, verify

__version__ = "0.1.0"

# Live parts, and what few need, load on first use.
_LAZY = {
    "BarStream": "fastbars.streams",
    "BaseWebSocketAdapter": "fastbars.live.adapter",
    "BinanceWebSocketAdapter": "fastbars.exchanges.adapters",
    "BybitWebSocketAdapter": "fastbars.exchanges.adapters",
    "CoinbaseWebSocketAdapter": "fastbars.exchanges.adapters",
    "ConnectionState": "fastbars.live.states",
    "Difference": "fastbars.verification",
    "Exchange": "fastbars.live.exchange",
    "HyperliquidWebSocketAdapter": "fastbars.exchanges.adapters",
    "InteractiveBrokersWebSocketAdapter": "fastbars.exchanges.adapters",
    "KrakenWebSocketAdapter": "fastbars.exchanges.adapters",
    "MarketDataEvent": "fastbars.events",
    "OKXWebSocketAdapter": "fastbars.exchanges.adapters",
    "Quote": "fastbars.events",
    "RawMessage": "fastbars.live.messages",
    "StreamConfig": "fastbars.live.config",
    "StreamStats": "fastbars.live.stats",
    "Ticker": "fastbars.events",
    "Verification": "fastbars.verification",
    "aggregate": "fastbars.arrays",
    "replay": "fastbars.tapes.replay",
    "run": "fastbars.streams",
    "stream": "fastbars.streams",
    "verify": "fastbars.verification",
}

__all__ = [
    "BarBatch",
    "BarBuffer",
    "BarKind",
    "BarSpec",
    "BarStatus",
    "BarStream",
    "BaseWebSocketAdapter",
    "BinanceWebSocketAdapter",
    "BybitWebSocketAdapter",
    "CloseReason",
    "CoinbaseWebSocketAdapter",
    "ConnectionState",
    "Difference",
    "Exchange",
    "ExchangeBar",
    "FastbarsError",
    "HyperliquidWebSocketAdapter",
    "Instruments",
    "InteractiveBrokersWebSocketAdapter",
    "InvalidTickError",
    "KrakenWebSocketAdapter",
    "MarketDataEvent",
    "OHLCVBar",
    "OKXWebSocketAdapter",
    "ParseError",
    "PrecisionError",
    "Quote",
    "RawMessage",
    "SpecError",
    "StreamConfig",
    "StreamStats",
    "SubscriptionError",
    "TapeError",
    "TickBatch",
    "TickData",
    "TickSide",
    "Ticker",
    "UnknownExchangeError",
    "Verification",
    "WSConnectionError",
    "WebSocketError",
    "__version__",
    "aggregate",
    "replay",
    "run",
    "stream",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module 'fastbars' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
