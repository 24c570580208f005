"""Adding an exchange, a bar kind and a bar field: in the files that docs/architecture.md names, and working.

Each test copies the project, touches those files and no others, and runs the copy.
"""

from __future__ import annotations

import re
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import pairwise
from pathlib import Path

import pytest

from extending import PROJECT, Copy, files_named_for
from test_architecture import SHARED_DUTIES, imported

PAGE = PROJECT / "docs" / "add-an-exchange.md"
IS_BUILT_IN_PLACE = any((PROJECT / "src" / "fastbars").glob(f"_agg*{suffix}") for suffix in EXTENSION_SUFFIXES)
pytestmark = pytest.mark.skipif(not IS_BUILT_IN_PLACE, reason="the compiled modules do not lie beside the sources")


def blocks_of(page: str) -> tuple[dict[str, str], list[str], dict[str, str]]:
    """Of a page: file -> text of those that it adds, the scripts that it runs, and line -> lines in its place."""
    files = dict(re.findall(r"^`([\w/.]+)`:\n\n```python\n(.*?)```", page, re.M | re.S))
    scripts = [block for block in re.findall(r"```python\n(.*?)```", page, re.S) if block not in files.values()]
    changes: dict[str, str] = {}
    for block in re.findall(r"```diff\n(.*?)```", page, re.S):
        lines = [(line[:1], line[1:]) for line in block.splitlines()]
        for (mark, line), (following_mark, following) in pairwise(lines):
            if following_mark == "+":
                changes[f"{line}\n"] = f"{following}\n" if mark == "-" else f"{line}\n{following}\n"
    return files, scripts, changes


def test_following_the_page_adds_an_exchange_in_four_files_that_streams(tmp_path: Path) -> None:
    files, scripts, changes = blocks_of(PAGE.read_text(encoding="utf-8"))
    copy = Copy(tmp_path)
    for file, text in files.items():
        copy.write(file, text)
    copy.edit("src/fastbars/exchanges/__init__.py", changes)
    assert copy.changed() == files_named_for("An exchange", "bitget")
    assert len(copy.changed()) == 4
    contract = copy.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_exchange_contract.py")
    assert " passed" in contract
    compared = ("tests/test_candles_of_venues.py", "-k", "bitget")
    assert "3 passed" in copy.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *compared)
    copy.run("-c", "\n".join(scripts))


def test_the_exchange_of_the_page_leaves_sockets_timers_and_scaling_to_others() -> None:
    files, _, _ = blocks_of(PAGE.read_text(encoding="utf-8"))
    names = set(imported(files["src/fastbars/exchanges/bitget.py"], compiled=False))
    assert {name for name in names for duty in SHARED_DUTIES if name == duty or name.startswith(f"{duty}.")} == set()


# A bar ends with the trade that makes so many in a row, all bought or all sold by the taker, wherever the row began.
RUN_RULE = """
cdef struct Run:
    int64_t length
    int8_t side


cdef bint _is_run_long(
    const Rule *rule, const Summary *bar, const int128 *step, void *state, const Columns *batch, Py_ssize_t row,
    Ending *ending
) noexcept nogil:
    cdef Run *run = <Run *>state
    cdef int8_t side = batch.side[row & batch.side_mask]
    run.length = (run.length if side == run.side else 0) + trades_of(batch, row)
    run.side = side
    if run.length < rule.step:
        return False
    run.length = 0
    return True


cdef bint _is_sound_run(const void *state, const Summary *bar) noexcept nogil:
    cdef const Run *run = <const Run *>state
    return run.length >= 0 and -1 <= run.side <= 1


"""
RUN_IN_THE_ORACLE = """        if kind == "run":
            return [self.shut("trade")] if self._ends_a_run(trade, int(text)) else []
"""
RUN_OF_THE_ORACLE = '''    def _ends_a_run(self, trade: Trade, step: int) -> bool:
        """Whether the trades since the last run, taken from behind, are so many of one side."""
        sides = self.__dict__.setdefault("sides", [])
        sides += [trade.side] * trade.trade_count
        ends = len(sides) >= step and len(set(sides[-step:])) == 1
        if ends:
            sides.clear()
        return ends

    def _place_timed('''
