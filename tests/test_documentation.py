"""Every Python block and every `fastbars` command of the README and the documentation is run as it stands there.

Streams go to the embedded exchange instead of Binance, with seconds for minutes, and a block that would run for ever
ends after a few lines of output.
"""

from __future__ import annotations

import gzip
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

import fastbars
from fastbars import errors
from fastbars.cli.options import make_parser
from fastbars.service.config import read_config
from servers import START_NS, trade

PROJECT = Path(__file__).resolve().parents[1]
PAGES = sorted(path for path in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")] if path.is_file())
# Followed to the letter by a test of its own.
APART = {"add-an-exchange.md", "add-a-bar-kind.md"}
ENOUGH_LINES = 3


class EnoughError(BaseException):
    """The block has printed what it is to show."""


class Blocks(PythonEvaluator):
    """Runs a block; EnoughError is its good end."""

    def __call__(self, example: Example) -> None:
        example.namespace["line that ran"] = example.line
        with suppress(EnoughError):
            super().__call__(example)


def printed(*values: object, lines: list[str]) -> None:
    lines.append(" ".join(map(str, values)))
    if len(lines) >= ENOUGH_LINES:
        raise EnoughError


@contextmanager
def simulated(*words: str) -> Iterator[str]:
    command = [sys.executable, "-m", "fastbars", "simulate", "--rate", "2000", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"ws://\S+", process.stdout.readline())
        assert found is not None
        yield found[0]
        process.terminate()


@pytest.fixture(scope="module")
def exchange_url() -> Iterator[str]:
    with simulated("--symbols", "20") as url:
        yield url


@pytest.fixture(scope="module")
def perpetuals_url() -> Iterator[str]:
    with simulated("--symbols", "20", "--market", "usdm") as url:
        yield url


def blocks_of(path: Path) -> Iterator[Example]:
    sybil = Sybil(parsers=[CodeBlockParser("python", Blocks()), SkipParser()], path=str(path.parent))
    yield from sybil.parse(path).examples()


WITH_BLOCKS = [path for path in PAGES if path.name not in APART and "```python" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", WITH_BLOCKS, ids=lambda path: path.name)
def test_the_blocks_of_a_page_run(
    path: Path, exchange_url: str, perpetuals_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_stream, real_instruments = fastbars.stream, fastbars.instruments
    rest_url = "http://" + perpetuals_url.removeprefix("ws://").partition("/")[0]

    def stream(exchange: Any, symbols: Any = None, bars: Any = "1m", **options: Any) -> Any:
        seconds = [re.sub(r"^(\d+)m$", r"\1s", spec) for spec in ([bars] if isinstance(bars, str) else bars)]
        url = dict.fromkeys(exchange, exchange_url) if isinstance(exchange, dict) else exchange_url
        if isinstance(symbols, fastbars.Where):
            options |= {"url": perpetuals_url, "config": fastbars.StreamConfig(rest_url=rest_url)}
        return real_stream(exchange, symbols, seconds, **{"url": url, **options})

    monkeypatch.setattr(fastbars, "stream", stream)
    monkeypatch.setattr(fastbars, "instruments", partial(real_instruments, rest_url=rest_url))
    monkeypatch.chdir(tmp_path)
    recorded = [b"%d %s\n" % (START_NS, trade(n, n * 20_000)) for n in range(12)]
    Path("usdm_btcusdt.raw.gz").write_bytes(gzip.compress(b"".join(recorded)))
    examples = list(blocks_of(path))
    assert examples
    for example in examples:
        lines: list[str] = []
        example.namespace.update(fastbars=fastbars, print=lambda *values, lines=lines: printed(*values, lines=lines))
        example.evaluate()
        was_run = example.namespace.get("line that ran") == example.line  # others are to be skipped
        if was_run and "print(" in example.parsed:
            assert lines, f"{path.name}, line {example.line}: printed nothing"


def commands_of(path: Path) -> Iterator[str]:
    """The `fastbars` command lines of a page: in fences, or indented by four."""
    fenced = False
    for line in path.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        if (fenced or line.startswith("    ")) and re.match(r"\s*fastbars [a-z]", line):
            yield line.strip()


COMMANDS = [pytest.param(line, id=f"{path.name}: {line}") for path in PAGES for line in commands_of(path)]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_documentation_is_one_that_the_command_knows(line: str) -> None:
    words = shlex.split(line, comments=True)
    options = make_parser().parse_args(words[1:])
    assert options.command == words[1]


LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_inside_the_project_lead_somewhere(path: Path) -> None:
    links = [link for link in LINK.findall(path.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("name", [name for name in fastbars.__all__ if name not in (*errors.__all__, "__version__")])
def test_every_public_name_stands_in_the_reference(name: str) -> None:
    pages = [path.read_text(encoding="utf-8") for path in (PROJECT / "docs" / "reference").glob("*.rst")]
    assert any(re.search(rf"^\.\. \w+:: (?:[\w.]+\.)?{name}$", page, re.M) for page in pages)


def test_figures_of_the_readme_stand_in_the_page_of_performance() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| ([\d.,]+) ns \| ([^|]+) \|$", readme, re.MULTILINE)
    assert len(rows) > 3
    measured = (
        (PROJECT / "docs" / "performance.md").read_text(encoding="utf-8").partition("<!-- make bench-peers -->")[2]
    )
    tables = measured.split("\n**")
    for own, others in rows:
        (table,) = (
            part for part in tables if re.search(rf"^\| fastbars [^|]*\| {re.escape(own)} \(", part, re.MULTILINE)
        )
        for name, times in re.findall(r"([A-Za-z_ ]+?) ([\d.]+)[,;]?", others):
            assert re.search(
                rf"^\| {name.strip()}\b[^|]*\|[^|]*\| {re.escape(times)} \|", table, re.MULTILINE | re.IGNORECASE
            )


CONFIGURATIONS = [
    pytest.param(block, id=f"{path.name}: {number}")
    for path in PAGES
    for number, block in enumerate(re.findall(r"```toml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL))
    if "[venues" in block and "bars =" in block
]


@pytest.mark.parametrize("block", CONFIGURATIONS)
def test_a_configuration_of_the_documentation_is_accepted(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in re.findall(r"\$\{(\w+)\}", block):
        monkeypatch.setenv(name, str(tmp_path))
    file = tmp_path / "fastbars.toml"
    file.write_text(block, encoding="utf-8")
    assert read_config(file).venues


def test_each_test_that_the_threat_model_names_is_there() -> None:
    text = (PROJECT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+\.py)`", text))
    assert named
    assert sorted(name for name in named if not (PROJECT / "tests" / name).is_file()) == []


@pytest.mark.parametrize("word", ["pandas", "postgres", "gap"])
def test_a_search_finds(word: str) -> None:
    # Sphinx's search finds words by their beginnings, in titles first.
    found = [path.name for path in PAGES if re.search(rf"\b{word}", path.read_text(encoding="utf-8"), re.IGNORECASE)]
    titles = [
        path.name for path in PAGES if re.search(rf"^#+ .*\b{word}", path.read_text(encoding="utf-8"), re.I | re.M)
    ]
    assert found
    assert titles, f"no heading has {word}: {found}"
