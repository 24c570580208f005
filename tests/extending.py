"""A copy of the project to which something is added: with the files that the documentation names, and no others."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from filecmp import cmp
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
ARCHITECTURE = PROJECT / "docs" / "architecture.md"
# What a build or a run makes.
MADE = ("*.pyc", "__pycache__", "*.egg-info", "*.so", "*.pyd", "*.c", "build")


def files_named_for(task: str, name: str = "") -> set[str]:
    """The files that the page on the architecture lists under a heading, with `name` in the place of <name>."""
    _, found, section = ARCHITECTURE.read_text(encoding="utf-8").partition(f"### {task}\n")
    assert found, f"docs/architecture.md has no section {task!r}"
    section = re.split(r"^#", section, maxsplit=1, flags=re.M)[0]
    return {file.replace("<name>", name) for file in re.findall(r"^- `([^`]+)`", section, re.M)}


class Copy:
    """The project's sources in another place.

    Args:
        root: an empty directory.
        compiled: what was compiled comes along with its times, so that only what depends on a change is built again.
    """

    def __init__(self, root: Path, *, compiled: bool = False) -> None:
        self.root = root
        for name in ("src", "tests", "docs"):
            left_out = shutil.ignore_patterns("*.pyc", "__pycache__", "*.egg-info", *(() if compiled else ("*.c",)))
            shutil.copytree(PROJECT / name, root / name, ignore=left_out)
        for name in ("setup.py", "pyproject.toml", "README.md"):
            shutil.copy2(PROJECT / name, root / name)

    def write(self, file: str, text: str) -> None:
        """Add a file."""
        path = self.root / file
        assert not path.exists(), f"{file} is there already"
        path.write_text(text, encoding="utf-8")

    def edit(self, file: str, changes: Mapping[str, str]) -> None:
        """Replace texts, each of which must stand in the file exactly once."""
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        for old, new in changes.items():
            assert text.count(old) == 1, f"{file} has {text.count(old)} times {old!r}"
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")

    def changed(self) -> set[str]:
        """Sources that differ from the project's, and those that it does not have."""
        return {
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if path.is_file()
            and not any(path.match(made) or any(Path(part).match(made) for part in path.parts) for made in MADE)
            and not ((ours := PROJECT / path.relative_to(self.root)).is_file() and cmp(ours, path, shallow=False))
        }

    def build(self) -> None:
        """Compile what depends on a change, without optimising it."""
        compiler = self.root / "build" / "quick-cc"
        compiler.parent.mkdir()
        own = os.environ.get("CC", "cc")
        # The last -O counts.
        compiler.write_text(f'#!/bin/sh\nexec {own} "$@" -O0 -U_FORTIFY_SOURCE\n', encoding="utf-8")
        compiler.chmod(0o755)
        # Into src itself, where it finds what need not be built again.
        where = ("--build-lib", "src", "--build-temp", "build")
        self.run("setup.py", "-q", "build_ext", "--parallel", "2", *where, CC=str(compiler), LDSHARED=f"{own} -shared")

    def run(self, *arguments: str, **environment: str) -> str:
        """Run Python in the copy; what it prints. Its failure is the test's."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": "1"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
        return done.stdout