ADD_A_KIND = {
    "src/fastbars/specs.py": {
        '    CUSUM = "cusum"\n': '    CUSUM = "cusum"\n    RUN = "run"\n',
        "_WHOLE_STEPS = (BarKind.TIME, BarKind.TICK)": "_WHOLE_STEPS = (BarKind.TIME, BarKind.TICK, BarKind.RUN)",
    },
    "src/fastbars/kernel/paths.pyx": {
        "from libc.stdint cimport int64_t\n": "from libc.stdint cimport int8_t, int64_t\n",
        "passes cimport Columns\n": "passes cimport Columns, trades_of\n",
        "cdef const PathRule *path_rule_of(": f"{RUN_RULE.lstrip()}cdef const PathRule *path_rule_of(",
        "assert (_KINDS[": '_enter("run", TRADES, _is_run_long, sizeof(Run), NULL, _is_sound_run)\nassert (_KINDS[',
    },
    "tests/oracle.py": {
        "        reached = {": f"{RUN_IN_THE_ORACLE}        reached = {{",
        "    def _place_timed(": RUN_OF_THE_ORACLE,
    },
}
CHECK_THE_KIND = """
import pickle, sys
from decimal import Decimal

sys.path.insert(0, "tests")
from hypothesis import given, settings, strategies as st
from oracle import Oracle, Trade
from strategies import buffer_for, expected, oracle_for, replay, scenarios

import fastbars
from fastbars import BarBuffer, BarSpec


@settings(max_examples=150, deadline=None, database=None)
@given(scenarios(specs=("run:1", "run:2", "run:4", "tick:3", "5s")), st.integers(0, 40))
def every_bar_equals_the_oracle(scenario, cut):
    lines = expected(oracle_for(scenario), scenario.events)
    assert replay(buffer_for(scenario), scenario.events, scenario.cuts) == lines
    first = buffer_for(scenario)
    before = replay(first, scenario.events[:cut], scenario.cuts, flush=False)
    second = buffer_for(scenario._replace(contract_sizes=()))
    second.load(pickle.loads(pickle.dumps(first.dump())), continues=True)
    behind = frozenset(place - cut for place in scenario.cuts if place >= cut)
    assert before + replay(second, scenario.events[cut:], behind) == lines


every_bar_equals_the_oracle()

sides = [1, 1, -1, -1, -1, 1, -1, 1, 1, 1, 1, 1, 1, -1]
trades = [Trade("A", n, Decimal(100 + n), Decimal(1), side, n, n) for n, side in enumerate(sides)]
oracle = Oracle(["run:3"], "contiguous")
lines = [line for trade in trades for line in oracle.add(trade)] + oracle.flush()
assert [line.trade_count for line in lines] == [5, 5, 3, 1]
columns = {"price": [100 + n for n in range(14)], "size": [1] * 14, "side": sides, "trade_id": list(range(14))}
bars = fastbars.aggregate(list(range(14)), symbol="A", bars="run:3", **columns)
assert [tuple(getattr(bar, name) for name in lines[0]._fields) for bar in bars] == [tuple(line) for line in lines]
buffer = BarBuffer("run:3", ids="contiguous")
for n, side in enumerate(sides):
    buffer.add("A", n, 100 + n, 1, {1: "buy", -1: "sell"}[side], trade_id=n)
state = buffer.dump()
state["states0"] = bytes([255] * len(state["states0"]))
try:
    BarBuffer("run:3", ids="contiguous").load(state)
except ValueError as error:
    print(error)
else:
    raise AssertionError("a state that no trades can have left was loaded")
assert str(BarSpec.parse("run:3")) == "run:3"
"""


def test_a_bar_kind_that_remembers_is_added_in_three_files(tmp_path: Path) -> None:
    copy = Copy(tmp_path, compiled=True)
    for file, changes in ADD_A_KIND.items():
        copy.edit(file, changes)
    assert copy.changed() == files_named_for("A bar kind")
    assert len(copy.changed()) == 3
    copy.build()
    assert "state of A run:3 is not one of its rule" in copy.run("-c", CHECK_THE_KIND)


