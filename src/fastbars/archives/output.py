"""Where bars go that are made of files: Parquet, Arrow IPC, CSV or JSON lines; as a whole, or nothing at all.

Whatever the number of bars, and however they come in batches: the memory is bounded, and equal bars in the same order
make the same bytes. Tables wait in a folder beside their place until the end, when the decimals that their columns need
are known.

Units: as in `fastbars.bars`.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TextIO
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from fastbars.columnar.bar_batch import BarBatch
from fastbars.columnar.lines import CSV_HEADER, line_maker
from fastbars.columnar.parquet import Scales, TableFile, files_of, pyarrow, widened
from fastbars.columnar.replacing import Replacement
from fastbars.columnar.rows import BarNames, Rows, joined
from fastbars.errors import FastbarsError
from fastbars.kernel.fields import ROW_DTYPE

__all__ = ["OUTPUT_FORMATS", "PARTITIONS", "BarOutput", "open_output"]

OUTPUT_FORMATS = ("parquet", "arrow", "csv", "jsonl")
PARTITIONS = ("exchange", "market", "spec", "symbol", "date")
"""By which a folder of Parquet files can be divided; the date is the UTC day of open_time."""
_SUFFIXES = {
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".csv": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
}  # fmt: skip
_FILE_NAME = "bars.parquet"
_MOST_WAITING = 1 << 18  # rows in memory: 67 MB
_FRAME = struct.Struct("<QQ")  # bytes of rows, and compressed
_DAY_NS = 86_400 * 10**9
_MOST_LINES = 8192  # of text, made at once

Key = tuple[int, ...]


class _Sink(Protocol):
    def write(self, batch: BarBatch) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class BarOutput:
    """Bars on their way to a file or folder; a context manager that aborts on an exception, and closes otherwise.

    Attributes:
        bars: how many were written.
    """

    def __init__(self, sink: _Sink) -> None:
        self._sink: _Sink | None = sink
        self.bars = 0

    def write(self, batch: BarBatch) -> None:
        """Add bars behind those written so far.

        Raises:
            OSError. ValueError: it is closed.
        """
        if self._sink is None:
            raise ValueError("the output of bars is closed")
        self._sink.write(batch)
        self.bars += len(batch)

    def close(self) -> None:
        """Finish, and put the result in its place; idempotent.

        Raises:
            PrecisionError: a value needs more than 38 digits with the decimals that its column has. OSError.
                In both cases nothing is left of what was written, and what was in its place still is.
        """
        sink, self._sink = self._sink, None
        if sink is None:
            return
        try:
            sink.close()
        except BaseException:
            sink.abort()
            raise

    def abort(self) -> None:
        """Delete what was written; what was in its place still is. Idempotent."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.abort()

    def __enter__(self) -> BarOutput:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def open_output(to: str | os.PathLike[str], *, form: str | None = None, partition_by: Sequence[str] = ()) -> BarOutput:
    """Open a file or folder for bars.

    Args:
        to: a file, which is replaced when the output is closed; or, with `partition_by`, a folder, in which files of
            the same partitions are replaced and others are kept.
        form: "parquet", "arrow", "csv" or "jsonl"; None: by the suffix.
        partition_by: of PARTITIONS, outermost first, such as ("symbol", "date"): folders such as
            `symbol=BTCUSDT/date=2025-01-01`, each with a Parquet file. These columns are in the paths alone.

    Raises:
        FastbarsError: the format is not known, or not partitioned; or the folder holds other files. OSError.
    """
    path = Path(to)
    form = form or ("parquet" if partition_by else _SUFFIXES.get(path.suffix.lower()))
    if form is None:
        raise FastbarsError(f"{path}: the suffix names no format; known are {', '.join(_SUFFIXES)}")
    if form not in OUTPUT_FORMATS:
        raise FastbarsError(f"{path}: format {form!r} is not one of {', '.join(OUTPUT_FORMATS)}")
    if any(key not in PARTITIONS for key in partition_by) or len(set(partition_by)) != len(partition_by):
        raise FastbarsError(f"partitions {', '.join(partition_by)}: each must be one of {', '.join(PARTITIONS)}, once")
    if partition_by and form != "parquet":
        raise FastbarsError(f"{path}: only Parquet can be partitioned, not {form}")
    if form in ("csv", "jsonl"):
        return BarOutput(_Lines(path, form))
    pyarrow()
    return BarOutput(_Tables(path, form, tuple(partition_by)))


class _Lines:
    # Text, written as it comes.

    def __init__(self, path: Path, form: str) -> None:
        maker = line_maker(form)
        assert maker is not None
        self._maker = maker
        self._new: Replacement | None = None
        # A pipe or a device cannot be replaced.
        if path.is_dir() or not path.exists() or stat.S_ISREG(path.stat().st_mode):
            self._new = Replacement(path)
        self._file: TextIO = (self._new.part if self._new else path).open(
            "w", encoding="utf-8", newline="", errors="backslashreplace"
        )
        if form == "csv":
            self._file.write(CSV_HEADER + "\n")

    def write(self, batch: BarBatch) -> None:
        specs = tuple(map(str, batch.specs))
        for start in range(0, len(batch), _MOST_LINES):
            rows = np.ascontiguousarray(batch.rows[start : start + _MOST_LINES])
            lines = self._maker.make(rows, batch.instruments, specs, batch.ids)
            self._file.write("\n".join([*lines, ""]))

    def close(self) -> None:
        self._file.close()
        if self._new is not None:
            self._new.commit()

    def abort(self) -> None:
        with suppress(OSError):
            self._file.close()
        if self._new is not None:
            self._new.discard()


