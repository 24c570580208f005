"""The channels of the exchanges' own candles: bar spec -> channel, of those cut like ours (UTC, aligned to the epoch).

Sources: the pages that each exchange file names as its docs.
"""

from __future__ import annotations

_COMMON = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h")
_BINANCE = {spec: f"kline_{spec}" for spec in (*_COMMON, "6h", "8h", "12h", "1d", "1w")} | {"1mo": "kline_1M"}
_MINUTES = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "12h": 720}

BINANCE_SPOT = {"1s": "kline_1s", **_BINANCE}
BINANCE_FUTURES = _BINANCE
BYBIT = {spec: f"kline.{minutes}" for spec, minutes in _MINUTES.items()} | {
    "1d": "kline.D",
    "1w": "kline.W",
    "1mo": "kline.M",
}
COINBASE = {"5m": "candles"}
HYPERLIQUID = {spec: f"candle_{spec}" for spec in (*_COMMON, "8h", "12h", "1d")}
KRAKEN = {spec: f"ohlc_{_MINUTES[spec]}" for spec in ("1m", "5m", "15m", "30m", "1h", "4h")} | {"1d": "ohlc_1440"}
# Its 6h and longer candles are cut in UTC+8 unless the channel says utc.
OKX = {spec: f"candle{spec.replace('h', 'H')}" for spec in _COMMON} | {"1d": "candle1Dutc"}
