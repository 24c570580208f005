"""Bars of several batches as rows of one numbering of markets, symbols and specs; and a batch of them again.

Units: rows are those of `fastbars.kernel.fields.ROW_DTYPE`; times int64 ns since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbars.bars import STATUSES, BarStatus
from fastbars.kernel.fields import FIELDS, NO_ID, ROW_DTYPE, FieldKind, known_values
from fastbars.kernel.instruments import Instruments
from fastbars.specs import BarSpec

Rows = npt.NDArray[Any]

_LUMP = np.dtype((np.void, ROW_DTYPE.itemsize))
_UNKNOWN = -1
_PROVEN_BY_IDS = STATUSES.index(BarStatus.PROVISIONAL)  # and better: only ids make bars that good


class BarNames:
    """What the numbers in the rows of a table of bars stand for.

    Attributes:
        markets: (exchange, market) by number.
        symbols: (number of its market, symbol, contract size or None) by `symbol_id`.
        specs: texts by `spec`.
    """

    def __init__(self) -> None:
        self.markets: list[tuple[str, str]] = []
        self.symbols: list[tuple[int, str, Decimal | None]] = []
        self.specs: list[str] = []
        self._numbers: dict[Any, int] = {}

    def market(self, exchange: str, market: str) -> int:
        """The number of a market."""
        return self._number(self.markets, (exchange, market))

    def symbol(self, market: int, symbol: str, contract_size: Decimal | None) -> int:
        """The `symbol_id` of a symbol."""
        return self._number(self.symbols, (market, symbol, contract_size))

    def spec(self, text: str) -> int:
        """The number of a spec."""
        return self._number(self.specs, text)

    def _number(self, known: list[Any], name: Any) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(known)
            known.append(name)
        return number

    def numbered(self, rows: Rows, instruments: Instruments, specs: Sequence[BarSpec], *, ids: bool) -> Rows:
        """The rows of a batch, copied, with these numbers; ids that prove nothing are NO_ID.

        Args:
            rows, instruments, specs, ids: as in BarBatch.
        """
        rows = np.ascontiguousarray(rows).view(_LUMP).copy().view(ROW_DTYPE)
        if not len(rows):
            return rows
        market = self.market(instruments.exchange, instruments.market)
        symbols = instruments.symbols
        numbers = np.full(max(len(symbols), int(rows["symbol_id"].max()) + 1), _UNKNOWN, np.int32)
        for place in np.unique(rows["symbol_id"]).tolist():
            symbol = instruments.symbol(place)
            numbers[place] = self.symbol(market, symbol, instruments.contract_size(symbol))
        rows["symbol_id"] = numbers[rows["symbol_id"]]
        rows["spec"] = np.array([self.spec(str(spec)) for spec in specs], np.int32)[rows["spec"]]
        for column in FIELDS.values():
            if column.kind is FieldKind.ID:
                known = known_values(rows, column, ids)
                if known is not None:
                    rows[column.name][~known] = NO_ID
        return rows


def joined(parts: Iterable[Rows]) -> Rows:
    """Rows one behind the other."""
    lumps = [np.ascontiguousarray(part).view(_LUMP) for part in parts]
    return np.concatenate(lumps).view(ROW_DTYPE) if lumps else np.empty(0, ROW_DTYPE)


class Parts(NamedTuple):
    """What a BarBatch is made of."""

    rows: Rows
    instruments: Instruments
    specs: list[BarSpec]
    ids: bool


def parts_of(rows: Rows, names: BarNames) -> Parts:
    """What a batch of these rows is made of; they are numbered anew, in place.

    Raises:
        ValueError: the rows are of several markets, or a symbol has two contract sizes.
    """
    used = np.unique(rows["symbol_id"]).tolist()
    markets = sorted({names.symbols[number][0] for number in used})
    if len(markets) > 1:
        found = ", ".join(" ".join(filter(None, names.markets[market])) or "no market" for market in markets[:10])
        raise ValueError(f"a batch has bars of one market, these are of {found}: choose with exchange= and market=")
    exchange, market = names.markets[markets[0]] if markets else ("", "")
    negative = bool((rows["low"][rows["count"] != 0] <= 0).any())
    contracts = [names.symbols[number][2] for number in used]
    instruments = Instruments(exchange, negative and not any(contracts), market)
    ids = np.full(len(names.symbols) or 1, _UNKNOWN, np.int32)
    scales = {name: np.zeros(len(ids), np.int8) for name in ("price_scale", "size_scale")}
    for name, largest in scales.items():
        np.maximum.at(largest, rows["symbol_id"], rows[name])
    for number, contract in zip(used, contracts, strict=True):
        symbol = names.symbols[number][1]
        if symbol in instruments and instruments.contract_size(symbol) != contract:
            raise ValueError(
                f"{instruments.venue} {symbol}: bars of two contract sizes,"
                f" {instruments.contract_size(symbol)} and {contract}"
            )
        ids[number] = instruments.add(
            symbol, int(scales["price_scale"][number]), int(scales["size_scale"][number]), contract
        )
    rows["symbol_id"] = ids[rows["symbol_id"]]
    specs = [BarSpec.parse(text) for text in names.specs]
    proven = bool(
        ((rows["first_id"] != NO_ID) & (rows["count"] != 0)).any() or (rows["status"] <= _PROVEN_BY_IDS).any()
    )
    if not proven:  # they count arrivals
        traded = rows["count"] != 0
        for name, last in (("first_id", 0), ("last_id", 1)):
            rows[name][traded] = 2 * np.flatnonzero(traded) + last
    return Parts(rows, instruments, specs, proven)