class _Tables:
    # Rows wait, divided by partitions, in memory and then in files, until the decimals that each file needs are known.

    def __init__(self, path: Path, form: str, keys: tuple[str, ...]) -> None:
        self._form, self._keys = form, keys
        self._names = BarNames()
        self._waiting: dict[Key, list[Rows]] = {}
        self._scales: dict[Key, Scales] = {}
        self._spilled: dict[Key, Path] = {}
        self._count = 0
        if keys:
            _check_layout(path, keys)
        elif path.is_dir():
            raise IsADirectoryError(21, "a folder is where the file is to be", str(path))
        self._folder = Replacement(path, folder=True)

    def write(self, batch: BarBatch) -> None:
        rows = self._names.numbered(batch.rows, batch.instruments, batch.specs, ids=batch.ids)
        for key, part in self._divided(rows):
            self._waiting.setdefault(key, []).append(part)
            self._scales[key] = widened(self._scales.get(key, {}), part)
        self._count += len(rows)
        if self._count > _MOST_WAITING:
            self._spill()

    def close(self) -> None:
        tree = self._folder.part / "tree"
        tree.mkdir()
        target = self._folder.target
        if not self._keys:
            new = Replacement(target)
            try:
                self._write_file((), new.part)
                new.commit()
            except BaseException:
                new.discard()
                raise
        else:
            files = [self._write_partition(key, tree) for key in list(self._scales)]
            if target.exists():
                for file in files:
                    place = target / file.relative_to(tree)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    file.replace(place)
            else:
                tree.replace(target)
        self.abort()

    def abort(self) -> None:
        shutil.rmtree(self._folder.part, ignore_errors=True)

    def _divided(self, rows: Rows) -> Iterator[tuple[Key, Rows]]:
        if not self._keys:
            yield (), rows
            return
        if not len(rows):
            return
        columns = np.stack([self._codes(name, rows) for name in self._keys], axis=1)
        found, places = np.unique(columns, axis=0, return_inverse=True)
        order = np.argsort(places.reshape(-1), kind="stable")
        borders = np.searchsorted(places.reshape(-1)[order], np.arange(len(found) + 1))
        for place, key in enumerate(found.tolist()):
            yield tuple(key), joined([rows[order[borders[place] : borders[place + 1]]]])

    def _codes(self, name: str, rows: Rows) -> npt.NDArray[np.int64]:
        # Equal ones for equal texts: the number of the first that has it.
        if name == "date":
            return np.asarray(rows["open_time"] // _DAY_NS, np.int64)
        if name == "spec":
            return np.asarray(rows["spec"], np.int64)
        first: dict[str, int] = {}
        texts = [self._text(name, number) for number in range(len(self._names.symbols))]
        codes = np.array([first.setdefault(text, place) for place, text in enumerate(texts)], np.int64)
        return np.asarray(codes[rows["symbol_id"]])

    def _text(self, name: str, code: int) -> str:
        if name == "date":
            return str(np.datetime64(code, "D"))
        if name == "spec":
            return self._names.specs[code]
        market, symbol, _ = self._names.symbols[code]
        return symbol if name == "symbol" else self._names.markets[market][name == "market"]

    def _write_partition(self, key: Key, tree: Path) -> Path:
        texts = zip(self._keys, key, strict=True)
        folder = tree.joinpath(*(f"{name}={quote(self._text(name, code), safe='')}" for name, code in texts))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise FastbarsError(
                f"{folder.relative_to(tree)}: the file system does not tell this folder from one whose name differs in"
                " case: partition by something else"
            ) from None
        self._write_file(key, folder / _FILE_NAME)
        return folder / _FILE_NAME

    def _write_file(self, key: Key, path: Path) -> None:
        file = TableFile(path, self._form, self._names, self._scales.get(key, {}), self._keys)
        try:
            for rows in self._rows_of(key):
                file.write(rows)
        except BaseException:
            file.abort()
            raise
        file.close()

    def _spill(self) -> None:
        for key, parts in self._waiting.items():
            path = self._spilled.setdefault(key, self._folder.part / f"{len(self._spilled)}.rows")
            rows = joined(parts)
            packed = pyarrow().compress(rows.tobytes(), codec="lz4", asbytes=True)
            with path.open("ab") as file:
                file.write(_FRAME.pack(rows.nbytes, len(packed)) + packed)
        self._waiting.clear()
        self._count = 0

    def _rows_of(self, key: Key) -> Iterator[Rows]:
        if key in self._spilled:
            with self._spilled[key].open("rb") as file:
                while header := file.read(_FRAME.size):
                    size, packed = _FRAME.unpack(header)
                    data = pyarrow().decompress(file.read(packed), size, codec="lz4", asbytes=True)
                    yield np.frombuffer(data, ROW_DTYPE)
        yield joined(self._waiting.pop(key, []))


def _check_layout(path: Path, keys: tuple[str, ...]) -> None:
    # Files of other partitions would be read beside the new ones, and bars come twice.
    if not path.exists():
        return
    if not path.is_dir():
        raise FastbarsError(f"{path}: with partitions it must be a folder, and is a file")
    for file in files_of(path) if any(path.iterdir()) else ():
        *folders, name = file.relative_to(path).parts
        if name != _FILE_NAME or tuple(folder.partition("=")[0] for folder in folders) != keys:
            raise FastbarsError(
                f"{path}: {file.relative_to(path)} is not of the partitions {', '.join(keys)}: choose another folder"
            )
