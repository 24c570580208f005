"""A module imports only what stands before it: read from the sources, nothing is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastbars.exchanges import EXCHANGES

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "fastbars"
ORDER = (
    "redaction", "errors", "log", "clocks", "callbacks", "times", "kernel", "_agg", "calendars", "specs", "ticks",
    "bars", "id_policy", "plotting", "columnar", "events", "entry", "buffer", "wire", "exchanges", "sinks", "live",
    "instrument_table", "tapes", "klines", "archives", "differences", "verification", "past_bars", "bar_stream",
    "venue_streams", "streams", "testing", "simulator", "service", "cluster", "cli",
)  # fmt: skip
# What an exchange file leaves to others: sockets, timers, scaling.
SHARED_DUTIES = {"asyncio", "websockets", "socket", "time", "fastbars.kernel.scaled"}
APART = {"redaction", "errors", "log", "clocks", "tapes", "simulator"}
# Where a tape meets the session; simulator and reader know nothing of it.
MEETING_PLACE = "tapes/replay.py"


def sources() -> list[Path]:
    return sorted(path for kind in ("py", "pyi", "pyx", "pxd") for path in PACKAGE.rglob(f"*.{kind}"))


def imported(text: str, compiled: bool, package: str = "fastbars") -> Iterator[str]:
    """Full names of the modules that a source imports or cimports."""
    if compiled:
        for line in re.sub(r"\\\n|\([^()]*\)", " ", text).splitlines():
            if match := re.match(r"\s*from\s+([\w.]+)\s+c?import\s+(.*)", line):
                yield from _absolute(match[1], [name.strip() for name in match[2].split(",")], package)
            elif match := re.match(r"\s*c?import\s+([\w.,\s]+)", line):
                yield from (name.split()[0] for name in match[1].split(",") if name.strip())
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _absolute("." * node.level + (node.module or ""), [alias.name for alias in node.names], package)


def _absolute(module: str, names: list[str], package: str) -> Iterator[str]:
    level = len(module) - len(module.lstrip("."))
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - level + 1] if level else [])
    name = ".".join(filter(None, [base, module.lstrip(".")]))
    # "from fastbars import bars" names a module in its second half.
    yield from (f"{name}.{each}" for each in names) if name == "fastbars" else [name]


def imports_of(path: Path) -> set[str]:
    package = ".".join(["fastbars", *path.relative_to(PACKAGE).parts[:-1]])
    return set(imported(path.read_text(encoding="utf-8"), path.suffix in (".pyx", ".pxd"), package))


def place_of(path: Path) -> str:
    """The module or subpackage of the order that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.split(".")[0]


def own(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("fastbars.")}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


RECORDED = [path for path in sources() if place_of(path) in ("tapes", "simulator") and path != PACKAGE / MEETING_PLACE]


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_module_imports_only_what_stands_before_it(path: Path) -> None:
    place = place_of(path)
    if place in ("__init__", "__main__"):
        assert own(imports_of(path)) <= set(ORDER)
        return
    assert place in ORDER, f"{name_of(path)} has no place in the order of modules"
    allowed = set(ORDER[: ORDER.index(place) + 1])
    assert own(imports_of(path)) <= allowed


@pytest.mark.parametrize("package", [path.parent for path in sorted(PACKAGE.rglob("__init__.py"))], ids=name_of)
def test_modules_of_a_package_do_not_import_each_other_in_a_circle(package: Path) -> None:
    prefix = ".".join(["fastbars", *package.relative_to(PACKAGE).parts]) + "."
    modules = {path.name.split(".")[0] for path in package.glob("*.py*") if path.stem != "__init__"}
    needs: dict[str, set[str]] = {
        module: {
            name.removeprefix(prefix).split(".")[0]
            for path in package.glob(f"{module}.p*")
            for name in imports_of(path)
            if name.startswith(prefix)
        }
        & modules - {module}
        for module in modules
    }
    while free := {module for module, needed in needs.items() if not needed & needs.keys()}:
        needs = {module: needed for module, needed in needs.items() if module not in free}
    assert needs == {}


@pytest.mark.parametrize("path", RECORDED, ids=name_of)
def test_tapes_and_simulator_know_only_errors_and_each_other(path: Path) -> None:
    assert own(imports_of(path)) <= APART
    assert "fastbars.tapes.replay" not in imports_of(path)


@pytest.mark.parametrize("path", [PACKAGE / "exchanges" / f"{name}.py" for name in EXCHANGES], ids=name_of)
def test_an_exchange_file_leaves_sockets_timers_and_scaling_to_others(path: Path) -> None:
    names = imports_of(path)
    assert {name for name in names for duty in SHARED_DUTIES if name == duty or name.startswith(f"{duty}.")} == set()


@pytest.mark.parametrize(
    ("text", "compiled", "names"),
    [
        ("import a.b, c\nfrom d.e import f", False, {"a.b", "c", "d.e"}),
        ("from fastbars import bars, ticks", False, {"fastbars.bars", "fastbars.ticks"}),
        ("from . import bars\nfrom .live import x\nfrom .. import buffer", False, {
            "fastbars.wire", "fastbars.wire.live", "fastbars.buffer"}),
        ("def f():\n    from fastbars.kernel.scaled import parse", False, {"fastbars.kernel.scaled"}),
        ("from a cimport b\ncimport c\ncdef int d", True, {"a", "c"}),
        ("from a cimport (\n    b, c,\n)\nfrom d import (e,\n f)\n", True, {"a", "d"}),
        ("from fastbars cimport bars", True, {"fastbars.bars"}),
        ("import numpy as np\n    from e import g", True, {"numpy", "e"}),
    ],
)  # fmt: skip
def test_imports_are_read_from_every_form(text: str, compiled: bool, names: set[str]) -> None:
    assert set(imported(text, compiled, "fastbars.wire")) == names


def test_every_source_is_looked_at() -> None:
    looked_at = {place_of(path) for path in sources()}
    assert {"errors", "kernel", "_agg", "bars", "columnar", "buffer", "live"} <= looked_at


@pytest.mark.parametrize("path", [path for path in sources() if path.suffix in (".py", ".pyx")], ids=name_of)
def test_no_module_is_over_800_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 800


@pytest.mark.parametrize("path", [path for path in sources() if path.suffix in (".py", ".pyx")], ids=name_of)
def test_no_module_but_one_reads_a_clock(path: Path) -> None:
    if name_of(path) in ("clocks.pyx", "cli/demo.py"):  # the demo measures what this machine takes
        return
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"\btime\.(?:monotonic|time|perf_counter)\w*\(|\bloop\(?\)?\.time\(\)|clock_gettime", text) == []
