"""Where the keys of a TOML file stand, which `tomllib` does not tell. The file is known to be valid."""

from __future__ import annotations

import re
from collections.abc import Iterator

_WORD = re.compile(r"[A-Za-z0-9_-]+")
_SKIPPED = re.compile(r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*', re.DOTALL)

Path = tuple[str | int, ...]


def lines_of(text: str) -> dict[Path, int]:
    """The line, from 1, of each table and key, by its path; members of arrays of tables have their number in it."""
    found: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}
    for line, statement in _statements(text):
        if statement.startswith("[["):
            name = _resolved(_parts(statement[2:])[0], counts)
            counts[name] = counts.get(name, -1) + 1
            table = (*name, counts[name])
            found.setdefault(name, line)
            found[table] = line
        elif statement.startswith("["):
            table = _resolved(_parts(statement[1:])[0], counts)
            found.setdefault(table, line)
        else:
            names, rest = _parts(statement)
            found.setdefault((*table, *names), line)
            if rest.lstrip("= \t").startswith("{"):
                for inner in re.finditer(r"[{,]\s*([A-Za-z0-9_.-]+|\"[^\"\n]*\"|'[^'\n]*')\s*=", rest):
                    own = (*table, *names, *_parts(inner[1])[0])
                    found.setdefault(own, line + rest[: inner.start(1)].count("\n"))
    return found


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of a path, or of what it is in; 1 where that is the file itself."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    # Each header and each key with its value, and the line where it begins.
    at, start, depth = 0, 0, 0
    while at <= len(text):
        skipped = _SKIPPED.match(text, at)
        if skipped:
            at = skipped.end()
            continue
        char = text[at : at + 1]
        if char in "[{" and char:
            depth += 1
        elif char in "]}" and char:
            depth -= 1
        elif char in ("\n", "") and depth == 0:
            statement = text[start:at]
            own = statement.lstrip()
            if own and not own.startswith("#"):
                yield text.count("\n", 0, at - len(own)) + 1, own
            start = at + 1
        at += 1


def _parts(text: str) -> tuple[Path, str]:
    # The parts of a dotted key, and what follows them.
    parts: list[str] = []
    at = 0
    while at < len(text):
        at += len(text[at:]) - len(text[at:].lstrip(" \t."))
        quote = text[at : at + 1]
        if quote in ('"', "'") and quote:
            end = at + 1
            while end < len(text) and text[end] != quote:
                end += 2 if text[end] == "\\" and quote == '"' else 1
            parts.append(text[at + 1 : end])
            at = end + 1
        elif word := _WORD.match(text, at):
            parts.append(word[0])
            at = word.end()
        else:
            break
        if not text[at:].lstrip(" \t").startswith("."):
            break
    return tuple(parts), text[at:]


def _resolved(names: Path, counts: dict[Path, int]) -> Path:
    # With the numbers of the arrays of tables that it lies in.
    path: Path = ()
    for place, name in enumerate(names):
        path = (*path, name)
        if path in counts and place + 1 < len(names):
            path = (*path, counts[path])
    return path
