"""`fastbars resample`: larger bars of those in Parquet files."""

from __future__ import annotations

import argparse

from fastbars.archives.output import open_output
from fastbars.cli.bar_writer import bar_writer
from fastbars.columnar.bar_batch import BarBatch
from fastbars.errors import FastbarsError

__all__ = ["run_resample"]

_SLICE = 4096  # bars made at once for stdout


def run_resample(options: argparse.Namespace) -> int:
    """Write the larger bars to the file, the folder or stdout."""
    if options.partition_by and options.output is None:
        raise FastbarsError("--partition-by needs -o FOLDER")
    bars = BarBatch.from_parquet(options.files, exchange=options.exchange, market=options.market)
    larger = bars.resample(options.bars)
    if options.output is None:
        if options.format in ("parquet", "arrow"):
            raise FastbarsError(f"--format {options.format} needs -o FILE")
        with bar_writer(options.format or "table", None) as writer:
            for start in range(0, len(larger), _SLICE):
                for bar in larger[start : start + _SLICE]:
                    writer.write_bar(bar)
        return 0
    keys = options.partition_by.split(",") if options.partition_by else ()
    if options.format == "table":
        raise FastbarsError("--format table is for the terminal: a file has parquet, arrow, csv or jsonl")
    with open_output(options.output, form=options.format, partition_by=keys) as out:
        out.write(larger)
    return 0
