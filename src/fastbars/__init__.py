"""Exact OHLCV bars, live, from every trade that exchanges send over WebSockets."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastbars.bar_stream import BarStream
    from fastbars.bars import BarStatus, CloseReason, ExchangeBar, OHLCVBar
    from fastbars.buffer import BarBuffer
    from fastbars.columnar.arrays import aggregate
    from fastbars.columnar.bar_batch import BarBatch
    from fastbars.columnar.resample import resample
    from fastbars.differences import Difference
    from fastbars.errors import (
        FastbarsError,
        HistoryError,
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
    from fastbars.events import MarketDataEvent, Quote, Ticker
    from fastbars.exchanges.declaration import Exchange
    from fastbars.exchanges.instruments import Instrument, Where, where
    from fastbars.exchanges.messages import RawMessage
    from fastbars.instrument_table import InstrumentTable, instruments
    from fastbars.kernel.batch import TickBatch
    from fastbars.kernel.instruments import Instruments
    from fastbars.live.adapters import (
        BinanceWebSocketAdapter,
        BybitWebSocketAdapter,
        CoinbaseWebSocketAdapter,
        DeribitWebSocketAdapter,
        HyperliquidWebSocketAdapter,
        InteractiveBrokersWebSocketAdapter,
        KrakenWebSocketAdapter,
        OKXWebSocketAdapter,
    )
    from fastbars.live.config import StreamConfig
    from fastbars.live.connections.adapter import BaseWebSocketAdapter
    from fastbars.live.connections.states import ConnectionState
    from fastbars.live.stats import StreamStats
    from fastbars.live.universe import SymbolChange, UniverseStats
    from fastbars.past_bars import PastBars, history
    from fastbars.specs import BarKind, BarSpec
    from fastbars.streams import run, stream
    from fastbars.tapes.replay import replay
    from fastbars.ticks import TickData, TickSide
    from fastbars.venue_streams import VenueStreams
    from fastbars.verification import Verification, verify

__version__ = "0.2.0"

# Everything loads on first use: the command need not wait for numpy, nor arrays for what is live.
_MODULE_OF = {
    "BarBatch": "fastbars.columnar.bar_batch",
    "BarBuffer": "fastbars.buffer",
    "BarKind": "fastbars.specs",
    "BarSpec": "fastbars.specs",
    "BarStatus": "fastbars.bars",
    "BarStream": "fastbars.bar_stream",
    "BaseWebSocketAdapter": "fastbars.live.connections.adapter",
    "BinanceWebSocketAdapter": "fastbars.live.adapters",
    "BybitWebSocketAdapter": "fastbars.live.adapters",
    "CloseReason": "fastbars.bars",
    "CoinbaseWebSocketAdapter": "fastbars.live.adapters",
    "DeribitWebSocketAdapter": "fastbars.live.adapters",
    "ConnectionState": "fastbars.live.connections.states",
    "Difference": "fastbars.differences",
    "Exchange": "fastbars.exchanges.declaration",
    "ExchangeBar": "fastbars.bars",
    "FastbarsError": "fastbars.errors",
    "HistoryError": "fastbars.errors",
    "HyperliquidWebSocketAdapter": "fastbars.live.adapters",
    "Instrument": "fastbars.exchanges.instruments",
    "InstrumentTable": "fastbars.instrument_table",
    "Instruments": "fastbars.kernel.instruments",
    "InteractiveBrokersWebSocketAdapter": "fastbars.live.adapters",
    "InvalidTickError": "fastbars.errors",
    "KrakenWebSocketAdapter": "fastbars.live.adapters",
    "MarketDataEvent": "fastbars.events",
    "OHLCVBar": "fastbars.bars",
    "OKXWebSocketAdapter": "fastbars.live.adapters",
    "ParseError": "fastbars.errors",
    "PastBars": "fastbars.past_bars",
    "PrecisionError": "fastbars.errors",
    "Quote": "fastbars.events",
    "RawMessage": "fastbars.exchanges.messages",
    "SpecError": "fastbars.errors",
    "StreamConfig": "fastbars.live.config",
    "StreamStats": "fastbars.live.stats",
    "SubscriptionError": "fastbars.errors",
    "SymbolChange": "fastbars.live.universe",
    "TapeError": "fastbars.errors",
    "TickBatch": "fastbars.kernel.batch",
    "TickData": "fastbars.ticks",
    "TickSide": "fastbars.ticks",
    "Ticker": "fastbars.events",
    "UniverseStats": "fastbars.live.universe",
    "UnknownExchangeError": "fastbars.errors",
    "VenueStreams": "fastbars.venue_streams",
    "Verification": "fastbars.verification",
    "WSConnectionError": "fastbars.errors",
    "WebSocketError": "fastbars.errors",
    "Where": "fastbars.exchanges.instruments",
    "aggregate": "fastbars.columnar.arrays",
    "instruments": "fastbars.instrument_table",
    "history": "fastbars.past_bars",
    "read": "fastbars.sinks.reading",
    "replay": "fastbars.tapes.replay",
    "resample": "fastbars.columnar.resample",
    "run": "fastbars.streams",
    "stream": "fastbars.streams",
    "verify": "fastbars.verification",
    "where": "fastbars.exchanges.instruments",
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
    "DeribitWebSocketAdapter",
    "Difference",
    "Exchange",
    "ExchangeBar",
    "FastbarsError",
    "HistoryError",
    "HyperliquidWebSocketAdapter",
    "Instrument",
    "InstrumentTable",
    "Instruments",
    "InteractiveBrokersWebSocketAdapter",
    "InvalidTickError",
    "KrakenWebSocketAdapter",
    "MarketDataEvent",
    "OHLCVBar",
    "OKXWebSocketAdapter",
    "ParseError",
    "PastBars",
    "PrecisionError",
    "Quote",
    "RawMessage",
    "SpecError",
    "StreamConfig",
    "StreamStats",
    "SubscriptionError",
    "SymbolChange",
    "TapeError",
    "TickBatch",
    "TickData",
    "TickSide",
    "Ticker",
    "UniverseStats",
    "UnknownExchangeError",
    "VenueStreams",
    "Verification",
    "WSConnectionError",
    "WebSocketError",
    "Where",
    "__version__",
    "aggregate",
    "history",
    "instruments",
    "read",
    "replay",
    "resample",
    "run",
    "stream",
    "verify",
    "where",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
        return value
    if name == "archives" or f"fastbars.{name}" in _MODULE_OF.values():
        return import_module(f"fastbars.{name}")  # `fastbars.errors`, without an import of its own
    raise AttributeError(f"module 'fastbars' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
