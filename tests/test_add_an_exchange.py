"""The page "Add an exchange", followed to the letter: its blocks run in order, and what they build keeps the rules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from fastbars.exchanges import EXCHANGES
from test_architecture import SHARED_DUTIES, imported

PAGE = Path(__file__).resolve().parents[1] / "docs" / "add-an-exchange.md"


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(EXCHANGES)
    yield
    EXCHANGES.clear()
    EXCHANGES.update(before)


@pytest.mark.usefixtures("registry")
def test_following_the_page_gives_a_ninth_exchange_that_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = Sybil(parsers=[PythonCodeBlockParser()], path=str(PAGE.parent)).parse(PAGE)
    module = ModuleType("bitstamp")  # dataclasses and the like look their module up
    monkeypatch.setitem(sys.modules, "bitstamp", module)
    document.namespace["__name__"] = "bitstamp"
    blocks = list(document.examples())
    assert len(blocks) == 5
    for block in blocks:
        block.evaluate()
    assert list(EXCHANGES)[-1] == "bitstamp"
    (tape,) = tmp_path.iterdir()
    assert tape.name == "bitstamp.raw"


def test_the_file_on_the_page_keeps_the_rules_of_exchange_files() -> None:
    text = PAGE.read_text(encoding="utf-8")
    source = next(block for block in text.split("```python\n")[1:]).split("```")[0]
    names = set(imported(source, compiled=False))
    assert {name for name in names for duty in SHARED_DUTIES if name == duty or name.startswith(f"{duty}.")} == set()
