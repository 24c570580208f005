"""Archives of trades, as exchanges and data vendors publish them: files to columns, and columns to bars."""

from __future__ import annotations

from fastbars.archives.building import BuildProgress, BuildReport, build
from fastbars.archives.columns import TradeColumns
from fastbars.archives.declaration import ArchiveFile, Period
from fastbars.archives.doctor import check
from fastbars.archives.findings import Diagnosis, Finding, Kind
from fastbars.archives.formats import recognise
from fastbars.archives.reading import read_trades

__all__ = [
    "ArchiveFile",
    "BuildProgress",
    "BuildReport",
    "Diagnosis",
    "Finding",
    "Kind",
    "Period",
    "TradeColumns",
    "build",
    "check",
    "read_trades",
    "recognise",
]
