"""The benchmark check fails when a hot part has become slower, and only then."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark comes with the bench extra")

from benchmarks.check import Results, check_ratios, grown_counts, lost_ratios, main, read
from benchmarks.instructions import own_cost

PROJECT = Path(__file__).resolve().parents[1]


def entry(
    name: str, seconds: float, *, trades: int = 1000, reference: bool = False, group: str = "g"
) -> dict[str, Any]:
    extra = {"trades": trades} | ({"reference": True} if reference else {})
    return {
        "group": group,
        "name": name,
        "fullname": f"benchmarks/x.py::{name}",
        "extra_info": extra,
        "stats": {"min": seconds},
    }


def test_a_ratio_is_the_time_of_the_reference_by_that_of_the_part_a_trade_each() -> None:
    results = Results.of([entry("fast", 1.0, trades=2000), entry("plain", 5.0, reference=True), entry("slow", 10.0)])
    assert results.ratios == {"g: fast": 10.0, "g: slow": 0.5}


def test_what_has_no_reference_has_no_ratio() -> None:
    others = [entry("alone", 1.0, group="h"), {**entry("untold", 1.0), "extra_info": {}}]
    others += [entry("b", 1.0, group="wall clock"), entry("a", 1.0, group="wall clock", reference=True)]
    assert Results.of([*others, entry("plain", 5.0, reference=True)]).ratios == {}


def test_a_loss_of_more_than_15_percent_is_named() -> None:
    assert lost_ratios({"a": 8.6, "b": 8.4}, {"a": 10.0, "b": 10.0}) == {
        "b": "8.40x its reference, the baseline is 10.00x: -16%"
    }


def test_a_part_that_is_gone_is_named() -> None:
    assert list(lost_ratios({}, {"a": 10.0})) == ["a"]
    assert grown_counts({}, {"a": 100.0}) == {"a": "was not counted"}


def test_3_percent_more_instructions_are_named() -> None:
    assert grown_counts({"a": 102.9, "b": 103.1}, {"a": 100.0, "b": 100.0}) == {
        "b": "103.1 instructions a trade, the baseline is 100.0: +3.1%"
    }


def test_only_what_compiled_modules_execute_themselves_is_counted() -> None:
    lines = """
events: Ir
ob=/usr/bin/python3
fl=ceval.c
fn=eval
10 1000
cob=/x/fastbars/_agg.cpython-311.so
cfn=update
calls=1 7
10 63
ob=/x/fastbars/_agg.cpython-311.so
fl=_agg.c
fn=update
7 40
cob=/lib/libc.so.6
cfn=memcpy
calls=2 1
8 20
9 3
fe=int128.h
12 2
ob=/lib/libc.so.6
fn=memcpy
1 20
totals: 1065
"""
    assert own_cost(lines.splitlines()) == 45


SLOWER = """
import fastbars.kernel.scaled

parse = fastbars.kernel.scaled.parse


def slow(text):
    parse(text)
    parse(text)
    return parse(text)


fastbars.kernel.scaled.parse = slow
"""


def measured(folder: Path, *options: str) -> Results:
    """A real run of the smallest benchmark."""
    path = folder / "bench.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--benchmark-json={path}", *options]
    subprocess.run([*command, "benchmarks/test_scaled.py"], check=True, cwd=PROJECT, capture_output=True)
    return read(path)


def test_a_hot_loop_slowed_on_purpose_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    (tmp_path / "slower.py").write_text(SLOWER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # a run of its own, not a part of this one
    name = "price text to an exact number: test_parse"
    # In turn, and the medians: what disturbs a run for seconds disturbs both.
    pairs = [(measured(tmp_path), measured(tmp_path, "-p", "slower")) for _ in range(3)]
    usual, slowed = (sorted(runs, key=lambda run: run.ratios[name])[1] for runs in zip(*pairs, strict=True))
    # Three times slower is far from 40 %.
    baseline = {name: 0.6 * usual.ratios[name]}
    assert list(lost_ratios(slowed.ratios, baseline)) == [name]
    # Measured again, without what slows it, it is as fast as it was.
    assert check_ratios(slowed, baseline) == {}


def test_a_loss_is_the_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    path, baseline = tmp_path / "bench.json", tmp_path / "baseline.json"
    machine = {"cpu": {"vendor_id_raw": "X", "family": 1, "model": 2, "arch": "Y"}}
    baseline.write_text(json.dumps({"ratios": {"X, family 1, model 2": {"g: fast": 10.0}}, "instructions": {}}))
    monkeypatch.setattr("benchmarks.check.BASELINE", baseline)
    monkeypatch.setattr("benchmarks.check.TRIES", 1)
    monkeypatch.setattr("benchmarks.instructions.available", lambda: False)
    for seconds, status in ((1.0, 0), (2.0, 1)):
        benchmarks = [entry("fast", seconds), entry("plain", 10.0, reference=True)]
        path.write_text(json.dumps({"benchmarks": benchmarks, "machine_info": machine}))
        assert main([str(path)]) == status
    before = tmp_path / "before.json"
    measured = {"X, family 1, model 2": {"g: fast": 5.0, "g: gone": 1.0}}
    before.write_text(json.dumps({"ratios": measured, "instructions": {}}))
    assert main([str(path), "--before", str(before)]) == 0
    assert "LOST  g: fast: 5.00x its reference, the baseline is 10.00x: -50%" in capsys.readouterr().out


def test_a_ratio_is_compared_with_that_of_the_same_kind_of_processor_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path, baseline = tmp_path / "bench.json", tmp_path / "baseline.json"
    of_others = {"X, family 1, model 3": {"g: fast": 10.0}}
    baseline.write_text(json.dumps({"ratios": of_others, "instructions": {}}))
    monkeypatch.setattr("benchmarks.check.BASELINE", baseline)
    monkeypatch.setattr("benchmarks.check.measure_again", lambda _: {"g: fast": 5.0})
    monkeypatch.setattr("benchmarks.instructions.available", lambda: False)
    benchmarks = [entry("fast", 2.0), entry("plain", 10.0, reference=True)]
    machine = {"cpu": {"vendor_id_raw": "X", "family": 1, "model": 2, "arch": "Y"}}
    path.write_text(json.dumps({"benchmarks": benchmarks, "machine_info": machine}))
    assert main([str(path)]) == 0
    assert "no baseline for X, family 1, model 2: not compared" in capsys.readouterr().out
    assert main([str(path), "--update"]) == 0
    assert json.loads(baseline.read_text())["ratios"] == of_others | {"X, family 1, model 2": {"g: fast": 5.0}}
    before = tmp_path / "before.json"
    before.write_text(json.dumps({"ratios": of_others, "instructions": {}}))
    assert main([str(path), "--before", str(before)]) == 1
    assert f"LOST  {before}: has nothing of X, family 1, model 2" in capsys.readouterr().out
