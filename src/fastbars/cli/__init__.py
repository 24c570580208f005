"""The `fastbars` command. An error is one line on stderr and exit status 2."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fastbars.cli.options import make_parser
from fastbars.cli.text import printable, speak_utf8
from fastbars.errors import FastbarsError

if TYPE_CHECKING:
    from fastbars.cli.console import Console

_LONGEST_ERROR = 600  # characters


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    try:
        speak_utf8()
        options = make_parser().parse_args(arguments)  # ends the process for --help and --version
        # Each command loads only what it needs.
        from fastbars.cli.console import Console  # noqa: PLC0415
        from fastbars.cli.outlet import is_writing  # noqa: PLC0415

        verbose = options.verbose + options.verbose_behind
        quiet = options.quiet or options.quiet_behind
        console = Console(sys.stderr, progress=not quiet and not verbose)
    except KeyboardInterrupt:
        return 130
    levels = {0: logging.ERROR if quiet else logging.WARNING, 1: logging.INFO}
    interrupts = signal.getsignal(signal.SIGINT)
    with _logging_to(console, levels.get(verbose, logging.DEBUG)):
        status = _run(options, console)
    # A command leaves SIGINT at its default (see `on_signals`); a program that called this gets its handler back.
    if signal.getsignal(signal.SIGINT) is not interrupts:
        signal.signal(signal.SIGINT, interrupts)
    if is_writing():
        os._exit(status)  # the writing thread is blocked by a reader that no longer reads, and cannot be ended
    return status


def _run(options: argparse.Namespace, console: Console) -> int:
    try:
        from fastbars.cli import commands  # noqa: PLC0415

        status = commands.COMMANDS[options.command](options, console)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        _discard_stdout()  # the reader, such as `head`, has read enough
        return 0
    except (FastbarsError, OSError, ValueError, OverflowError) as error:
        console.clear()
        text = printable("; ".join([_shortened(str(error)), *getattr(error, "__notes__", ())]))
        console.say(f"fastbars: {text}")
        logging.getLogger("fastbars").debug("error", exc_info=error)
        if isinstance(error, OSError):
            _discard_stdout()
        return 2
    except KeyboardInterrupt as error:
        console.clear()
        for note in getattr(error, "__notes__", ()):
            console.say(f"fastbars: interrupted; {printable(note)}")
        _discard_stdout()
        return 130


def _shortened(message: str) -> str:
    return message if len(message) <= _LONGEST_ERROR else f"{message[: _LONGEST_ERROR // 2]} ... {message[-40:]}"


@contextmanager
def _logging_to(console: Console, level: int) -> Iterator[None]:
    root = logging.getLogger()
    before = root.level
    ours = not root.handlers  # as logging.basicConfig does: handlers of the host program are kept
    if ours:
        root.addHandler(console)
        root.setLevel(level)
    try:
        yield
    finally:
        if ours:
            root.removeHandler(console)
            root.setLevel(before)
        console.close()


def _discard_stdout() -> None:
    # At exit Python flushes what is left, which would block or fail once more.
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
