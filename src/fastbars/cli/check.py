"""`fastbars check`: what is wrong with files of trades."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastbars.archives.doctor import check
from fastbars.archives.report import as_json, as_table
from fastbars.cli.bar_writer import outlet_to_stdout
from fastbars.cli.console import Console
from fastbars.cli.text import printable
from fastbars.clocks import steady_s

__all__ = ["run_check"]

_PROGRESS_S = 0.25


def run_check(options: argparse.Namespace, console: Console) -> int:
    """Check the files and report; returns 1 where something is wrong."""
    shown_at = steady_s()

    def show(path: Path, rows: int) -> None:
        nonlocal shown_at
        if console.shows_progress and steady_s() - shown_at >= _PROGRESS_S:
            shown_at = steady_s()
            console.show(f"{path.name}: {rows:,} rows")

    diagnosis = check(
        options.files,
        exchange=options.exchange,
        market=options.market,
        symbol=options.symbol,
        format=options.file_format,
        columns=options.columns,
        time_unit=options.time_unit,
        ids=options.ids,
        rest=options.rest,
        api_key=options.api_key,
        rest_url=options.rest_url,
        on_progress=show,
        on_asking=console.show,
    )
    console.clear()
    with outlet_to_stdout() as outlet:
        if options.json:
            outlet.put(as_json(diagnosis).decode())
        else:
            for line in as_table(diagnosis):
                outlet.put(printable(line) + "\n")
    return 0 if diagnosis.is_sound else 1