# The size of the largest trade.
ADD_A_FIELD = {
    "src/fastbars/kernel/summary.pxd": {
        "SUMMARY_BYTES = 184 ": "SUMMARY_BYTES = 192 ",
        "    int64_t open\n": "    int64_t open\n    int64_t max_size\n",
        "    bar.close = bar.open = bar.largest = ": "    bar.max_size = bar.close = bar.open = bar.largest = ",
        "    bar.high = bar.low = bar.close = bar.open = price\n": (
            "    bar.high = bar.low = bar.close = bar.open = price\n    bar.max_size = size\n"
        ),
        "    bar.counts[side + 1] += trades_of(batch, i)\n": (
            "    bar.counts[side + 1] += trades_of(batch, i)\n    bar.max_size = max(bar.max_size, size)\n"
        ),
        "    bar.close = price\n    if voids:\n": (
            "    bar.close = price\n    bar.max_size = max(bar.max_size, size)\n    if voids:\n"
        ),
        "        high = max(high, price)\n": (
            "        high = max(high, price)\n        bar.max_size = max(bar.max_size, size)\n"
        ),
        "    into.high = max(into.high, other.high)\n": (
            "    into.high = max(into.high, other.high)\n    into.max_size = max(into.max_size, other.max_size)\n"
        ),
        "    bar.open *= price_factor\n": "    bar.open *= price_factor\n    bar.max_size *= size_factor\n",
    },
    "src/fastbars/kernel/fields.py": {
        "    # Behind the summary:": (
            '    Column("max_size", np.int64, "max_size", FieldKind.SIZE),\n    # Behind the summary:'
        ),
    },
    "src/fastbars/bars.py": {
        "None\n            without trades.\n\n": (
            "None\n            without trades.\n        max_size: of the largest trade.\n\n"
        ),
        "    largest_trade: Decimal | None = None\n": (
            "    largest_trade: Decimal | None = None\n    max_size: Decimal = Decimal(0)\n"
        ),
    },
    "tests/oracle.py": {
        "    last_trade_id: int | None\n": "    last_trade_id: int | None\n    max_size: Decimal\n",
        "nothing, nothing, None, None, 0,": "nothing, nothing, None, None, nothing, 0,",
        "max(trade.last_id for _, trade in bar.arrivals) % SERIES if by_id else None,\n": (
            "max(trade.last_id for _, trade in bar.arrivals) % SERIES if by_id else None,\n"
            "            max(trade.size for _, trade in bar.arrivals),\n"
        ),
    },
}
CHECK_THE_FIELD = """
import pickle
from decimal import Decimal as D

import fastbars
import polars
from fastbars import BarBuffer
from fastbars.bars import BAR_FIELDS
from fastbars.cli.output import BarText, csv_line, json_line

trades = {"time_ns": [0, 1, 70_000_000_000], "price": ["1", "2", "3"], "size": ["0.5", "7.25", "3"], "symbol": "A"}
batch = fastbars.aggregate(**trades)
sizes = [D("7.25"), D(3)]
assert [bar.max_size for bar in batch] == list(batch["max_size"]) == sizes
assert [bar.to_dict(json=True)["max_size"] for bar in batch] == ["7.25", "3"]
assert batch.to_numpy()["max_size"].tolist() == [7.25, 3.0]
frame = polars.DataFrame(batch)
assert (frame["max_size"].to_list(), frame["max_size"].dtype) == (sizes, polars.Decimal(38, 2))
assert frame.columns == list(batch.to_pandas(floats=True).columns) == list(BAR_FIELDS)
assert BAR_FIELDS[-1] == "max_size"
assert BarText("csv").header.endswith(",max_size")
assert csv_line(batch[0]).endswith(",7.25")
assert json_line(batch[0]).endswith(',"max_size":"7.25"}')
assert "<th>max_size</th>" in batch._repr_html_()
merged = batch.merge(fastbars.aggregate([2], ["1"], ["8.125"], symbol="A"))
assert [bar.max_size for bar in merged] == [D("8.125"), D(3)]
assert pickle.loads(pickle.dumps(list(batch))) == list(batch)
buffer = BarBuffer(["1m", "5m", "tick:2"])
buffer.add("A", 0, "1", "9")
buffer.add("A", 1, "1", "0.001")  # finer, so that all that is held is widened
other = BarBuffer(["1m", "5m", "tick:2"])
other.load(pickle.loads(pickle.dumps(buffer.dump())))
for one in (buffer, other):
    one.add("A", 2, "1", "5")
    assert {bar.spec: bar.max_size for bar in one.flush_all()} == {"1m": D(9), "5m": D(9), "tick:2": D(5)}
"""


def test_a_bar_field_is_added_in_four_files(tmp_path: Path) -> None:
    copy = Copy(tmp_path, compiled=True)
    for file, changes in ADD_A_FIELD.items():
        copy.edit(file, changes)
    assert copy.changed() == files_named_for("A bar field")
    assert len(copy.changed()) == 4
    copy.build()
    copy.run("-c", CHECK_THE_FIELD)
    # The oracle has it too, and is compared with the kernel in every field.
    tests = ("test_kernel.py::test_every_issued_bar_equals_the_oracle", "test_merge.py")
    assert " passed" in copy.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests))
