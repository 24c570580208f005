"""Sums the benchmarks up in nanoseconds a trade."""

from __future__ import annotations

from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--full`: the long runs, whose ratios bind."""
    parser.addoption("--full", action="store_true", help="measure with as many messages as the figures in docs/ were")


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """A line a benchmark: median nanoseconds a trade and, where its group has a reference, the ratio to that."""
    session = getattr(config, "_benchmarksession", None)
    entries = [b for b in getattr(session, "benchmarks", []) if b.extra_info.get("trades") and b.stats]
    if not entries:
        return
    terminalreporter.section(
        "CPU nanoseconds a trade: median (min to max), times faster than the plain-Python reference"
    )
    references = {b.group: b["median"] / b.extra_info["trades"] for b in entries if b.extra_info.get("reference")}
    for entry in entries:
        trades = entry.extra_info["trades"]
        low, median, high = (entry[key] / trades * 1e9 for key in ("min", "median", "max"))
        reference = references.get(entry.group)
        ratio = "" if reference is None else f"{reference / (entry['median'] / trades):>8.2f}x"
        terminalreporter.write_line(
            f"{entry.group:<30} {entry.name:<44} {median:>9.1f}  ({low:.1f} to {high:.1f})".ljust(108) + ratio
        )
