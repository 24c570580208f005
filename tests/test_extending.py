"""Adding an exchange, a bar kind and a bar field: in the files that docs/architecture.md names, and working.

Each test copies the project, touches those files and no others, and runs the copy.
"""

from __future__ import annotations

import re
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from extending import PROJECT, Copy, files_named_for
from test_architecture import SHARED_DUTIES, imported

PAGE = PROJECT / "docs" / "add-an-exchange.md"
PAGE_OF_KINDS = PROJECT / "docs" / "add-a-bar-kind.md"
IS_BUILT_IN_PLACE = any((PROJECT / "src" / "fastbars").glob(f"_agg*{suffix}") for suffix in EXTENSION_SUFFIXES)
pytestmark = pytest.mark.skipif(not IS_BUILT_IN_PLACE, reason="the compiled modules do not lie beside the sources")


def blocks_of(page: str) -> tuple[dict[str, str], list[str], dict[str, dict[str, str]]]:
    """Of a page: file -> text of those that it adds, scripts that it runs, file -> lines -> lines in their place."""
    files = dict(re.findall(r"^`([\w/.]+)`:\n\n```python\n(.*?)```", page, re.M | re.S))
    scripts = [block for block in re.findall(r"```python\n(.*?)```", page, re.S) if block not in files.values()]
    changes = {file: changes_of(block) for file, block in re.findall(r"`([\w/.]+)`:\n\n```diff\n(.*?)```", page, re.S)}
    return files, scripts, changes


def changes_of(block: str) -> dict[str, str]:
    """Lines -> lines in their place: what is added comes behind the lines above it, those of a minus are taken out."""
    changes: dict[str, str] = {}
    old = new = ""
    ends = False
    for line in block.splitlines(keepends=True):
        if not line.startswith("+") and ends:
            changes[old] = new
            old = new = ""
        ends = line.startswith("+")
        old += "" if ends else line[1:]
        new += "" if line.startswith("-") else line[1:]
    changes[old] = new
    return changes


def test_following_the_page_adds_an_exchange_in_four_files_that_streams(tmp_path: Path) -> None:
    files, scripts, changes = blocks_of(PAGE.read_text(encoding="utf-8"))
    copy = Copy(tmp_path)
    for file, text in files.items():
        copy.write(file, text)
    for file, edits in changes.items():
        copy.edit(file, edits)
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


CHECK_THE_KIND = """
import pickle, sys

sys.path.insert(0, "tests")
from hypothesis import given, settings, strategies as st
from strategies import buffer_for, expected, oracle_for, replay, scenarios

from fastbars import BarBuffer, BarSpec

SPECS = ("zigzag:0.5", "zigzag:30", "zigzag:20000", "tick:3", "renko:10", "5s")


@settings(max_examples=150, deadline=None, database=None)
@given(st.booleans().flatmap(lambda negative: scenarios(SPECS, negative_prices=negative)), st.integers(0, 40))
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

buffer = BarBuffer("zigzag:3", ids="contiguous")
for n, price in enumerate((100, 101, 99)):
    buffer.add("A", n, price, 1, trade_id=n)
state = buffer.dump()
state["states0"] = bytes([255] * len(state["states0"]))
try:
    BarBuffer("zigzag:3", ids="contiguous").load(state)
except ValueError as error:
    print(error)
else:
    raise AssertionError("a state that no trades can have left was loaded")
assert str(BarSpec.parse("zigzag:3")) == "zigzag:3"
"""


def test_following_the_page_adds_a_bar_kind_that_remembers_in_three_files(tmp_path: Path) -> None:
    files, scripts, changes = blocks_of(PAGE_OF_KINDS.read_text(encoding="utf-8"))
    copy = Copy(tmp_path, compiled=True)
    for file, edits in changes.items():
        copy.edit(file, edits)
    assert files == {}
    assert copy.changed() == files_named_for("A bar kind")
    assert len(copy.changed()) == 3
    copy.build()
    assert "state of A zigzag:3 is not one of its rule" in copy.run("-c", CHECK_THE_KIND)
    copy.run("-c", "\n".join(scripts))


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
        "            trades and on inverse markets.\n\n": (
            "            trades and on inverse markets.\n        max_size: of the largest trade.\n\n"
        ),
        "    index: int | None = None\n": "    index: int | None = None\n    max_size: Decimal = Decimal(0)\n",
    },
    "tests/oracle.py": {
        "    last_trade_id: int | None\n": "    last_trade_id: int | None\n    max_size: Decimal\n",
        "*sums, 0, 0, None,": "*sums, nothing, 0, 0, None,",
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
