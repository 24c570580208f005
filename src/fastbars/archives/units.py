"""A unit of a build: some files of one chain, folded into bars by a kernel of their own, into a file of rows.

A unit knows nothing of the others but the first trade behind it, so that it can be made anywhere, in any order, and
again.

Units: times int64 ns since the epoch, UTC; rows are those of `fastbars.kernel.fields.ROW_DTYPE`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from fastbars._agg import BarKernel
from fastbars.archives.checksums import checksum_fault
from fastbars.archives.columns import TradeColumns
from fastbars.archives.declaration import ArchiveFile
from fastbars.archives.overlaps import read_merged
from fastbars.archives.reading import read_trades
from fastbars.errors import InvalidTickError, PrecisionError, TapeError, UnknownExchangeError
from fastbars.exchanges import find_exchange
from fastbars.kernel.batch import TickBatch
from fastbars.kernel.fields import ROW_DTYPE
from fastbars.kernel.ids import Ledger
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.limits import LATEST_NS, MAX_SCALE
from fastbars.specs import BarSpec

__all__ = ["Border", "First", "Made", "Unit", "chunks_of", "fold_unit", "load_made"]

_LONG_AGO_NS = -4_000_000_000 * 10**9  # before the longest bar of any trade opens
# How long, in event time, a closed bar can still be amended by trades that come out of order.
_LATENESS_NS = 3_600 * 10**9
_CHUNK_ROWS = 1 << 17
_LARGEST = np.iinfo(np.int64).max


class First(NamedTuple):
    """The first trade of a file."""

    time_ns: int
    id: int


@dataclass(frozen=True, slots=True)
class Unit:
    """What is to be made.

    Attributes:
        groups: files, one group behind the other; those of a group overlap, and are joined by id.
        specs: of the bars.
        contract_sizes: of symbols, over those that the exchange declares.
        behind: the first trade of the symbol behind these files: what is missing before it is seen, and that its bars
            end there is judged when units are joined. None: there is none, or ids prove nothing.
        goes_on: other files with trades of the symbol come before these, so that the beginning of its first bars is
            judged when they are joined; here it counts as proven.
        part: where the rows go; beside it, when it is whole, what was made, with the suffix ".json".
    """

    groups: tuple[tuple[ArchiveFile, ...], ...]
    specs: tuple[BarSpec, ...]
    contract_sizes: tuple[tuple[str, str], ...]
    behind: First | None
    goes_on: bool
    part: Path

    @property
    def files(self) -> list[ArchiveFile]:
        """All files."""
        return [file for group in self.groups for file in group]


@dataclass(slots=True)
class Border:
    """Where the trades of a symbol begin and end in a unit; ids are -1 where they prove nothing.

    `traded` is whether any of them had a size, `void_first` and `void_last` whether the first and the last had none:
    ids may have been used up, and nothing traded.
    """

    first_time_ns: int
    last_time_ns: int
    first_id: int
    last_id: int
    traded: bool
    void_first: bool
    void_last: bool


@dataclass(slots=True)
class Made:
    """What a unit has made.

    Attributes:
        symbols: name, price scale, size scale and contract size or "" of each, by `symbol_id` in the rows.
        borders: of each symbol.
        rows: in the part.
        trades: rows of the files; voids: of these, used up ids; duplicates: of these, those that came twice;
            dropped: of these, those of size 0 where ids prove nothing.
    """

    symbols: list[tuple[str, int, int, str]] = field(default_factory=list)
    borders: list[Border] = field(default_factory=list)
    rows: int = 0
    trades: int = 0
    voids: int = 0
    duplicates: int = 0
    dropped: int = 0


def load_made(part: Path) -> Made | None:
    """What an earlier process has made there; None: nothing, or not all of it."""
    try:
        fields = orjson.loads(part.with_suffix(".json").read_bytes())
        made = Made(**{**fields, "symbols": [tuple(one) for one in fields["symbols"]],
                       "borders": [Border(**one) for one in fields["borders"]]})  # fmt: skip
        return made if part.stat().st_size == made.rows * ROW_DTYPE.itemsize else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def fold_unit(unit: Unit, on_trades: Callable[[int], object] | None = None) -> Made:
    """Make the bars of a unit.

    Args:
        on_trades: called with the number of trades of each block.

    Raises:
        TapeError: a file cannot be read, or a trade in it breaks a rule; the message names file and row.
        OSError: the part cannot be written.
    """
    first = unit.files[0]
    ids = first.format.policy.proves
    instruments = Instruments(first.exchange, market=first.market)
    kernel = BarKernel(instruments, unit.specs, Ledger() if ids else None, ids, _LATENESS_NS)
    fold = _Fold(unit, instruments, kernel, ids)
    for file in unit.files:
        if fault := checksum_fault(file.path):
            raise TapeError(f"{file.path}: {fault}: download it again")
    temporary = unit.part.with_suffix(f".{secrets.token_hex(8)}")  # of this attempt alone, on any host
    try:
        with temporary.open("wb") as out:
            for file, block in _blocks(unit, ids):
                fold.take(file, block).tofile(out)
                if on_trades is not None:
                    on_trades(len(block.time_ns))
            fold.end().tofile(out)
        made = fold.made(_without_revisions(temporary, unit.specs, fold.revised))
        temporary.replace(unit.part)
        temporary.write_bytes(orjson.dumps(asdict(made)))
        temporary.replace(unit.part.with_suffix(".json"))
    finally:
        temporary.unlink(missing_ok=True)
    return made


def _blocks(unit: Unit, ids: bool) -> Iterator[tuple[ArchiveFile, TradeColumns]]:
    for group in unit.groups:
        if ids:
            yield from read_merged(group)
        else:
            for file in group:
                yield from ((file, block) for block in read_trades(file))


class _Fold:
    # Blocks of trades into a kernel.

    def __init__(self, unit: Unit, instruments: Instruments, kernel: BarKernel, ids: bool) -> None:
        self._unit = unit
        self._instruments = instruments
        self._kernel = kernel
        self._ids = ids
        self._contracts = dict(unit.contract_sizes)
        self._borders: list[Border] = []
        self._trades = 0
        self._dropped = 0
        self._used_up = 0
        self.revised: set[int] = set()  # open_time of bars that were issued again

    def take(self, file: ArchiveFile, block: TradeColumns) -> npt.NDArray[Any]:
        self._trades += len(block.time_ns)
        if not self._ids:
            block = self._with_sizes(block)
        where: TradeColumns = block
        try:
            numbers = self._numbered(block)
            columns = self._columns(block, numbers)
            if self._unit.goes_on and not self._borders and columns["first_id"][0] > 0:
                self._use_up(_LONG_AGO_NS, int(columns["first_id"][0]) - 1)
            rows, late = self._kernel.update(TickBatch.noted(self._instruments, columns))
        except (InvalidTickError, PrecisionError) as error:
            if error.row is None:
                raise TapeError(f"{file.path}, near row {where.first_row}: {error}") from None
            text = str(error).replace(f"row {error.row}", f"row {where.first_row + error.row}", 1)
            raise TapeError(f"{file.path}: {text}") from None
        if late:
            row = where.first_row + max(late[0][0], 0)
            raise TapeError(
                f"{file.path}, row {row}: a trade comes more than {_LATENESS_NS // 60 // 10**9} minutes behind later"
                " ones: the file is not in order"
            )
        self._note_borders(block, columns)
        return self._issued(rows)

    def end(self) -> npt.NDArray[Any]:
        behind = self._unit.behind
        issued = []
        if behind is not None and self._borders:
            rows = self._use_up(max(behind.time_ns, self._borders[0].last_time_ns), behind.id)
            issued.append(self._issued(rows))
            # And one behind all bars, so that nothing of them is in doubt but what the trades themselves leave so.
            issued.append(self._issued(self._use_up(LATEST_NS - 1, behind.id + 1)))
        issued.append(self._issued(self._kernel.flush()))
        return np.concatenate(issued)

    def _use_up(self, time_ns: int, trade_id: int) -> Any:
        # A void id of the only symbol: it proves what is before and behind it, and nothing was traded.
        columns: dict[str, npt.NDArray[Any]] = {
            "time_ns": np.array([time_ns]), "symbol_id": np.zeros(1, np.int32), "price": np.zeros(1, np.int64),
            "size": np.zeros(1, np.int64), "side": np.zeros(1, np.int8), "first_id": np.array([trade_id]),
        }  # fmt: skip
        columns["last_id"] = columns["first_id"]
        self._used_up += 1
        return self._kernel.update(TickBatch.noted(self._instruments, columns))[0]

    def made(self, rows: int) -> Made:
        names = self._instruments.symbols
        contracts = [self._instruments.contract_size(name) for name in names]
        symbols = [
            (name, *self._instruments.scales(name), "" if contract is None else str(contract))
            for name, contract in zip(names, contracts, strict=True)
        ]
        voids = self._kernel.voids - self._used_up
        return Made(symbols, self._borders, rows, self._trades, voids, self._kernel.duplicates, self._dropped)

    def _issued(self, rows: Any) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = rows.array()
        again = array["revision"] > 0
        if again.any():
            self.revised.update(array["open_time"][again].tolist())
        return array

    def _with_sizes(self, block: TradeColumns) -> TradeColumns:
        if (block.size != 0).all():
            return block
        kept = block.size != 0
        self._dropped += int(np.count_nonzero(~kept))
        return block._replace(
            symbol=block.symbol[kept], time_ns=block.time_ns[kept], price=block.price[kept], size=block.size[kept],
            side=block.side[kept], count=None if block.count is None else block.count[kept], first_id=None,
            last_id=None,
        )  # fmt: skip

    def _numbered(self, block: TradeColumns) -> npt.NDArray[np.int32]:
        # The instruments' ids of a block's symbols, at whose scales its rows then are.
        if len(block.symbols) == 1:
            self._add(block.symbols[0], block.price_scale, block.size_scale)
            return np.array([self._instruments.id(block.symbols[0])], np.int32)
        numbers = np.zeros(len(block.symbols), np.int32)
        for place in np.flatnonzero(np.bincount(block.symbol, minlength=len(numbers))).tolist():
            rows = np.flatnonzero(block.symbol == place)
            scales = (
                _own_scale(block.price, block.price_scale, rows),
                _own_scale(block.size, block.size_scale, rows),
            )
            self._add(block.symbols[place], *scales)
            numbers[place] = self._instruments.id(block.symbols[place])
        return numbers

    def _add(self, symbol: str, price_scale: int, size_scale: int) -> None:
        contract: Decimal | str | None = None
        if symbol not in self._instruments:
            contract = self._contracts.get(symbol)
            if contract is None:
                contract = _contract_size(self._unit.files[0], symbol)
        self._instruments.add(symbol, price_scale, size_scale, contract)

    def _columns(self, block: TradeColumns, numbers: npt.NDArray[np.int32]) -> dict[str, npt.NDArray[Any]]:
        single = len(numbers) == 1 and numbers[0] == 0
        symbol_id = block.symbol if single else numbers[block.symbol]
        columns: dict[str, npt.NDArray[Any]] = {
            "time_ns": block.time_ns, "symbol_id": symbol_id, "price": block.price, "size": block.size,
            "side": block.side,
        }  # fmt: skip
        present = np.flatnonzero(np.bincount(block.symbol, minlength=len(numbers)))
        for name, scale, place in (("price", block.price_scale, 0), ("size", block.size_scale, 1)):
            if len(numbers) == 1:
                own = self._instruments.scales(block.symbols[0])[place]
                columns[name] = _at_scale(name, columns[name], scale, own)
            else:
                # Each symbol's rows at its scale; where it has fewer decimals than the block, they end in zeros.
                scales = np.array([self._instruments.scales(symbol)[place] for symbol in self._instruments.symbols])
                if (scales[numbers[present]] != scale).any():
                    columns[name] = _at_scales(name, columns[name], scale, scales[symbol_id])
        if self._ids and block.first_id is not None and block.last_id is not None:
            columns["first_id"], columns["last_id"] = block.first_id, block.last_id
        if block.count is not None:
            columns["count"] = block.count
        return columns

    def _note_borders(self, block: TradeColumns, columns: dict[str, npt.NDArray[Any]]) -> None:
        if not len(block.time_ns):
            return
        single = len(block.symbols) == 1
        symbol_id = columns["symbol_id"]
        for number in [int(symbol_id[0])] if single else np.flatnonzero(np.bincount(symbol_id)).tolist():
            chosen = slice(None) if single else np.flatnonzero(symbol_id == number)
            times = block.time_ns[chosen]
            first_id = last_id = -1
            if self._ids and block.first_id is not None and block.last_id is not None:
                first_id, last_id = int(block.first_id[chosen].min()), int(block.last_id[chosen].max())
            sizes = block.size[chosen]
            seen = Border(
                int(times.min()), int(times.max()), first_id, last_id,
                bool(sizes.any()), bool(sizes[0] == 0), bool(sizes[-1] == 0),
            )  # fmt: skip
            if number == len(self._borders):
                self._borders.append(seen)
                continue
            own = self._borders[number]
            own.first_time_ns = min(own.first_time_ns, seen.first_time_ns)
            own.last_time_ns = max(own.last_time_ns, seen.last_time_ns)
            own.first_id, own.last_id = min(own.first_id, first_id), max(own.last_id, last_id)
            own.traded, own.void_last = own.traded or seen.traded, seen.void_last


_LOOKED_AT = 256


def _own_scale(column: npt.NDArray[np.int64], scale: int, rows: npt.NDArray[np.intp]) -> int:
    # The fewest decimals that hold all of them. One of the first nearly always needs all that there are.
    if scale == 0 or (column[rows[:_LOOKED_AT]] % 10).any():
        return scale
    divisor = int(np.gcd.reduce(column[rows]))
    while scale > 0 and divisor % 10 == 0:
        divisor //= 10
        scale -= 1
        if divisor == 0:
            return 0
    return scale


def _at_scale(name: str, values: npt.NDArray[np.int64], scale: int, own: int) -> npt.NDArray[np.int64]:
    if own == scale:
        return values
    return _at_scales(name, values, scale, np.full(len(values), own))


def _at_scales(
    name: str, values: npt.NDArray[np.int64], scale: int, own: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    powers = np.array([10**n for n in range(MAX_SCALE + 1)], np.int64)
    up, down = powers[np.maximum(own - scale, 0)], powers[np.maximum(scale - own, 0)]
    wrong = np.abs(values) > _LARGEST // up
    if wrong.any():
        row = int(wrong.argmax())
        raise PrecisionError(f"row {row}: {name} does not fit 64 bits with {own[row]} decimals", row)
    return values // down * up


def _contract_size(file: ArchiveFile, symbol: str) -> Decimal | None:
    """Of a symbol on an inverse market, as its exchange declares it."""
    if not file.exchange:
        return None
    try:
        return find_exchange(file.exchange, file.market or None).contract_size(symbol)
    except UnknownExchangeError:
        return None


def chunks_of(path: Path, rows: int) -> Iterator[npt.NDArray[Any]]:
    """The rows of a part, some at a time; they can be changed."""
    with path.open("rb") as file:
        while rows > 0:
            chunk = np.fromfile(file, ROW_DTYPE, min(rows, _CHUNK_ROWS))
            if not len(chunk):
                raise TapeError(f"{path}: it ends early")
            yield chunk
            rows -= len(chunk)


def _without_revisions(path: Path, specs: Sequence[BarSpec], revised: set[int]) -> int:
    # Keeps the last revision of each bar, in the place of the first. Returns how many rows are left.
    count = path.stat().st_size // ROW_DTYPE.itemsize
    if not revised:
        return count
    times = np.array(sorted(revised))
    found, at = [], []
    for number, chunk in enumerate(chunks_of(path, count)):
        places = np.flatnonzero(np.isin(chunk["open_time"], times))
        found.append(chunk[places])
        at.append(places + number * _CHUNK_ROWS)
    rows, places = np.concatenate(found), np.concatenate(at)
    last: dict[tuple[int, ...], int] = {}
    first: dict[tuple[int, ...], int] = {}
    for place, row in enumerate(rows[["symbol_id", "spec", "open_time"]].tolist()):
        key = row if specs[row[1]].is_timed else (place,)  # path-driven bars have no revisions
        first.setdefault(key, place)
        last[key] = place
    changed = {int(places[place]): last[key] for key, place in first.items()}
    shorter = path.with_suffix(path.suffix + ".last")
    with shorter.open("wb") as out:
        for number, chunk in enumerate(chunks_of(path, count)):
            start = number * _CHUNK_ROWS
            kept = np.ones(len(chunk), bool)
            for place in places[(places >= start) & (places < start + len(chunk))].tolist():
                if place in changed:
                    chunk[place - start] = rows[changed[place]]
                else:
                    kept[place - start] = False
            chunk[kept].tofile(out)
    shorter.replace(path)
    return path.stat().st_size // ROW_DTYPE.itemsize
