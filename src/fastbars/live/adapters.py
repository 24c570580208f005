"""One adapter class for each exchange, for code that names classes instead of exchanges."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypedDict, Unpack

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.errors import WebSocketError
from fastbars.events import MarketDataEvent
from fastbars.exchanges import find_exchange
from fastbars.exchanges.messages import RawMessage
from fastbars.live.callbacks import Callbacks
from fastbars.live.config import StreamConfig
from fastbars.live.connections.adapter import BaseWebSocketAdapter
from fastbars.live.connections.states import ConnectionState
from fastbars.live.journal import OpenRecorder
from fastbars.ticks import TickData

__all__ = [
    "BinanceWebSocketAdapter",
    "BybitWebSocketAdapter",
    "CoinbaseWebSocketAdapter",
    "DeribitWebSocketAdapter",
    "HyperliquidWebSocketAdapter",
    "InteractiveBrokersWebSocketAdapter",
    "KrakenWebSocketAdapter",
    "OKXWebSocketAdapter",
]


class AdapterOptions(TypedDict, total=False):
    """Options of every adapter besides config, on_tick and market; see BaseWebSocketAdapter."""

    on_bar: Callable[[OHLCVBar], object] | None
    on_bars: Callable[[list[OHLCVBar]], object] | None
    on_late: Callable[[TickData], object] | None
    on_exchange_bar: Callable[[ExchangeBar], object] | None
    on_event: Callable[[MarketDataEvent], object] | None
    on_message: Callable[[RawMessage], object] | None
    on_state: Callable[[ConnectionState], object] | None
    on_error: Callable[[WebSocketError], object] | None
    url: str | None
    channel: str | None
    once: bool
    record: OpenRecorder | None
    callbacks: Callbacks | None


class _NamedAdapter(BaseWebSocketAdapter):
    exchange_name: ClassVar[str]

    def __init__(
        self,
        config: StreamConfig | None = None,
        on_tick: Callable[[TickData], object] | None = None,
        *,
        market: str | None = None,
        **options: Unpack[AdapterOptions],
    ) -> None:
        super().__init__(find_exchange(self.exchange_name, market), config, on_tick, **options)


class BinanceWebSocketAdapter(_NamedAdapter):
    """A live connection to Binance; `market` is spot, usdm, coinm or us, the rest as in BaseWebSocketAdapter."""

    exchange_name = "binance"


class BybitWebSocketAdapter(_NamedAdapter):
    """A live connection to Bybit; `market` is spot, linear or inverse, or these in a region, such as linear@tr.

    The rest as in BaseWebSocketAdapter.
    """

    exchange_name = "bybit"


class CoinbaseWebSocketAdapter(_NamedAdapter):
    """A live connection to Coinbase Advanced; the rest as in BaseWebSocketAdapter."""

    exchange_name = "coinbase"


class DeribitWebSocketAdapter(_NamedAdapter):
    """A live connection to Deribit; `market` is inverse, linear, option or spot.

    The rest as in BaseWebSocketAdapter.
    """

    exchange_name = "deribit"


class HyperliquidWebSocketAdapter(_NamedAdapter):
    """A live connection to Hyperliquid; the rest as in BaseWebSocketAdapter."""

    exchange_name = "hyperliquid"


class InteractiveBrokersWebSocketAdapter(_NamedAdapter):
    """A live connection to a Client Portal Gateway; the rest as in BaseWebSocketAdapter."""

    exchange_name = "interactive_brokers"


class KrakenWebSocketAdapter(_NamedAdapter):
    """A live connection to Kraken; the rest as in BaseWebSocketAdapter."""

    exchange_name = "kraken"


class OKXWebSocketAdapter(_NamedAdapter):
    """A live connection to OKX; `market` is spot or derivatives, or these in a region, such as spot@eea.

    The rest as in BaseWebSocketAdapter.
    """

    exchange_name = "okx"
