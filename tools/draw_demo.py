"""Runs `fastbars demo` and draws its output as docs/pictures/demo.svg.

python tools/draw_demo.py
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from fastbars.cli import demo, main

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "demo.svg"
WIDTH = 112


def draw() -> int:
    """Draw the last table and the summary below it. Returns the demo's exit status."""
    shown: list[Any] = []
    make_table = demo._table
    said = io.StringIO()

    def keep(verdict: Any, width: int = WIDTH) -> Any:
        shown.append(verdict)
        return make_table(verdict, width)

    demo._table = keep
    with contextlib.redirect_stdout(said):
        # rich must take it for a terminal, or no table is made.
        said.isatty = lambda: True  # type: ignore[method-assign]
        status = main(["demo"])
    lines = [line for line in said.getvalue().splitlines() if "\x1b" not in line]
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print("[bold]$ fastbars demo[/]")
    console.print(lines[0], highlight=False)
    console.print(make_table(shown[-1], WIDTH))
    start = next(number for number, line in enumerate(lines) if line.startswith("trades received"))
    for line in lines[start:]:
        console.print(line, highlight=False)
    PICTURE.write_text(console.export_svg(title="fastbars demo"), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(draw())
