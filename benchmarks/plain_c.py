"""benchmarks/reference.c, built and called; imports numpy alone, so that any environment can run it."""

from __future__ import annotations

import ctypes
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

VARIANTS = ("by_trade", "by_stretch")
INT128 = (np.int64, 2)
BAR = np.dtype(
    [(name, np.int64) for name in ("last_time", "last_id", "high", "low", "close", "count")]
    + [(name, *INT128) for name in ("volume", "quote_volume", "taker_volume", "taker_quote_volume")]
    + [(name, np.int64) for name in (
        "open_time", "close_time", "first_time", "first_id", "open", "row", "missing")]
    + [(name, np.int32) for name in ("symbol_id", "spec", "revision", "unpublished")]
    + [("status", np.uint8), ("reason", np.uint8)]
    + [(name, np.int8) for name in ("price_scale", "size_scale", "quote_scale")]
    + [("", np.void, 3)]
)  # fmt: skip
_POINTERS = ("time_ns", "price", "size", "first_id", "symbol_id", "side")
_LINE = 64


class _Columns(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in _POINTERS] + [("rows", ctypes.c_int64)]


class PlainC:
    """The library, built once, and memory for bars, which is kept: pages are touched once, and not by every call."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder, "reference.so")
            compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
            source = Path(__file__).with_name("reference.c")
            subprocess.run([compiler, "-O3", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
            self.library = ctypes.CDLL(str(library))
        for name in ("state_bytes", "bar_bytes", *VARIANTS, "flush"):
            getattr(self.library, name).restype = ctypes.c_int64
        assert self.library.bar_bytes() == BAR.itemsize
        self._kept = np.zeros(0, np.uint8)

    def bars(
        self, variant: str, trades: dict[str, npt.NDArray[Any]], symbols: int, room: int = 0, ends: bool = False
    ) -> npt.NDArray[Any]:
        """The bars that close, and with `ends` those that are open at the end.

        Args:
            variant: one of VARIANTS.
            trades: columns of benchmarks/market.py.
            symbols: ids are below this.
            room: for so many bars; by default for one a trade.
            ends: also issue what is open at the end.

        Returns:
            An array of BAR that the next call overwrites.
        """
        rows = len(trades["time_ns"])
        columns = _Columns(*(trades[name].ctypes.data for name in _POINTERS), rows)
        size = (room or rows + symbols) * BAR.itemsize + _LINE
        if len(self._kept) < size:
            self._kept = np.ones(size, np.uint8)
        problems = np.zeros(2, np.int64)
        states = np.zeros(self.library.state_bytes() * symbols + _LINE, np.uint8)
        start = ctypes.c_void_p(_aligned(states))
        bars = ctypes.c_void_p(_aligned(self._kept))
        function = getattr(self.library, variant)
        count = function(start, ctypes.byref(columns), bars, ctypes.c_void_p(problems.ctypes.data))
        assert not problems.any()
        if ends:
            count = self.library.flush(
                start, ctypes.c_int64(symbols), ctypes.c_int64(rows), ctypes.c_int64(count), bars
            )
        offset = _aligned(self._kept) - self._kept.ctypes.data
        return self._kept[offset : offset + count * BAR.itemsize].view(BAR)


def _aligned(memory: npt.NDArray[np.uint8]) -> int:
    return (memory.ctypes.data + _LINE - 1) // _LINE * _LINE


def fields(rows: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.int64]]:
    """The values that all sides make, as int64 columns, from rows of BAR or of the kernel."""
    made = {}
    for name in (
        "symbol_id", "open_time", "open", "high", "low", "close", "volume", "quote_volume", "taker_volume",
        "taker_quote_volume", "count", "first_id", "last_id", "first_time", "last_time",
    ):  # fmt: skip
        column = rows[name]
        if column.ndim == 2:
            assert (column[:, 1] == 0).all()
            column = column[:, 0]
        elif column.dtype.names:
            assert (column["hi"] == 0).all()
            column = column["lo"]
        made[name] = column.astype(np.int64)
    return made
