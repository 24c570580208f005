"""The formats of trade archives: what their columns mean, and which of them a file has.

A format is a declaration. `recognise` finds it by the header of a file, or else by its name and the width of its
first row, and takes symbol, market and period from its name.

Source: the `source` of each format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from unicodedata import normalize
from urllib.parse import unquote

from fastbars.archives.declaration import ArchiveFile, Period, Role, TradeFormat
from fastbars.archives.named import named_format
from fastbars.archives.opening import Head, head_of
from fastbars.errors import FastbarsError, TapeError
from fastbars.id_policy import IdPolicy, Ids
from fastbars.times import TimeUnit

__all__ = ["FORMATS", "ArchiveFile", "Period", "Role", "TradeFormat", "is_header", "recognise"]


_T = Role
# "is_buyer_maker": the buyer's order was in the book, so the taker sold.
_MAKER = {"true": -1, "false": 1, "1": -1, "0": 1}
_TAKER = {"buy": 1, "sell": -1}
_BINANCE_TRADES = {
    "id": _T.TRADE_ID, "tradeid": _T.TRADE_ID, "price": _T.PRICE, "qty": _T.SIZE, "quantity": _T.SIZE,
    "time": _T.TIME, "isbuyermaker": _T.SIDE,
}  # fmt: skip
_BINANCE_AGGREGATED = {
    "price": _T.PRICE, "quantity": _T.SIZE, "firsttradeid": _T.FIRST_ID, "lasttradeid": _T.LAST_ID,
    "transacttime": _T.TIME, "timestamp": _T.TIME, "isbuyermaker": _T.SIDE, "wasthebuyerthemaker": _T.SIDE,
}  # fmt: skip
_BINANCE_SOURCE = "https://github.com/binance/binance-public-data"

BINANCE_TRADES = TradeFormat(
    "Binance trades", "binance", "trades",
    (_T.TRADE_ID, _T.PRICE, _T.SIZE, _T.UNUSED, _T.TIME, _T.SIDE),
    _BINANCE_TRADES, ("ms", "us"), "contiguous", _MAKER, _BINANCE_SOURCE,
)  # fmt: skip
BINANCE_AGGREGATED = TradeFormat(
    "Binance aggTrades", "binance", "aggTrades",
    (_T.UNUSED, _T.PRICE, _T.SIZE, _T.FIRST_ID, _T.LAST_ID, _T.TIME, _T.SIDE),
    _BINANCE_AGGREGATED, ("ms", "us"), "contiguous", _MAKER, _BINANCE_SOURCE,
)  # fmt: skip
# Their ids are UUIDs, which prove nothing. Times are seconds with decimals.
BYBIT_DERIVATIVES = TradeFormat(
    "Bybit derivatives trades", "bybit", "trades", (),
    {"timestamp": _T.TIME, "symbol": _T.SYMBOL, "side": _T.SIDE, "size": _T.SIZE, "price": _T.PRICE,
     "trdmatchid": _T.UNUSED},
    ("s", "ms"), "none", _TAKER, "https://public.bybit.com/trading/",
)  # fmt: skip
# Their ids begin at 1 in each file.
BYBIT_SPOT = TradeFormat(
    "Bybit spot trades", "bybit", "trades", (),
    {"id": _T.UNUSED, "timestamp": _T.TIME, "price": _T.PRICE, "volume": _T.SIZE, "side": _T.SIDE},
    ("ms", "s"), "none", _TAKER, "https://public.bybit.com/spot/",
)  # fmt: skip
# That ids are contiguous is documented for the WebSocket channel trades-all; that these files have all trades, nowhere.
# Names of older files have a Chinese half behind a slash, in GBK.
OKX_TRADES = TradeFormat(
    "OKX trades", "okx", "trades", (),
    {"tradeid": _T.TRADE_ID, "side": _T.SIDE, "size": _T.SIZE, "price": _T.PRICE, "createdtime": _T.TIME,
     "instrumentname": _T.SYMBOL},
    ("ms",), "contiguous", _TAKER, "https://www.okx.com/historical-data",
)  # fmt: skip
# Coinbase publishes no files: these are the names of its REST API, where "side" is that of the maker.
COINBASE_TRADES = TradeFormat(
    "Coinbase trades", "coinbase", "trades", (),
    {"time": _T.TIME, "tradeid": _T.TRADE_ID, "price": _T.PRICE, "size": _T.SIZE, "side": _T.SIDE},
    ("s",), "contiguous", {"buy": -1, "sell": 1},
    "https://docs.cdp.coinbase.com/exchange/reference/exchangerestapi_getproducttrades",
)  # fmt: skip
KRAKEN_TRADES = TradeFormat(
    "Kraken time and sales", "kraken", "trades", (_T.TIME, _T.PRICE, _T.SIZE),
    {}, ("s",), "none", {},
    "https://support.kraken.com/articles/360047543791-downloadable-historical-market-data-time-and-sales-",
)  # fmt: skip
# "id" is what the exchange calls the trade, empty where it has no ids: unverifiable, but for those of TARDIS_PROVEN.
TARDIS_TRADES = TradeFormat(
    "tardis.dev trades", "", "trades", (),
    {"exchange": _T.UNUSED, "symbol": _T.SYMBOL, "timestamp": _T.TIME, "localtimestamp": _T.UNUSED, "id": _T.UNUSED,
     "side": _T.SIDE, "price": _T.PRICE, "amount": _T.SIZE},
    ("us",), "none", {**_TAKER, "unknown": 0}, "https://docs.tardis.dev/downloadable-csv-files",
)  # fmt: skip
# Exchange and market of tardis.dev's names. What is not listed keeps its name, and has no market.
TARDIS_VENUES = {
    "binance": ("binance", "spot"), "binance-futures": ("binance", "usdm"), "binance-delivery": ("binance", "coinm"),
    "bybit-spot": ("bybit", "spot"), "okex": ("okx", "spot"), "okex-swap": ("okx", "derivatives"),
    "okex-futures": ("okx", "derivatives"), "coinbase": ("coinbase", "spot"), "kraken": ("kraken", "spot"),
}  # fmt: skip
# Whose ids are the exchange's contiguous ones in these files. Of futures it is not confirmed which channel they are of.
TARDIS_PROVEN = ("binance", "coinbase")

FORMATS = {
    "binance-trades": BINANCE_TRADES, "binance-aggtrades": BINANCE_AGGREGATED, "bybit-derivatives": BYBIT_DERIVATIVES,
    "bybit-spot": BYBIT_SPOT, "okx": OKX_TRADES, "coinbase": COINBASE_TRADES, "kraken": KRAKEN_TRADES,
    "tardis": TARDIS_TRADES,
}  # fmt: skip
"""All formats by the names under which users choose one."""
# A header shows a format if it has all of these names.
_SHOWN_BY = (
    (TARDIS_TRADES, {"exchange", "symbol", "timestamp", "localtimestamp", "price", "amount"}),
    (BINANCE_AGGREGATED, {"price", "quantity", "firsttradeid", "lasttradeid"}),
    (BINANCE_TRADES, {"id", "price", "qty", "time", "isbuyermaker"}),
    (BYBIT_DERIVATIVES, {"timestamp", "symbol", "side", "size", "price", "trdmatchid"}),
    (BYBIT_SPOT, {"id", "timestamp", "price", "volume", "side"}),
    (OKX_TRADES, {"tradeid", "side", "size", "price", "createdtime"}),
)

# BTCUSDT-trades-2024-08-08.zip, BTCUSD_PERP-aggTrades-2024-08.csv, BTC-USDT-SWAP-trades-2024-08-08.zip. Whole words
# only: of "old_BTCUSDT-trades-..." the symbol is BTCUSDT.
_TRADES_NAME = re.compile(
    r"(?:^|(?<=[_.\s]))([^_.\sa-z]+(?:_(?:PERP|[0-9]{6}))?)-(trades|aggTrades|aggtrades)-([0-9]{4}-[0-9]{2}(?:-[0-9]{2})?)"
    r"(?=[-_.\s(]|$)"
)
# BTCUSDT2024-08-08.csv.gz, BTCUSDT_2024-08-08.csv.gz, BTCUSDT-2024-08.csv.gz
_DATED_NAME = re.compile(r"^([^_.\s]+?)[-_]?([0-9]{4}-[0-9]{2}(?:-[0-9]{2})?)(?=[-_.\s(]|$)")
# binance_trades_2020-01-01_BTCUSDT.csv.gz
_TARDIS_NAME = re.compile(r"_trades_([0-9]{4}-[0-9]{2}-[0-9]{2})_([^.]+)\.csv")
_FOLDERS = {"/spot/": "spot", "/futures/um/": "usdm", "/futures/cm/": "coinm"}
_COIN_MARGINED = re.compile(r"USD_(PERP|[0-9]{6})$")
_BYBIT_INVERSE = re.compile(r"USD(?:[FGHJKMNQUVXZ][0-9]{2})?$")
_DAY_NS = 86_400 * 10**9


def is_header(row: Sequence[str]) -> bool:
    """Whether no field of a row begins with a digit; a row of trades that is damaged still has others."""
    return not any(field[:1].isdigit() for field in row)


def _plain(name: str) -> str:
    return name.split("/", 1)[0].strip().lower().replace("_", "").replace(" ", "")


def recognise(
    path: str | PathLike[str],
    *,
    exchange: str | None = None,
    market: str | None = None,
    symbol: str | None = None,
    format: str | None = None,  # noqa: A002 - what users call it
    columns: Mapping[str, str] | None = None,
    time_unit: TimeUnit | None = None,
    ids: Ids | None = None,
    price_scale: int | None = None,
    size_scale: int | None = None,
) -> ArchiveFile:
    """What a file is, from its name and first rows.

    Args:
        path: the file.
        exchange, market, symbol: override what is found.
        format: one of FORMATS; None: by header, name and width of the first row.
        columns: of a file of one's own: where each of COLUMN_ROLES is, by its name in the header, such as
            {"time": "ts", "price": "px", "size": "qty"}, or, without a header, by its number from 1.
        price_scale, size_scale: of Parquet: decimals of integers, 0 by default, and those that floats are rounded to.
        time_unit: what integer times count; None: what gives a plausible date.
        ids: what the ids prove; None: what those of the format do, "contiguous" where `columns` names ids.

    Raises:
        TapeError: the file cannot be read, or its format is not known; the message names the file, and what its first
            row is. FastbarsError: `format` or `columns` has an unknown name.
    """
    path = Path(path)
    name = _name_of(path)
    head = head_of(path)
    row = head.rows[0]
    if columns is not None:
        chosen = _by_number(
            named_format(columns, time_unit=time_unit, price_scale=price_scale, size_scale=size_scale), len(row)
        )
        named_symbol = _TRADES_NAME.search(name) or _DATED_NAME.search(name)
        symbol_ = named_symbol[1] if named_symbol else None
        found = ArchiveFile(path, chosen, "", "", symbol_, _period_in(name), chosen.kind)
    elif format is not None and format not in FORMATS:
        raise FastbarsError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    else:
        found = _recognised(path, name, head, None if format is None else FORMATS[format])
    chosen = found.format
    if ids is not None:
        chosen = _with_ids(chosen, ids)
    if time_unit is not None:
        chosen = replace(chosen, units=(time_unit,))
    kept = found.symbol if symbol is None else symbol
    if _T.SYMBOL in _roles(chosen, row):
        kept = symbol if found.is_parquet else _symbol_in_rows(chosen, head, kept)
    elif not kept:
        raise TapeError(f"{path}: neither its name nor a column says of which symbol its trades are: give symbol")
    return replace(
        found, format=chosen, symbol=kept, exchange=found.exchange if exchange is None else exchange,
        market=found.market if market is None else market,
    )  # fmt: skip


def _recognised(path: Path, name: str, head: Head, chosen: TradeFormat | None) -> ArchiveFile:
    row = head.rows[0]
    match = _TRADES_NAME.search(name)
    if chosen is None and is_header(row):
        names = {_plain(field) for field in row}
        chosen = next((one for one, needed in _SHOWN_BY if needed <= names), None)
    elif chosen is None and match is not None:
        chosen = BINANCE_TRADES if match[2] == "trades" else BINANCE_AGGREGATED
    elif chosen is None and len(row) == len(KRAKEN_TRADES.columns) and "-" not in name:
        chosen = KRAKEN_TRADES
    if chosen is None:
        raise TapeError(
            f"{path}: its format is not known; say where its columns are, as in columns={{'time': 'ts', 'price':"
            f" 'px', 'size': 'qty'}}; the first row is {row}"
        )
    if chosen is TARDIS_TRADES:
        return _of_tardis(path, name, head)
    symbol, period = None, _period_in(name)
    if match is not None:
        symbol = match[1]
    elif (dated := _DATED_NAME.search(name)) is not None:
        symbol = dated[1]
    elif chosen is KRAKEN_TRADES:
        symbol = name.split(".", 1)[0]
    market = "spot"
    folders = path.resolve().as_posix()
    if chosen.exchange == "binance":
        market = next((one for folder, one in _FOLDERS.items() if folder in folders), "")
        if not market and _COIN_MARGINED.search(symbol or ""):
            market = "coinm"
        # Spot alone says whether the trade was the best match.
        market = market or ("spot" if len(row) > len(chosen.columns) else "usdm")
    elif chosen is OKX_TRADES:
        period = None  # days may be those of Hong Kong, as in its archive of 2022; it is not documented
        market = "spot" if (symbol or "").count("-") == 1 else "derivatives"
    elif chosen is BYBIT_DERIVATIVES:
        market = "inverse" if _BYBIT_INVERSE.search(symbol or "") else "linear"
    return ArchiveFile(path, chosen, chosen.exchange, market, symbol, period, chosen.kind)


def _of_tardis(path: Path, name: str, head: Head) -> ArchiveFile:
    row = head.rows[1] if len(head.rows) > 1 else []
    names = [_plain(field) for field in head.rows[0]]
    venue = row[names.index("exchange")] if len(row) == len(names) else ""
    exchange, market = TARDIS_VENUES.get(venue, (venue, ""))
    chosen = _with_ids(TARDIS_TRADES, "contiguous") if venue in TARDIS_PROVEN else TARDIS_TRADES
    match = _TARDIS_NAME.search(name)
    return ArchiveFile(path, chosen, exchange, market, match[2] if match else None, _period_in(name), "trades")


def _with_ids(chosen: TradeFormat, ids: Ids) -> TradeFormat:
    # Ids that prove nothing are not read: they need not be numbers.
    proves = IdPolicy.of(ids).proves
    role = _T.TRADE_ID if proves else _T.UNUSED
    names = {name: role if name in ("id", "tradeid") else each for name, each in chosen.names.items()}
    if not proves:
        dropped = (_T.TRADE_ID, _T.FIRST_ID, _T.LAST_ID)
        names = {name: _T.UNUSED if each in dropped else each for name, each in names.items()}
        return replace(
            chosen,
            ids=ids,
            names=names,
            columns=tuple(_T.UNUSED if each in dropped else each for each in chosen.columns),
        )
    return replace(chosen, ids=ids, names=names)


def _by_number(named: TradeFormat, width: int) -> TradeFormat:
    # Columns named "1", "2", ... are those of a file without a header.
    places = {int(name): role for name, role in named.names.items() if name.isdigit()}
    if len(places) < len(named.names) or not all(0 < place <= width for place in places):
        return named
    return replace(named, columns=tuple(places.get(place, _T.UNUSED) for place in range(1, width + 1)))


def _roles(chosen: TradeFormat, row: Sequence[str]) -> list[Role]:
    if chosen.columns and not is_header(row):
        return list(chosen.columns)
    return [chosen.role(name) for name in row]


def _symbol_in_rows(chosen: TradeFormat, head: Head, symbol: str | None) -> str | None:
    # That of the name only if the first row has the same: "binance_trades_2020-01-01_FUTURES" has many.
    roles = _roles(chosen, head.rows[0])
    row = head.rows[-1]
    place = roles.index(_T.SYMBOL)
    return symbol if symbol and len(row) == len(roles) and row[place] == symbol else None


def _name_of(path: Path) -> str:
    # Undoes what the locale has made of UTF-8.
    return normalize("NFC", unquote(path.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")))


def _period_in(name: str) -> Period | None:
    match = re.search(r"([0-9]{4}-[0-9]{2}(?:-[0-9]{2})?)(?![0-9])", name)
    return None if match is None else _period(match[1])


def _period(text: str) -> Period | None:
    try:
        if len(text) > len("2024-08"):
            since = int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * 10**9
            return Period(since, since + _DAY_NS)
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        return None
    behind = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return Period(int(first.timestamp()) * 10**9, int(behind.timestamp()) * 10**9)
