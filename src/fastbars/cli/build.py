"""`fastbars build`: bars of files of trades."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from fastbars.archives.building import BuildProgress, BuildReport, build
from fastbars.cli.check import recognised, run_repair
from fastbars.cli.console import Console
from fastbars.clocks import steady_s

__all__ = ["run_build"]

_PROGRESS_S = 0.25


def run_build(options: argparse.Namespace, console: Console) -> int:
    """Make bars of the files; returns 1 where `--repair` was asked for and something stays missing."""
    to: Path = options.output
    given = {"form": options.format, "partition_by": options.partition_by.split(",") if options.partition_by else ()}
    if options.repair is not None:
        return run_repair(options, console, to, **given)
    shown_at = steady_s()

    def show(progress: BuildProgress) -> None:
        nonlocal shown_at
        if console.shows_progress and steady_s() - shown_at >= _PROGRESS_S:
            shown_at = steady_s()
            console.show(_progress(progress))

    try:
        with _workers(options) as workers:
            report = build(
                options.files,
                options.bars.split(","),
                to,
                workers=workers,
                on_progress=show,
                **given,
                **recognised(options),
            )
    except KeyboardInterrupt as error:
        error.add_note("the same command goes on from here")
        raise
    console.clear()
    console.say(_summary(report, to))
    return 0


@contextmanager
def _workers(options: argparse.Namespace) -> Iterator[int | Executor]:
    if options.on is None:
        yield options.workers
        return
    from fastbars.cluster.executor import RayExecutor  # noqa: PLC0415 for those who ask for it

    executor = RayExecutor(options.on)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _progress(progress: BuildProgress) -> str:
    rate = progress.trades / progress.elapsed_s if progress.elapsed_s > 0 else 0.0
    left = "" if progress.left_s is None else f", {_duration(progress.left_s)} left"
    return (
        f"{progress.files:,} of {progress.total_files:,} files, {progress.bytes / 1e6:,.0f} of"
        f" {progress.total_bytes / 1e6:,.0f} MB, {progress.trades:,} trades, {rate:,.0f}/s{left}"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _summary(report: BuildReport, to: Path) -> str:
    parts = [f"{to}: {report.bars:,} bars of {report.trades:,} trades in {report.files:,} files"]
    for count, what in (
        (report.resumed, "files were read by an earlier run"),
        (report.voids, "ids were used up, and nothing traded"),
        (report.duplicates, "trades came twice"),
        (report.dropped, "rows of size 0 were left out"),
    ):
        if count:
            parts.append(f"{count:,} {what}")
    return "; ".join(parts)
