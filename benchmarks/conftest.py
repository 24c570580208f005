"""Adds nanoseconds a trade to every benchmark that says how many trades a round has."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> Any:  # noqa: ARG001
    for entry in output_json["benchmarks"]:
        trades = entry["extra_info"].get("trades")
        if trades:
            entry["extra_info"]["ns_per_trade"] = entry["stats"]["median"] / trades * 1e9
    return (yield)


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """A line a benchmark: median nanoseconds a trade, and the ratio to the slowest of its group."""
    session = getattr(config, "_benchmarksession", None)
    entries = [b for b in getattr(session, "benchmarks", []) if b.extra_info.get("trades") and b.stats]
    if not entries:
        return
    terminalreporter.section("CPU nanoseconds a trade, median (min to max); times faster than the group's slowest")
    slowest: dict[str, float] = {}
    for entry in entries:
        cost = entry["median"] / entry.extra_info["trades"]
        slowest[entry.group] = max(slowest.get(entry.group, 0.0), cost)
    for entry in entries:
        low, median, high = (entry[key] / entry.extra_info["trades"] * 1e9 for key in ("min", "median", "max"))
        ratio = slowest[entry.group] / (median / 1e9)
        terminalreporter.write_line(
            f"{entry.group:<28} {entry.name:<38} {median:>10.1f}  ({low:.1f} to {high:.1f})  {ratio:>8.1f}x"
        )
