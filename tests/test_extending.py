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
    copy.run("-c", "\n".join(scripts))


def test_the_exchange_of_the_page_leaves_sockets_timers_and_scaling_to_others() -> None:
    files, _, _ = blocks_of(PAGE.read_text(encoding="utf-8"))
    names = set(imported(files["src/fastbars/exchanges/bitget.py"], compiled=False))
    assert {name for name in names for duty in SHARED_DUTIES if name == duty or name.startswith(f"{duty}.")} == set()
