"""`make bench-check`: no hot part has become slower, relative to its reference in the same run, than the baseline says.

    python -m benchmarks.check build/bench.json              # compare, exit status 1 on a loss
    python -m benchmarks.check build/bench.json --update     # measure twice more; the medians become the baseline
    python -m benchmarks.check build/bench.json --before BASELINE   # against one that was just measured here
    python -m benchmarks.check                               # counts of instructions alone

A ratio is the reference's time a trade by the hot part's, both the smallest of their rounds, so that a busy neighbour
is no loss; it is compared with what the baseline has of this kind of processor. A part that seems to have lost is
measured again, with its reference, before it counts. Instruction counts under callgrind are the second guard, free of
noise but tied to a compiler.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import instructions

BASELINE = Path(__file__).with_name("baseline.json")
LOSS = 0.15  # of a ratio
GROWTH = 0.03  # of a count of instructions
TRIES = 4
BASELINE_RUNS = 3

Ratios = dict[str, float]


@dataclass
class Results:
    """What a run of the benchmarks says: ratios by "group: name", and where each comes from."""

    ratios: Ratios = field(default_factory=dict)
    sources: dict[str, set[str]] = field(default_factory=dict)
    processor: str = ""

    @classmethod
    def of(cls, benchmarks: Iterable[dict[str, Any]]) -> Results:
        """The ratios in pytest-benchmark's JSON; groups without a reference have none."""
        results = cls()
        # Wall-clock time says how busy the machine was.
        timed = [e for e in benchmarks if e["extra_info"].get("trades") and "wall clock" not in e["group"]]
        references = {entry["group"]: entry for entry in timed if entry["extra_info"].get("reference")}
        for entry in timed:
            reference = references.get(entry["group"])
            if reference is None or entry is reference:
                continue
            name = f"{entry['group']}: {entry['name']}"
            results.ratios[name] = time_of(reference) / time_of(entry)
            results.sources[name] = {entry["fullname"], reference["fullname"]}
        return results


def time_of(entry: dict[str, Any]) -> float:
    """Seconds a trade, of the fastest round."""
    return float(entry["stats"]["min"]) / int(entry["extra_info"]["trades"])


def lost_ratios(measured: Ratios, baseline: Ratios) -> dict[str, str]:
    """Hot parts that lost more than the limit, or are gone: name -> what is wrong."""
    lost = {}
    for name, expected in baseline.items():
        found = measured.get(name)
        if found is None:
            lost[name] = "was not measured; `make bench-baseline` if it is meant to be gone"
        elif found < expected * (1 - LOSS):
            lost[name] = f"{found:.2f}x its reference, the baseline is {expected:.2f}x: {found / expected - 1:+.0%}"
    return lost


def grown_counts(measured: dict[str, float], baseline: dict[str, float]) -> dict[str, str]:
    """Hot parts that execute more instructions than the limit allows: name -> what is wrong."""
    grown = {}
    for name, expected in baseline.items():
        found = measured.get(name)
        if found is None:
            grown[name] = "was not counted"
        elif found > expected * (1 + GROWTH):
            growth = found / expected - 1
            grown[name] = f"{found:.1f} instructions a trade, the baseline is {expected:.1f}: {growth:+.1%}"
    return grown


def read(path: Path) -> Results:
    """The results in a file of pytest-benchmark's."""
    saved = json.loads(path.read_text(encoding="utf-8"))
    results = Results.of(saved["benchmarks"])
    cpu = saved["machine_info"]["cpu"]
    maker = cpu.get("vendor_id_raw") or cpu.get("brand_raw") or cpu["arch"]
    results.processor = f"{maker}, family {cpu.get('family')}, model {cpu.get('model')}"
    return results


def measure_again(sources: set[str]) -> Ratios:
    """Run these benchmarks once more."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "again.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-disable-gc"]
        command.append(f"--benchmark-json={path}")
        subprocess.run([*command, *sorted(sources)], check=True, stdout=subprocess.DEVNULL)
        return read(path).ratios


def check_ratios(results: Results, baseline: Ratios) -> dict[str, str]:
    """What is lost even in the best of several tries."""
    measured = dict(results.ratios)
    for _ in range(TRIES - 1):
        again = {name for name in lost_ratios(measured, baseline) if name in measured}
        if not again:
            break
        for name, ratio in measure_again(set().union(*(results.sources[name] for name in again))).items():
            measured[name] = max(ratio, measured.get(name, 0.0))
    return lost_ratios(measured, baseline)


def median_ratios(results: Results) -> Ratios:
    """What becomes the baseline: of several runs, so that no lucky or unlucky one is what all others are held to."""
    runs = [results.ratios, *(measure_again(set().union(*results.sources.values())) for _ in range(BASELINE_RUNS - 1))]
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in sorted(results.ratios)}


def show(title: str, measured: dict[str, float], baseline: dict[str, float], unit: str) -> None:
    """A line each."""
    print(title)
    for name in sorted(measured.keys() | baseline.keys()):
        now, before = (
            f"{values[name]:10.2f}{unit}" if name in values else "       none" for values in (measured, baseline)
        )
        print(f"  {name:<72} {now}   baseline {before}")


def stored_in(path: Path) -> dict[str, Any]:
    """A baseline: "ratios" by processor, and "instructions" by compiler."""
    return json.loads(path.read_text()) if path.is_file() else {"ratios": {}, "instructions": {}}


def main(words: list[str]) -> int:
    """Exit status: 1 if anything has been lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check")
    parser.add_argument("results", nargs="*", type=Path, help="JSON of pytest-benchmark")
    parser.add_argument("--update", action="store_true", help="what is measured becomes the baseline")
    parser.add_argument("--before", type=Path, help="a baseline of an earlier commit, measured on this machine")
    options = parser.parse_args(words)
    stored = stored_in(BASELINE)
    if options.before is not None:
        committed, stored = stored, json.loads(options.before.read_text())
        kept = {name for ratios in committed["ratios"].values() for name in ratios}
        stored["ratios"] = {
            processor: {name: ratio for name, ratio in ratios.items() if name in kept}
            for processor, ratios in stored["ratios"].items()
        }
    wrong: dict[str, str] = {}
    for path in options.results:
        results = read(path)
        if options.update:
            stored["ratios"][results.processor] = median_ratios(results)
        ratios = stored["ratios"].get(results.processor, {})
        show(f"Times faster than the reference, {results.processor}", results.ratios, ratios, "x")
        if not ratios:
            print(f"  no baseline for {results.processor}: not compared")
            if options.before is not None:  # it was measured on this machine, or is no use
                wrong[str(options.before)] = f"has nothing of {results.processor}"
        wrong |= check_ratios(results, ratios)
    if not instructions.available():
        print("Instructions were not counted: valgrind is not installed")
    else:
        key, counts = instructions.compiler(), instructions.count()
        if options.update:
            stored["instructions"][key] = {name: round(count, 2) for name, count in counts.items()}
        expected = stored["instructions"].get(key, {})
        show(f"Instructions a trade or bar, {key}", counts, expected, " ")
        if not expected:
            print(f"  no baseline for {key}: not compared")
        wrong |= grown_counts(counts, expected)
    if options.update:
        BASELINE.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")
    print("".join(f"LOST  {name}: {what}\n" for name, what in wrong.items()) or "Nothing is lost.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
