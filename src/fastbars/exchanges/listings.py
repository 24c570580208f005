"""What the exchanges' REST APIs say of their instruments, for the check of symbols at subscription.

Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/general-endpoints,
https://developers.binance.com/docs/derivatives, https://bybit-exchange.github.io/docs/v5/market/instrument,
https://www.okx.com/docs-v5/en/#public-data-rest-api-get-instruments,
https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis, https://docs.kraken.com/api/docs/rest-api,
https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint
"""

from __future__ import annotations

from typing import Any

from fastbars.exchanges.listing import Listed, Listing, Question
from fastbars.exchanges.rest import BINANCE_FUTURES_BUDGET, KRAKEN_NAMES

_HALTED, _DELISTED, _NOT_YET = "halted", "delisted", "not trading yet"

# Binance: {"timezone":"UTC",...,"symbols":[{"symbol":"ETHBTC","status":"TRADING",...}]}; COIN-M with "contractStatus"
_BINANCE_STOPPED = {
    "HALT": _HALTED, "BREAK": _HALTED, "TRADING_HALT": _HALTED, "TRADING_CANCEL_ONLY": _HALTED, "END_OF_DAY": _HALTED,
    "POST_TRADING": _HALTED, "PRE_TRADING": _NOT_YET, "AUCTION_MATCH": _HALTED, "PENDING_TRADING": _NOT_YET,
    "DELIVERING": _DELISTED, "DELIVERED": _DELISTED, "SETTLING": _DELISTED, "CLOSE": _DELISTED,
}  # fmt: skip


def _binance_one(one: Any) -> Listed:
    return Listed(one["symbol"], str(one.get("status") or one.get("contractStatus")))


def _binance(url: str, path: str, *questions: Question, weight: float, a_minute: float, budget: str = "") -> Listing:
    return Listing(
        url, path, ("symbols",), _binance_one, _BINANCE_STOPPED, weight, a_minute, questions or (Question(),),
        budget=budget,
    )  # fmt: skip


BINANCE_SPOT = _binance(
    "https://api.binance.com", "/api/v3/exchangeInfo", Question({"showPermissionSets": "false"}),
    weight=20.0, a_minute=6000.0,
)  # fmt: skip
BINANCE_US = _binance("https://api.binance.us", "/api/v3/exchangeInfo", weight=20.0, a_minute=6000.0)
BINANCE_USDM = _binance(
    "https://fapi.binance.com", "/fapi/v1/exchangeInfo", weight=1.0, a_minute=2400.0, budget=BINANCE_FUTURES_BUDGET
)
BINANCE_COINM = _binance(
    "https://dapi.binance.com", "/dapi/v1/exchangeInfo", weight=1.0, a_minute=2400.0, budget=BINANCE_FUTURES_BUDGET
)


# Bybit: {"retCode":0,"retMsg":"OK","result":{"category":"linear","list":[{"symbol":"BTCUSDT","status":"Trading",...}],
#  "nextPageCursor":""}}; without `status` those that trade or are about to
def _bybit_failed(rest: Any) -> str | None:
    return None if rest["retCode"] == 0 else f"{rest.get('retMsg')} (code {rest['retCode']})"


def bybit(category: str) -> Listing:
    """The listing of "spot", "linear" or "inverse"."""
    return Listing(
        "https://api.bybit.com", "/v5/market/instruments-info", ("result", "list"),
        lambda one: Listed(one["symbol"], one["status"]),
        {"PreLaunch": _NOT_YET, "PendingOpen": _NOT_YET, "Settling": _DELISTED, "Delivering": _DELISTED,
         "Closed": _DELISTED},
        weight=1.0, weight_per_minute=7200.0, failed=_bybit_failed,
        # On spot there is one page, whatever is asked for.
        questions=(Question({"category": category, "limit": "1000"}),), cursor=("cursor", ("result", "nextPageCursor")),
    )  # fmt: skip


# OKX: {"code":"0","msg":"","data":[{"instType":"SWAP","instId":"BTC-USDT-SWAP","state":"live",...}]}
def _okx_failed(rest: Any) -> str | None:
    return None if rest["code"] == "0" else f"{rest.get('msg')} (code {rest['code']})"


