"""Writes docs/command-line.md: every command with its options and examples, from the parser itself.

python tools/command_reference.py
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from fastbars.cli.examples import EXAMPLES
from fastbars.cli.options import make_parser

PAGE = Path(__file__).resolve().parents[1] / "docs" / "command-line.md"
OPENING = """\
<!-- python tools/command_reference.py -->

# Command line

All that the `fastbars` command knows, as `fastbars --help` and `fastbars COMMAND --help` say it.

- **Exit status**: 0 where all went well; 1 where `check`, `verify`, `demo` or `status` found what is wrong;
  2 for an error, which is one line on stderr; 130 for an interrupt that ended a command before its time.
- **Output**: bars go to stdout or with `-o` to a file; progress and errors go to stderr. It is UTF-8 whatever the
  locale.
- **Numbers**: exact decimals. In JSON they are strings, since most readers make floats of JSON's numbers.
- **Signals**: SIGINT (Ctrl-C), SIGTERM and SIGHUP end `stream` and `record` in order: open bars come out as `PARTIAL`.
  `run` reads its configuration again at SIGHUP.

`-v` (more log, twice: everything) and `-q` (errors only, no progress) stand before or behind any command.

"""


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """The name, sentence and parser of each command, in the order of `--help`."""
    (group,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for shown in group._choices_actions:
        yield shown.dest, shown.help or "", group.choices[shown.dest]


def named(action: argparse.Action) -> str:
    """An option or argument as it is written."""
    shown = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    if action.choices is not None:
        value = " \\| ".join(map(str, action.choices))
    else:
        value = " ".join(shown) if isinstance(shown, tuple) else shown
    if action.nargs == "?":
        value = f"[{value}]"
    elif action.nargs == "+":
        value = f"{value} ..."
    if not action.option_strings:
        return f"`{value}`"
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    return names if action.nargs == 0 else f"{names} `{value}`"


def said(text: str) -> str:
    """A sentence of help as a cell of a table."""
    text = text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    return re.sub(r"(?<![\w`])(--[a-z][a-z-]*)", r"`\1`", text) if "`" not in text else text


def reference() -> str:
    """The whole page."""
    parts = [OPENING]
    listed = list(commands_of(make_parser()))
    parts += ["| command | |\n|---|---|\n"]
    parts += [f"| [{name}](#fastbars-{name}) | {said(sentence)} |\n" for name, sentence, _ in listed]
    for name, sentence, command in listed:
        parts += [f"\n## fastbars {name}\n\n{sentence[0].upper()}{sentence[1:]}.\n\n| | |\n|---|---|\n"]
        parts += [
            f"| {named(action)} | {said(action.help or '')} |\n"
            for action in sorted(command._actions, key=lambda one: bool(one.option_strings))
            if action.dest not in ("help", "verbose_behind", "quiet_behind")
        ]
        if name in EXAMPLES:
            parts += ["\n```sh\n", *(f"# {what}\n{line}\n" for line, what in EXAMPLES[name]), "```\n"]
    return "".join(parts)


if __name__ == "__main__":
    sys.exit(0 if PAGE.write_text(reference(), encoding="utf-8") else 1)
