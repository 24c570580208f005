"""The notebooks of the documentation run, and print what is stored in them.

`python -m tests.test_notebooks` stores it anew.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "docs" / "notebooks").glob("*.ipynb"))


def run(notebook: dict[str, Any]) -> list[str]:
    """What each cell of code prints."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for place, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            written = io.StringIO()
            with contextlib.redirect_stdout(written):
                exec(compile("".join(cell["source"]), f"cell {place}", "exec"), namespace)
            printed.append(written.getvalue())
    return printed


def stored(notebook: dict[str, Any]) -> list[str]:
    """What is stored that they have printed."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return ["".join("".join(output["text"]) for output in cell["outputs"]) for cell in cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_is_stored_in_it(path: Path) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    assert run(notebook) == stored(notebook)


def main() -> None:
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text("utf-8"))
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for count, (cell, text) in enumerate(zip(cells, run(notebook), strict=True), 1):
            lines = text.splitlines(keepends=True)
            cell["execution_count"] = count
            cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
