"""Sums the benchmarks up as rows of Markdown, as they stand in docs/performance.md."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.yardstick import HELD, use_short_form


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--full`: the long runs, whose ratios bind."""
    parser.addoption("--full", action="store_true", help="measure with as many messages as the figures in docs/ were")


def pytest_configure(config: pytest.Config) -> None:
    """The short form allows bounds some more."""
    if not config.getoption("--full"):
        use_short_form()


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """Nanoseconds a trade, median (min to max), how many times faster than the reference of its group; bounds held."""
    session = getattr(config, "_benchmarksession", None)
    entries = [b for b in getattr(session, "benchmarks", []) if b.extra_info.get("trades") and b.stats]
    if entries:
        terminalreporter.section("CPU nanoseconds a trade, or bar; times faster than the reference of the group")
    references = {b.group: b["median"] / b.extra_info["trades"] for b in entries if b.extra_info.get("reference")}
    for entry in entries:
        trades = entry.extra_info["trades"]
        low, median, high = (entry[key] / trades * 1e9 for key in ("min", "median", "max"))
        reference = references.get(entry.group)
        ratio = "" if reference is None else f"{reference / (entry['median'] / trades):.2f}"
        name = entry.name.removeprefix("test_").replace("_", " ")
        terminalreporter.write_line(f"| {entry.group}: {name} | {median:,.1f} ({low:,.1f} to {high:,.1f}) | {ratio} |")
    if HELD:
        terminalreporter.section("Bounds: found, at most")
    for row in HELD:
        terminalreporter.write_line(row)
