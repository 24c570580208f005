"""BarBatch: finished bars as columns.

Units: times are int64 nanoseconds since the Unix epoch, UTC, in columns and aware UTC datetimes in
objects; prices are quote units, volumes base units (contracts on inverse markets).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from fastbars.bars import BAR_FIELDS, REASONS, STATUSES, BarStatus, OHLCVBar
from fastbars.columnar.indexing import places_of
from fastbars.columnar.inside import NOTHING, Inside, Values, complete, joined, merged, of_bars, values_at
from fastbars.columnar.tables import numpy_columns
from fastbars.kernel.fields import FIELDS, IDENTITY, ROW_DTYPE, FieldKind
from fastbars.kernel.instruments import Instruments
from fastbars.kernel.limits import REPORTED_STATUS
from fastbars.kernel.objects import BarMaker
from fastbars.kernel.rows import IssuedRows, merge_rows
from fastbars.specs import BarSpec, Origin, parse_specs

if TYPE_CHECKING:
    from fastbars.plotting.svg import BarPlot

__all__ = ["BarBatch"]

_SHOWN_BARS = 10
_SHOWN_NAMES = 3
_LONGEST_NAME = 32
# A copy of rows as lumps of bytes: numpy would copy them field by field.
_LUMP = np.dtype((np.void, ROW_DTYPE.itemsize))
# Rows from the kernel need no checks, and compiled code makes objects of them.
_MAKER = BarMaker(OHLCVBar, STATUSES, REASONS)


class BarBatch:  # not a Sequence: polars would take it for a list of objects, and pass its columns by
    """Issued bars as columns: what the kernel hands out; a sequence of OHLCVBar, made when asked for.

    Args:
        rows: as a kernel issues them, or as a structured array of `fastbars.kernel.rows.ROW_DTYPE`; prices and sums are
            mantissas at each row's scales. The attribute is the array.
        instruments: names exchange, market and symbols.
        specs: the kernel's bar specs.
        ids: the exchange's trade ids prove completeness; else first_id and last_id count arrivals.
        inside: what is inside the bars of specs with features; that of `rows`, where a kernel issued them.
    """

    def __init__(
        self,
        rows: IssuedRows | npt.NDArray[Any],
        instruments: Instruments,
        specs: Sequence[BarSpec],
        *,
        ids: bool,
        inside: Inside | None = None,
    ) -> None:
        self.rows = rows.array() if isinstance(rows, IssuedRows) else rows
        self._inside = Inside.of(rows) if inside is None else inside
        self.instruments = instruments
        self.specs = tuple(specs)
        self.ids = ids

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(map(str, self.specs))

    @classmethod
    def from_bars(
        cls,
        bars: Iterable[OHLCVBar],
        *,
        instruments: Instruments | None = None,
        specs: Sequence[BarSpec] = (),
    ) -> BarBatch:
        """The batch of some bars, in their order; `to_bars` gives equal ones.

        Args:
            bars: of one exchange and market, of any symbols, specs and statuses.
            instruments: name their market and symbols; those of the bars are added. Made of the bars if None.
            specs: the first ones of the batch's; those of other bars follow.

        A bar does not say when in its interval the trades came: where ids do not order them, `merge` takes those of
        `self` to be the earlier ones at the open, and those of `other` the later ones at the close.

        Raises:
            ValueError: a bar is of another exchange or market, or of no spec that there is. PrecisionError: a value
                has more than 18 decimals (quote volumes: 36), or does not fit 64 bits (sums: 128).
        """
        from fastbars.columnar.from_bars import rows_of_bars  # noqa: PLC0415 for those who ask

        given = tuple(bars)
        rows, named, all_specs, ids = rows_of_bars(given, instruments, specs)
        return cls(rows, named, all_specs, ids=ids, inside=of_bars(given, rows))

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: str) -> npt.NDArray[Any]: ...
    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> OHLCVBar: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[Any]) -> BarBatch: ...
    def __getitem__(self, index: Any) -> OHLCVBar | BarBatch | npt.NDArray[Any]:
        """One bar, some of the bars, or one column of all bars.

        Args:
            index: an integer, negative ones count from the end: that bar. A slice; a list or array of integers, in
                any order and repeated at will; or a list or array of as many booleans as there are bars: those bars,
                as a BarBatch. The name of one of BAR_FIELDS: that column as a numpy array, as `to_numpy` has it but
                for prices and sums, which are exact: `Decimal` objects, None where a bar has no price.

        Raises:
            IndexError: outside the batch, or a mask of another length. KeyError: no such column. TypeError: of
                another type, such as a float.
        """
        if isinstance(index, str):
            return self._column(index)
        if isinstance(index, slice):
            return self._part(self.rows[index])
        places = places_of(index, len(self.rows))
        if isinstance(places, int):
            return self._make(self.rows[places : places + 1])[0]
        return self._part(self.rows.view(_LUMP)[places].view(ROW_DTYPE) if self._is_plain else self.rows[places])

    @property
    def _is_plain(self) -> bool:
        return self.rows.dtype == ROW_DTYPE and self.rows.flags.c_contiguous

    def _part(self, rows: npt.NDArray[Any]) -> BarBatch:
        return BarBatch(rows, self.instruments, self.specs, ids=self.ids, inside=self._inside)

    def _column(self, name: str) -> npt.NDArray[Any]:
        if name not in BAR_FIELDS:
            raise KeyError(f"no column {name!r}; a bar has {', '.join(BAR_FIELDS)}")
        if name in IDENTITY or not FIELDS[name].scale:
            return self.to_numpy()[name]
        exact = np.empty(len(self.rows), object)
        exact[:] = [getattr(bar, name) for bar in self.to_bars()]
        return exact

    def __reduce__(self) -> tuple[Any, ...]:
        # By the constructor, which checks the rows. A part takes its own rows along, not those that it was cut from.
        return _batch_of, (
            type(self),
            np.ascontiguousarray(self.rows),
            self.instruments,
            self.specs,
            self.ids,
            self._inside,
        )

    def __copy__(self) -> BarBatch:
        return _batch_of(type(self), self.rows, self.instruments, self.specs, self.ids, self._inside)

    def __repr__(self) -> str:
        count = len(self.rows)
        title = f"{count:,} bar{'' if count == 1 else 's'} of {', '.join(self._names)}"
        if not count:
            return f"<BarBatch {title}>"
        venue = f"{_shown(self.instruments.venue)} " if self.instruments.venue else ""
        numbers = np.unique(self.rows["symbol_id"])
        names = ", ".join(map(_shown, (self.instruments.symbol(int(n)) for n in numbers[:_SHOWN_NAMES])))
        more = f" and {len(numbers) - _SHOWN_NAMES:,} more" if len(numbers) > _SHOWN_NAMES else ""
        first, last = (
            bound.astype("datetime64[ns]").astype("datetime64[s]").item().isoformat(" ") + "Z"
            for bound in (self.rows["open_time"].min(), self.rows["close_time"].max())
        )
        return f"<BarBatch {title}: {venue}{names}{more}, {first} to {last}>"

    def _repr_html_(self) -> str:
        # What a notebook shows: the first and the last bars.
        half = _SHOWN_BARS // 2
        count = len(self.rows)
        parts = [self.to_bars()] if count <= _SHOWN_BARS else [self[:half].to_bars(), self[count - half :].to_bars()]
        head = "".join(f"<th>{name}</th>" for name in BAR_FIELDS)
        lines = [
            [
                f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in bar.to_dict(json=True).values())}</tr>"
                for bar in part
            ]
            for part in parts
        ]
        between = f'<tr><td colspan="{len(BAR_FIELDS)}">&hellip;</td></tr>'
        body = between.join("".join(part) for part in lines)
        return f"<p>{_escaped(repr(self))}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def plot(
        self, symbol: str | None = None, spec: str | None = None, *, last: int = 200, width: int = 900,
        height: int = 420, theme: str = "auto",
    ) -> BarPlot:  # fmt: skip
        """A picture of the bars of one symbol and spec, of each the latest revision: candles, volume and statuses.

        It is SVG and needs no other library; a notebook shows it. Pointing at a bar tells its exact values and proof.

        Args:
            symbol, spec: None: those of the first bar (of the symbol).
            last: how many bars, the latest.
            width, height: px, 120 to 10,000.
            theme: "light", "dark", or "auto": as the reader's system is.

        Raises:
            KeyError: there are no bars of that symbol and spec. ValueError: a number is out of its range, or there is
                no such theme.
        """
        from fastbars.plotting.svg import latest_bars, plot_bars  # noqa: PLC0415 for those who ask

        if last < 1:
            raise ValueError(f"last must be 1 or more, got {last}")
        if symbol is None and spec is None and not len(self):
            return plot_bars((), width=width, height=height, theme=theme)
        places = np.arange(len(self))
        for own, name, named in (
            ("symbol_id", symbol, self.instruments.symbol), ("spec", spec, self._names.__getitem__),
        ):  # fmt: skip
            numbers = self.rows[own][places]
            chosen = [n for n in np.unique(numbers) if named(int(n)) == name] if name is not None else numbers[:1]
            places = places[np.isin(numbers, chosen)]
            if not len(places):
                raise KeyError(f"no bars of {name!r:.100}")
        # No more objects than are drawn, but for their earlier revisions.
        opened = self.rows["open_time"][places]
        none = int(np.count_nonzero(self.rows["status"][places] == STATUSES.index(BarStatus.RETRACTED)))
        places = places[opened >= np.unique(opened)[-last - none :][0]]
        bars = latest_bars(self[places].to_bars(), last)
        return plot_bars(bars, width=width, height=height, theme=theme)

    def __iter__(self) -> Iterator[OHLCVBar]:
        return iter(self.to_bars())

    def __reversed__(self) -> Iterator[OHLCVBar]:
        return reversed(self.to_bars())

    def __contains__(self, bar: object) -> bool:
        return bar in self.to_bars()

    def index(self, bar: OHLCVBar) -> int:
        """The place of a bar. Raises ValueError where it is not among them."""
        return self.to_bars().index(bar)

    def to_bars(self) -> list[OHLCVBar]:
        """All bars as objects with Decimal fields."""
        return self._make(np.ascontiguousarray(self.rows))

    def _make(self, rows: npt.NDArray[Any]) -> list[OHLCVBar]:
        bars = _MAKER.make(rows, self.instruments, self._names, self.ids)
        if self._inside is not None:
            complete(bars, rows, self._inside, self.instruments, self.specs)
        return bars

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The bars as an Arrow table, for polars, pandas, pyarrow, DuckDB and others (needs the extra `arrow`).

        The columns are BAR_FIELDS: times as timestamps (ns, UTC), prices and sums as decimal128 of one scale a
        column, the largest that a bar has; first and last trade id are null where ids prove nothing. Where a spec has
        features, what is inside the bars follows: `footprint`, a list of structs, `point_of_control`, `delta`,
        `delta_high`, `delta_low` and, rounded to 18 decimals, `vwap_deviation`.

        Raises:
            PrecisionError: a column needs more than 38 digits.
        """
        from fastbars.columnar.arrow import to_stream  # noqa: PLC0415 a sixth of the time that fastbars takes to import

        return to_stream(self.rows, self._identity, self._texts, ids=self.ids, inside=self._all_inside())

    def _all_inside(self) -> list[Values | None] | None:
        # Of each bar, in order; None: no spec has features.
        if not any(spec.features for spec in self.specs):
            return None
        if self._inside is None:
            return [None] * len(self.rows)
        return [
            values_at(row, self._inside, self.instruments, self.specs) if row["inside"] else None for row in self.rows
        ]

    @property
    def _identity(self) -> dict[str, str]:
        return {name: getattr(self.instruments, name) for name in IDENTITY}

    @property
    def _texts(self) -> dict[str, Sequence[str]]:
        return {
            "symbol": self.instruments.symbols,
            "spec": self._names,
            "status": STATUSES,
            "close_reason": REASONS,
        }

    def to_polars(self) -> Any:
        """A polars DataFrame (needs polars and the extra `arrow`)."""
        import polars  # noqa: PLC0415 only for those who have it

        return polars.DataFrame(self)

    def to_pandas(self, *, floats: bool = False, index: str | Sequence[str] | None = None) -> Any:
        """A pandas DataFrame.

        Args:
            floats: prices and sums are float64, the nearest to the exact values, NaN where a bar has no price; ids
                and counts are Int64, which has a value for None. That needs
                pandas alone. Else the columns have Arrow's types, decimals included, which needs pyarrow and the extra
                `arrow` too.
            index: the column, or columns, to be the index, such as "open_time" or ["symbol", "open_time"].

        Raises:
            KeyError: `index` names no column. PrecisionError: see `__arrow_c_stream__`; never with `floats`.
        """
        import pandas  # noqa: PLC0415 likewise

        names = [] if index is None else [index] if isinstance(index, str) else list(index)
        for name in names:
            if name not in BAR_FIELDS:
                raise KeyError(f"no column {name!r} for the index; a bar has {', '.join(BAR_FIELDS)}")
        if floats:
            columns: dict[str, Any] = dict(self.to_numpy())
            for name in FIELDS:
                values = columns[name]
                if FIELDS[name].kind in (FieldKind.TIME, FieldKind.MOMENT):
                    columns[name] = pandas.Series(values).dt.tz_localize("UTC")
                elif FIELDS[name].kind in (FieldKind.ID, FieldKind.KNOWN):
                    columns[name] = pandas.arrays.IntegerArray(values, values < 0)
            frame = pandas.DataFrame(columns)
        else:
            import pyarrow  # noqa: PLC0415 likewise

            frame = pyarrow.table(self).to_pandas(types_mapper=pandas.ArrowDtype)
        return frame.set_index(names if len(names) > 1 else names[0]) if names else frame

    def to_numpy(self) -> dict[str, npt.NDArray[Any]]:
        """Columns by name: datetime64[ns] (UTC), float64, int64 (ids -1 where ids prove nothing), text.

        numpy has no decimals: prices and sums are the floats nearest to their exact values, NaN where a bar has no
        price. `rows` holds the exact ones, as mantissas with their scales; so do the Arrow table, the bar objects and
        `batch["close"]`. Counts and ids are -1 where they are not known, sums NaN, times of trades NaT. What is inside
        bars of specs with features is in none of these columns.
        """
        columns = numpy_columns(np.ascontiguousarray(self.rows), self._texts, self.ids)
        for name, text in self._identity.items():
            columns[name] = np.full(len(self.rows), text)
        for name in FIELDS:
            if FIELDS[name].kind in (FieldKind.TIME, FieldKind.MOMENT):
                columns[name] = columns[name].view("datetime64[ns]")
        return {name: columns[name] for name in BAR_FIELDS}

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the bars to a Parquet file, every field exact (needs the extra `archives`).

        The columns are BAR_FIELDS: times as timestamps (ns, UTC), prices and sums as decimal128, texts as dictionaries;
        and `contract_size`, null where the market is not inverse. A file that is there is replaced in one step.

        Raises:
            PrecisionError: a value needs more than 38 digits with the decimals that its column has. OSError.
            SpecError: a spec has features, for which these files have no columns; `pyarrow.table(batch)` has them.
        """
        from fastbars.columnar.parquet import write_bars  # noqa: PLC0415 pyarrow only for those who have it

        write_bars(path, self.rows, self.instruments, self.specs, ids=self.ids)

    @classmethod
    def from_parquet(
        cls,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        exchange: str | None = None,
        market: str | None = None,
        symbols: str | Iterable[str] | None = None,
        specs: str | Iterable[str | BarSpec] | None = None,
        since: Any = None,
        until: Any = None,
    ) -> BarBatch:
        """Read bars that `to_parquet` or the builder of archives wrote (needs the extra `archives`).

        Args:
            path: a file, several, or a folder: all files `*.parquet` in it, also in partitions such as
                `symbol=BTCUSDT/date=2025-01-01`, in order of their paths.
            exchange, market: of which bars; they must be given where the files have bars of several.
            symbols: of which; None: all.
            specs: likewise: "1m", "1m,1h", or several.
            since, until: open_time from and before: aware datetimes, datetime64, or ns since the epoch.

        Raises:
            TapeError: a file is no Parquet, or does not hold bars: the message names column and type, or row and
                value; or more than 50 million bars are wanted at once.
            ValueError: the bars are of several markets, or of two contract sizes. OSError: there are no files.
        """
        from fastbars.columnar.parquet import Wanted, files_of, read_bars  # noqa: PLC0415 likewise

        given = [path] if isinstance(path, str | os.PathLike) else path
        paths = [file for each in given for file in files_of(each)]
        rows, instruments, own, ids = read_bars(paths, Wanted.of(exchange, market, symbols, specs, since, until))
        return cls(rows, instruments, own, ids=ids)

    def merge(self, other: BarBatch) -> BarBatch:
        """Merge summaries of disjoint sets of trades: bars of equal symbol, spec and open time become one.

        Both batches are of one market: of one exchange and market, by their names.

        Bars that only one side has are kept; the order is that of `self`, then of `other`. A merged bar has
        the worse of both statuses: what a status proves, only the ledger knows. Time bars only.

        The batches may come from different calls of `aggregate`, processes or files: symbols are matched by their
        names, and prices and sums are brought to the finer scale, exactly. Where ids do not order the trades, those
        of `self` come before those of `other` at the same nanosecond, unless both batches share their instruments.

        Raises:
            ValueError: the batches differ in specs, ids, exchange, market or a symbol's contract size; they hold bars
                that depend on the path, or one bar twice; or a bar of both is REPORTED in one of them.
            PrecisionError: a merged sum does not fit 128 bits, or the scales cannot be brought together.
        """
        if self.specs != other.specs or self.ids != other.ids:
            raise ValueError(
                f"bars merge where specs and ids are the same: {', '.join(self._names)} with"
                f" {'proven' if self.ids else 'no'} ids, and {', '.join(other._names)} with"
                f" {'proven' if other.ids else 'no'} ids"
            )
        instruments, added = self.instruments, other.rows
        if self.instruments is not other.instruments:
            instruments, numbers = _united(self.instruments, other.instruments)
            added = added.copy()
            added["symbol_id"] = numbers[added["symbol_id"]]
            if not self.ids:
                # Arrivals are counted anew in each batch.
                traded = added["count"] > 0
                behind = int(self.rows["last_id"][self.rows["count"] > 0].max(initial=-1)) + 1
                for name in ("first_id", "last_id"):
                    added[name][traded] += behind
        mine, others = self._places(self.rows), self._places(added)
        shared = [key for key in mine if key in others]
        for key in shared:
            if REPORTED_STATUS in (self.rows["status"][mine[key]], added["status"][others[key]]):
                bar = self[mine[key]]
                raise ValueError(
                    f"{bar.symbol} {bar.spec} {bar.open_time:%Y-%m-%dT%H:%M:%SZ}: a REPORTED bar is the exchange's"
                    " candle, no set of trades, and does not merge with another bar"
                )
        rows = self.rows.copy()
        at = [mine[key] for key in shared]
        rows[at] = merge_rows(rows[at], added[[others[key] for key in shared]], self.ids)
        rest = [place for key, place in others.items() if key not in mine]
        rest_rows = added[rest]
        inside = None
        if any(spec.features for spec in self.specs):
            values = self._merged_inside(rows, other, [(mine[key], others[key]) for key in shared])
            of_merged = rows[at]
            of_merged["inside"] = np.arange(1, len(at) + 1)
            rows["inside"][at] = 0
            inside = joined([(rows, self._inside), (rest_rows, other._inside), (of_merged, Inside.of_values(values))])
            rows[at] = of_merged
        return BarBatch(np.concatenate([rows, rest_rows]), instruments, self.specs, ids=self.ids, inside=inside)

    def _merged_inside(self, rows: npt.NDArray[Any], other: BarBatch, places: list[tuple[int, int]]) -> list[Values]:
        # Of the bars of `rows` that were merged from one of `self` and one of `other`.
        values = []
        for place, its in places:
            inverse = bool(self.instruments.contract_size(self.instruments.symbol(int(rows[place]["symbol_id"]))))
            parts = [
                (batch.rows[at], values_at(batch.rows[at], batch._inside, batch.instruments, batch.specs))
                if batch._inside is not None and batch.rows[at]["inside"]
                else (batch.rows[at], NOTHING)
                for batch, at in ((self, place), (other, its))
            ]
            values.append(merged(rows[place], parts[0], parts[1], ids=self.ids, inverse=inverse))
        return values

    def resample(
        self,
        bars: str | int | BarSpec | Sequence[str | int | BarSpec],
        *,
        timezone: str | None = None,
        origin: Origin | None = None,
    ) -> BarBatch:
        """Make larger bars of these: exact, with the worst status of their parts.

        Each is made of bars of one spec, the longest whose intervals make up whole ones of the larger; of a bar that is
        there more than once the highest revision counts. Where an interval has no bar, ids may prove that nothing was
        traded; else the larger bar is PARTIAL, or GAP where they show that trades are missing (see docs/semantics.md,
        "Resampling").

        Args:
            bars: specs of the larger bars.
            timezone, origin: of day and longer bars that do not name their own (see `BarSpec.parse`).

        Returns:
            BarBatch, in order of close time.

        Raises:
            SpecError: a spec depends on the path, or no bars fit into it. PrecisionError: a sum does not fit 128 bits.
            ValueError: a bar does not cover an interval of its spec.
        """
        from fastbars.columnar.resampling import resampled  # noqa: PLC0415 for those who ask

        targets = parse_specs(bars, timezone=timezone, origin=origin)
        rows = resampled(self.rows, self.instruments, self.specs, targets, ids=self.ids)
        return BarBatch(rows, self.instruments, targets, ids=self.ids)

    def _places(self, rows: npt.NDArray[Any]) -> dict[tuple[int, int, int], int]:
        keys = rows[["symbol_id", "spec", "open_time"]].tolist()
        places = {key: place for place, key in enumerate(keys)}
        if len(places) != len(keys):
            raise ValueError("duplicate bar in the batch: keep only its last revision")
        if any(not self.specs[spec].is_timed for _, spec, _ in keys):
            raise ValueError("path-driven bars cannot be merged; only time bars can")
        return places


def _batch_of(
    kind: type[BarBatch],
    rows: npt.NDArray[Any],
    instruments: Instruments,
    specs: Sequence[BarSpec],
    ids: bool,
    inside: Inside | None = None,
) -> BarBatch:
    return kind(rows, instruments, specs, ids=ids, inside=inside)


def _united(mine: Instruments, others: Instruments) -> tuple[Instruments, npt.NDArray[np.int32]]:
    # Both sets of symbols as one, and the new id of each of the others.
    if (mine.exchange, mine.market) != (others.exchange, others.market):
        raise ValueError(f"bars of two markets do not merge: {mine.venue!r} and {others.venue!r}")
    both = Instruments(mine.exchange, mine.negative_prices or others.negative_prices, mine.market)
    for instruments in (mine, others):
        for symbol in instruments.symbols:
            contract = instruments.contract_size(symbol)
            if instruments is others and symbol in mine and mine.contract_size(symbol) != contract:
                raise ValueError(
                    f"{symbol}: bars of two contract sizes do not merge: {mine.contract_size(symbol)} and {contract}"
                )
            both.add(symbol, *instruments.scales(symbol), contract)
    return both, np.array([both.id(symbol) for symbol in others.symbols], np.int32)


def _shown(name: str) -> str:
    # As a terminal can show it, whatever is in it.
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
    return short if short.isprintable() and short else repr(short)


def _escaped(text: str) -> str:
    from html import escape  # noqa: PLC0415 for notebooks alone

    return escape(text)


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return _escaped(text if len(text) <= 64 else f"{text[:63]}\N{HORIZONTAL ELLIPSIS}")
