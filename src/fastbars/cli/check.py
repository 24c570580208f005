"""`fastbars check`: what is wrong with files of trades; and bars of files that have holes, for `build --repair`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fastbars.archives.doctor import check
from fastbars.archives.repair import RepairReport, repair
from fastbars.archives.report import as_json, as_table
from fastbars.cli.bar_writer import outlet_to_stdout
from fastbars.cli.console import Console
from fastbars.cli.text import printable
from fastbars.clocks import steady_s

__all__ = ["recognised", "run_check", "run_repair"]

_PROGRESS_S = 0.25
_MOST_LINES = 20  # of one kind


def run_check(options: argparse.Namespace, console: Console) -> int:
    """Check the files and report; returns 1 where something is wrong."""
    show = _shown(console)
    diagnosis = check(
        options.files,
        rest=options.rest,
        api_key=options.api_key,
        rest_url=options.rest_url,
        on_progress=lambda path, rows: show(f"{path.name}: {rows:,} rows"),
        on_asking=show,
        **recognised(options),
    )
    console.clear()
    with outlet_to_stdout() as outlet:
        if options.json:
            outlet.put(as_json(diagnosis).decode())
        else:
            for line in as_table(diagnosis):
                outlet.put(printable(line) + "\n")
    return 0 if diagnosis.is_sound else 1


def run_repair(options: argparse.Namespace, console: Console, to: Path, **given: Any) -> int:
    """Make bars of files that have holes, and report from where each was filled; returns 1 where some stay.

    Args:
        options: those of `build`: `files`, `bars`, `rest_url`, `api_key`, and those of `recognised`.
        console: where progress and the report go.
        to: the output.
        given: further arguments of `repair`.
    """
    report = repair(
        options.files,
        options.bars.split(","),
        to,
        rest=options.repair == "rest",
        api_key=options.api_key,
        rest_url=options.rest_url,
        on_progress=_shown(console),
        **given,
        **recognised(options),
    )
    console.clear()
    for line in _lines(report):
        console.say(printable(line))
    return 1 if report.left else 0


def recognised(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say of files whose names and headers do not."""
    return {
        "exchange": options.exchange,
        "market": options.market,
        "symbol": options.symbol,
        "format": options.file_format,
        "columns": options.columns,
        "time_unit": options.time_unit,
        "ids": options.ids,
    }


def _shown(console: Console) -> Callable[[str], None]:
    shown_at = steady_s()

    def show(text: str) -> None:
        nonlocal shown_at
        if console.shows_progress and steady_s() - shown_at >= _PROGRESS_S:
            shown_at = steady_s()
            console.show(text)

    return show


def _lines(report: RepairReport) -> Iterator[str]:
    yield from _bounded([f"{one.series}: ids {one.first}-{one.last} from {one.origin}" for one in report.filled])
    yield from _bounded([
        f"{one.series}: id {one.trade_id} has several contents; that of {one.taken_from}, row {one.row:,}, is taken,"
        f" which {one.votes} of {one.sources} have"
        for one in report.disputed
    ])  # fmt: skip
    yield from _bounded([
        f"{one.series}: ids {one.first}-{one.last} stay missing{one.why and f': {one.why}'}" for one in report.left
    ])  # fmt: skip
    filled, left = (sum(one.last - one.first + 1 for one in ranges) for ranges in (report.filled, report.left))
    unpublished = sum(last - first + 1 for _, first, last in report.unpublished)
    yield (
        f"{report.bars:,} bars; {filled:,} ids filled, {unpublished:,} are unpublished,"
        f" {len(report.disputed):,} have several contents, {left:,} stay missing"
    )


def _bounded(lines: list[str]) -> Iterator[str]:
    yield from lines[:_MOST_LINES]
    if len(lines) > _MOST_LINES:
        yield f"and {len(lines) - _MOST_LINES:,} more"
