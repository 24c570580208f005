"""Tables that benchmarks write into the documentation, between markers."""

from __future__ import annotations

import platform
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.instructions import compiler

PROJECT = Path(__file__).resolve().parents[1]
PERFORMANCE = PROJECT / "docs" / "performance.md"


def write(page: Path, command: str, lines: list[str]) -> None:
    """Replaces what stands between the markers `<!-- COMMAND -->` and `<!-- end of COMMAND -->`."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {command} -->", f"<!-- end of {command} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        sys.exit(f"{page}: no markers {begin} and {end}")
    page.write_text("\n".join([before + begin, "", *lines, "", end]) + after, encoding="utf-8")


def measured(command: str, rounds: int) -> str:
    """What was run, when and on what."""
    system = f"{platform.system()} {platform.machine()}, {compiler().replace(', ' + platform.machine(), '')}"
    return f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {processor()}, {system}: {rounds} rounds in turn."


def processor() -> str:
    """Its name, as the system gives it."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if sys.platform == "linux" else None
    return found[1] if found else platform.processor()
