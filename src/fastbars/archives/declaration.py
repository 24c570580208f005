"""What a file of trades is declared to be: the meaning of its columns, its symbol and its period.

Units: periods are ns since the Unix epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from fastbars.columnar.parquet import is_parquet
from fastbars.errors import TapeError
from fastbars.id_policy import IdPolicy, Ids
from fastbars.times import TimeUnit

__all__ = ["ArchiveFile", "Period", "Role", "TradeFormat"]


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

    def role(self, name: str) -> Role:
        """That of a column, by its name in the header; of "price/..." also by the part before the slash."""
        plain = name.strip().lower().replace("_", "").replace(" ", "")
        return self.names.get(plain) or self.names.get(plain.split("/", 1)[0], Role.UNUSED)

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
