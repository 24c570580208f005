"""The law of convergence over random lives; `python -m tests.convergence_law` lives more of them.

A scenario that fails is named, and runs alone with `--seed SEED --only NUMBER`.
"""

from __future__ import annotations

import logging

import pytest

from convergence_law import kinds_there_are, run_one
from examples import examples

SEED = 11
CHUNKS = 10
CHUNK = 20


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_two_processes_come_to_the_same_bars_and_to_those_of_the_truth(chunk: int) -> None:
    kinds = kinds_there_are()
    logging.disable(logging.CRITICAL)
    try:
        verdicts = [run_one(SEED, chunk * 1000 + number, kinds) for number in range(examples(CHUNK))]
    finally:
        logging.disable(logging.NOTSET)
    assert [
        f"python -m tests.convergence_law --seed {SEED} --only {one.number}: {one.faults[0]}"
        for one in verdicts
        if one.faults
    ] == []
    # The law was put to the test: bars were lost and healed, and both processes have the same ones.
    for event, least in (("anchors to be whole", 4), ("bars compared", 2)):
        assert sum(one.events[event] for one in verdicts) > least * len(verdicts)
    assert sum(one.statuses["HEALED"] for one in verdicts) > 2 * len(verdicts)