def _is_okx_spot(symbol: str) -> bool:
    return symbol.count("-") < 2  # "BTC-USDT"


def _is_okx_swap(symbol: str) -> bool:
    return symbol.endswith("-SWAP")


def _is_okx_future(symbol: str) -> bool:
    return symbol.count("-") == 2 and not _is_okx_swap(symbol)  # "BTC-USD-261225"


OKX = Listing(
    "https://www.okx.com", "/api/v5/public/instruments", ("data",), lambda one: Listed(one["instId"], one["state"]),
    {"suspend": _HALTED, "rebase": _HALTED, "preopen": _NOT_YET, "test": _NOT_YET, "expired": _DELISTED},
    weight=1.0, weight_per_minute=600.0, failed=_okx_failed,
    questions=(  # options are listed by what they are of
        Question({"instType": "SPOT"}, covers=_is_okx_spot),
        Question({"instType": "SWAP"}, covers=_is_okx_swap),
        Question({"instType": "FUTURES"}, covers=_is_okx_future),
    ),
)  # fmt: skip


# Coinbase: {"products":[{"product_id":"BTC-USDC","status":"online","is_disabled":false,"trading_disabled":false,
#  "cancel_only":false,"view_only":false,"auction_mode":false,"alias":"BTC-USD",...}],"num_products":1}
def _coinbase_one(one: Any) -> Listed:
    flags = ("is_disabled", "trading_disabled", "cancel_only")
    status = next((flag for flag in flags if one.get(flag) is True), None) or str(one.get("status") or "online")
    return Listed(one["product_id"], status, one.get("alias") or None)


COINBASE = Listing(
    "https://api.coinbase.com", "/api/v3/brokerage/market/products", ("products",), _coinbase_one,
    {"is_disabled": _DELISTED, "trading_disabled": _HALTED, "cancel_only": _HALTED, "offline": _HALTED,
     "delisted": _DELISTED},
    weight=1.0, weight_per_minute=600.0,
)  # fmt: skip

# Kraken: {"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","status":"online",...}}}
_KRAKEN_STREAMS = {old: new for new, old in KRAKEN_NAMES.items()}


def _kraken_one(one: Any) -> Listed | None:
    name = one.get("wsname")  # dark pools have none
    return name and Listed("/".join(_KRAKEN_STREAMS.get(asset, asset) for asset in name.split("/")), one["status"])


def _is_kraken_currency(symbol: str) -> bool:
    return symbol == symbol.upper()  # "AAPLx/USD", a tokenised stock, is not listed unless it is asked for


KRAKEN = Listing(
    "https://api.kraken.com", "/0/public/AssetPairs", ("result",), _kraken_one,
    {"cancel_only": _HALTED, "post_only": _HALTED, "maintenance": _HALTED, "delisted": _DELISTED},
    weight=1.0, weight_per_minute=60.0, failed=lambda rest: str(rest["error"]) if rest["error"] else None,
    questions=(Question(covers=_is_kraken_currency),),
)  # fmt: skip


def _is_hyperliquid_spot(symbol: str) -> bool:
    return "/" in symbol or symbol.startswith("@")  # "PURR/USDC", "@107"


def _is_hyperliquid_perpetual(symbol: str) -> bool:
    return ":" not in symbol and not _is_hyperliquid_spot(symbol)  # "dex:COIN" is of an exchange built on it


# Hyperliquid: {"universe":[{"name":"BTC","szDecimals":5,"maxLeverage":40,"isDelisted":true}],...} of "meta", and
# {"tokens":[...],"universe":[{"name":"PURR/USDC","tokens":[1,0],"index":0,"isCanonical":true}]} of "spotMeta"
HYPERLIQUID = Listing(
    "https://api.hyperliquid.xyz", "/info", ("universe",),
    lambda one: Listed(one["name"], "isDelisted" if one.get("isDelisted") is True else "listed"),
    {"isDelisted": _DELISTED},
    weight=20.0, weight_per_minute=1200.0,
    questions=(
        Question(body=b'{"type":"meta"}', covers=_is_hyperliquid_perpetual),
        Question(body=b'{"type":"spotMeta"}', covers=_is_hyperliquid_spot),
    ),
)  # fmt: skip
