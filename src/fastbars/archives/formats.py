"""The formats of trade archives: what their columns mean, and which of them a file has.

A format is a declaration. `recognise` finds it by the header of a file, or else by its name and the width of its
first row, and takes symbol, market and period from its name.

Source: the `source` of each format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from os import PathLike
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize
from urllib.parse import unquote

from fastbars.archives.opening import first_row
from fastbars.columnar.parquet import is_parquet
from fastbars.errors import TapeError
from fastbars.id_policy import IdPolicy, Ids
from fastbars.times import TimeUnit

__all__ = ["FORMATS", "ArchiveFile", "Period", "Role", "TradeFormat", "recognise"]


class Role(IntEnum):
    """What a column holds."""

    UNUSED = 0
    TIME = 1
    PRICE = 2
    SIZE = 3
    SIDE = 4
    TRADE_ID = 5
    FIRST_ID = 6
    LAST_ID = 7
    COUNT = 8
    SYMBOL = 9


class Period(NamedTuple):
    """The span of exchange time that a file is meant to hold, ns since the epoch, the end exclusive."""

    since_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class TradeFormat:
    """What the columns of a file mean.

    Attributes:
        name: as error messages and reports say it.
        exchange: whose trades these are; empty where the file says.
        kind: "trades", or "aggTrades" where a row stands for several.
        columns: role of each column of a file without a header, in order; empty: there always is one.
        names: role of a column by its name in the header, in lower case without "_" and spaces.
        units: what integer times may count. Of several the one is taken that gives the first row a plausible date.
        ids: what the ids can prove.
        sides: sign of each text in the column of sides, in lower case: 1 the taker bought, -1 sold.
        source: where the format is documented.
        price_scale, size_scale: of Parquet: decimals of integers, 0 by default, and those that floats are rounded to.
    """

    name: str
    exchange: str
    kind: str
    columns: tuple[Role, ...]
    names: Mapping[str, Role]
    units: tuple[TimeUnit, ...]
    ids: Ids
    sides: Mapping[str, int]
    source: str
    price_scale: int | None = None
    size_scale: int | None = None

    @property
    def policy(self) -> IdPolicy:
        """What the ids can prove."""
        return IdPolicy.of(self.ids)


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A file of trades, and what is known of it before its rows are read.

    Attributes:
        path: where it lies.
        format: what its columns mean.
        exchange, market: whose trades they are, as bars name them.
        symbol: all rows are of this one; None: a column says.
        period: that the name gives, such as a day or a month; None: it does not.
        kind: "trades" or "aggTrades".
    """

    path: Path
    format: TradeFormat
    exchange: str
    market: str
    symbol: str | None
    period: Period | None
    kind: str

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet. Raises TapeError: it cannot be read."""
        try:
            return is_parquet(self.path)
        except OSError as error:
            raise TapeError(f"{self.path}: cannot be read: {error.strerror or error}") from error


_T = Role
# "is_buyer_maker": the buyer's order was in the book, so the taker sold.
_MAKER = {"true": -1, "false": 1}
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

FORMATS = (BINANCE_TRADES, BINANCE_AGGREGATED)

# BTCUSDT-trades-2024-08-08.zip, BTCUSD_PERP-aggTrades-2024-08.csv; a download's number, "(1)", may follow.
_BINANCE_NAME = re.compile(
    r"(?:^|(?<=[_.\s]))([^-.\s/]+)-(trades|aggTrades)-([0-9]{4}-[0-9]{2}(?:-[0-9]{2})?)(?=[-_.\s(]|$)"
)
_FOLDERS = {"/spot/": "spot", "/futures/um/": "usdm", "/futures/cm/": "coinm"}
_COIN_MARGINED = re.compile(r"USD_(PERP|[0-9]{6})$")
_DAY_NS = 86_400 * 10**9


def recognise(
    path: str | PathLike[str],
    *,
    exchange: str | None = None,
    market: str | None = None,
    symbol: str | None = None,
) -> ArchiveFile:
    """What a file is, from its name and first row.

    Args:
        path: the file.
        exchange, market, symbol: override what is found.

    Raises:
        TapeError: the file cannot be read, or its format is not known; the message names the file, and what its first
            row is.
    """
    path = Path(path)
    # Undoes what the locale has made of UTF-8.
    name = normalize("NFC", unquote(path.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")))
    row = first_row(path)
    match = _BINANCE_NAME.search(name)
    if match is None:
        raise TapeError(f"{path}: not a known format; the first row is {row}")
    format_ = BINANCE_TRADES if match[2] == "trades" else BINANCE_AGGREGATED
    folders = path.resolve().as_posix()
    found = next((market_ for folder, market_ in _FOLDERS.items() if folder in folders), None)
    if found is None and _COIN_MARGINED.search(match[1]):
        found = "coinm"
    if found is None:
        # Spot alone says whether the trade was the best match.
        found = "spot" if len(row) == len(format_.columns) + 1 else "usdm"
    return ArchiveFile(
        path, format_, exchange or "binance", found if market is None else market, symbol or match[1],
        _period(match[3]), format_.kind,
    )  # fmt: skip


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
