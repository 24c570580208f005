"""Inspects built wheels: required and forbidden contents, and how the modules were compiled.

    python tools/check_wheel.py [--fortified] dist/*.whl

Contents are checked for every platform, the ELF headers for Linux (needs pyelftools). `--fortified` also demands calls
that _FORTIFY_SOURCE=3 checks at run time. They exist if the wheel was built on glibc 2.34 or later: older ones only
have level 2, which knows the sizes of no call in this code, and musl has none.
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

LIMIT_BYTES = 2_000_000
COMPILED = re.compile(r"^(?P<module>fastbars/[\w/]+)\.(?:cpython-|cp3)[\w-]*\.(?:so|pyd)$")
NOT_SHIPPED = {".c", ".cpp", ".pyx", ".h", ".o"}
PAGE = "fastbars/service/web/"
# The page, and what it may be handed on with: charts of others, under their licence and with their notice.
PAGE_FILES = (
    "index.html", "page.css", "page.js", "chart.js", "icon.svg",
    "lightweight-charts.js", "lightweight-charts.LICENSE", "NOTICE",
)  # fmt: skip
DF_BIND_NOW, DF_1_NOW = 0x8, 0x1
FORTIFIED = re.compile(r"^__(?:memcpy|memmove|memset|snprintf|sprintf|strcpy|strcat)_chk")


def faults(path: Path, fortified: bool = False) -> Iterator[str]:
    """The faults of a wheel; none if it is sound."""
    if path.stat().st_size >= LIMIT_BYTES:
        yield f"{path.stat().st_size:,} bytes, the limit is {LIMIT_BYTES:,}"
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        modules = {match["module"]: name for name in sorted(names) if (match := COMPILED.match(name))}
        if "fastbars/py.typed" not in names:
            yield "py.typed is missing"
        if not modules:
            yield "no compiled module is inside"
        if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
            yield "the license is missing"
        yield from (f"{PAGE}{name} is missing" for name in PAGE_FILES if PAGE + name not in names)
        yield from (f"{module}.pyi is missing" for module in modules if f"{module}.pyi" not in names)
        yield from (f"{name} does not belong in it" for name in sorted(names) if not _belongs(name))
        if "linux" in path.name:
            yield from elf_faults({name: wheel.read(name) for name in modules.values()}, fortified)


def _belongs(name: str) -> bool:
    top = name.split("/", maxsplit=1)[0]
    return (top == "fastbars" or top.endswith(".dist-info")) and PurePosixPath(name).suffix not in NOT_SHIPPED


def elf_faults(files: dict[str, bytes], fortified: bool) -> Iterator[str]:
    """The faults of modules compiled for Linux: unstripped, without full RELRO, or with a path of the build machine."""
    imported: set[str] = set()
    for name, content in files.items():
        segments, flags, symbols, sections = read_elf(content)
        imported |= symbols
        if "PT_GNU_RELRO" not in segments or "BIND_NOW" not in flags:
            yield f"{name}: not full RELRO (-z relro -z now)"
        if segments.get("PT_GNU_STACK", 1) & 1:
            yield f"{name}: the stack is executable"
        if "TEXTREL" in flags:
            yield f"{name}: has text relocations"
        if paths := {"RPATH", "RUNPATH"} & flags:
            yield f"{name}: carries {', '.join(sorted(paths))}"
        yield from (f"{name}: not stripped, has {s}" for s in sorted(sections) if s == ".symtab" or ".debug" in s)
    # Which module needs which check depends on its code; in all of them together both must occur.
    if "__stack_chk_fail" not in imported:
        yield "no module was compiled with -fstack-protector-strong"
    if fortified and not any(FORTIFIED.match(symbol) for symbol in imported):
        yield "no module was compiled with _FORTIFY_SOURCE"


def read_elf(content: bytes) -> tuple[dict[str, int], set[str], set[str], set[str]]:
    """(segment types with their flags, dynamic flags and tags, imported symbols, sections) of an ELF file."""
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415 contents are checked without it, too

    elf: Any = ELFFile(io.BytesIO(content))
    segments = {segment["p_type"]: segment["p_flags"] for segment in elf.iter_segments()}
    sections = {section.name for section in elf.iter_sections()}
    dynamic = {
        tag.entry.d_tag.removeprefix("DT_"): tag.entry.d_val for tag in elf.get_section_by_name(".dynamic").iter_tags()
    }
    flags = set(dynamic)
    if dynamic.get("FLAGS", 0) & DF_BIND_NOW or dynamic.get("FLAGS_1", 0) & DF_1_NOW:
        flags.add("BIND_NOW")
    symbols = elf.get_section_by_name(".dynsym").iter_symbols()
    return segments, flags, {symbol.name for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF"}, sections


def main(words: list[str]) -> int:
    """Print a verdict per wheel; 1 if any has a fault."""
    paths = [Path(word) for word in words if word != "--fortified"]
    if not paths:
        sys.exit("usage: check_wheel.py [--fortified] WHEEL...")
    found = 0
    for path in paths:
        wrong = list(faults(path, "--fortified" in words))
        found += len(wrong)
        print(f"{path.name}: {path.stat().st_size:,} bytes, {'faults:' if wrong else 'no faults'}")
        print("".join(f"    {fault}\n" for fault in wrong), end="")
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
