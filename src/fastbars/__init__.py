"""Exact OHLCV bars, live, from every trade that exchanges send over WebSockets."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastbars.bars import BarStatus, CloseReason, ExchangeBar, OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.columnar.bar_batch import BarBatch
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
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.instruments import Instruments
from fastbars.specs import BarKind, BarSpec
from fastbars.ticks import TickData, TickSide

if TYPE_CHECKING:
    from fastbars.columnar.arrays import aggregate
    from fastbars.events import MarketDataEvent, Quote, Ticker
    from fastbars.exchanges.declaration import Exchange
    from fastbars.exchanges.messages import RawMessage
    from fastbars.live.adapters import (
        BinanceWebSocketAdapter,
        BybitWebSocketAdapter,
        CoinbaseWebSocketAdapter,
        HyperliquidWebSocketAdapter,
        InteractiveBrokersWebSocketAdapter,
        KrakenWebSocketAdapter,
        OKXWebSocketAdapter,
    )
    from fastbars.live.config import StreamConfig
    from fastbars.live.connections.adapter import BaseWebSocketAdapter
    from fastbars.live.connections.states import ConnectionState
    from fastbars.live.stats import StreamStats
    from fastbars.streams import BarStream, run, stream
    from fastbars.tapes.replay import replay
    from fastbars.verification import Difference, Verification, verify

__version__ = "0.1.0"

# Live parts, and what few need, load on first use.
_LAZY = {
    "BarStream": "fastbars.streams",
    "BaseWebSocketAdapter": "fastbars.live.connections.adapter",
    "BinanceWebSocketAdapter": "fastbars.live.adapters",
    "BybitWebSocketAdapter": "fastbars.live.adapters",
    "CoinbaseWebSocketAdapter": "fastbars.live.adapters",
    "ConnectionState": "fastbars.live.connections.states",
    "Difference": "fastbars.verification",
    "Exchange": "fastbars.exchanges.declaration",
    "HyperliquidWebSocketAdapter": "fastbars.live.adapters",
    "InteractiveBrokersWebSocketAdapter": "fastbars.live.adapters",
    "KrakenWebSocketAdapter": "fastbars.live.adapters",
    "MarketDataEvent": "fastbars.events",
    "OKXWebSocketAdapter": "fastbars.live.adapters",
    "Quote": "fastbars.events",
    "RawMessage": "fastbars.exchanges.messages",
    "StreamConfig": "fastbars.live.config",
    "StreamStats": "fastbars.live.stats",
    "Ticker": "fastbars.events",
    "Verification": "fastbars.verification",
    "aggregate": "fastbars.columnar.arrays",
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
