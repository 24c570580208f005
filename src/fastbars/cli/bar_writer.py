"""Writes bars to stdout or a file, in a thread, so that a slow reader blocks nothing else."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastbars.bars import OHLCVBar
from fastbars.buffer import BarBuffer
from fastbars.cli.files import OutputFile
from fastbars.cli.outlet import READER_TIMEOUT_S, Outlet
from fastbars.cli.output import BarText, terminal_width
from fastbars.kernel.rows import IssuedRows

__all__ = ["BarWriter", "bar_writer", "outlet_to_stdout"]

_BATCH = 256  # bars handed to the writing thread at once, unless they are shown live


class BarWriter:
    """Writes bars as they come, and counts them.

    Args:
        outlet: where to.
        text: the format.
        live: write each bar at once, and the header even before the first.
        has_header: the header is there already.

    Attributes:
        bars: number written.
    """

    def __init__(self, outlet: Outlet, text: BarText, *, live: bool, has_header: bool = False) -> None:
        self.outlet = outlet
        self.bars = 0
        self._text = text
        self._most = 1 if live else _BATCH
        self._lines = [] if text.header is None or has_header else [text.header + "\n"]
        if live:
            self.flush()

    def write(self, text: str) -> None:
        """Write whole lines; blocks while the reader is behind."""
        self._lines.append(text)
        if len(self._lines) >= self._most:
            lines, self._lines = self._lines, []
            self.outlet.put("".join(lines))

    def write_bar(self, bar: OHLCVBar) -> None:
        """Write a bar; blocks while the reader is behind."""
        self.bars += 1
        self.write(self._text.line(bar))

    def write_rows(self, buffer: BarBuffer, rows: IssuedRows) -> None:
        """Write the bars that a buffer has issued; blocks while the reader is behind."""
        self.bars += len(rows)
        self.write("".join(self._text.lines(buffer, rows)))

    async def write_live(self, bar: OHLCVBar) -> None:
        """Write a bar from an event loop, which keeps running while the reader is behind."""
        await self.outlet.wait_for_room()
        self.bars += 1
        self.outlet.add(self._text.line(bar))

    def flush(self) -> None:
        """Hand over the remaining lines."""
        lines, self._lines = self._lines, []
        self.outlet.add("".join(lines))


@contextmanager
def outlet_to_stdout() -> Iterator[Outlet]:
    """An outlet to stdout, completely written at the end. Raises OSError if there is no stdout."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "stdout")
    outlet = Outlet(sys.stdout, "stdout")
    try:
        yield outlet
    except KeyboardInterrupt:
        if not outlet.has_timeout:  # the first Ctrl-C; a second one waits for nothing
            with suppress(OSError):
                outlet.close(READER_TIMEOUT_S)
        raise
    except BaseException:
        outlet.close()
        raise
    outlet.close()


@contextmanager
def bar_writer(form: str, path: Path | None, *, live: bool = False, append: bool = False) -> Iterator[BarWriter]:
    """The writer of a command's bars.

    Args:
        form: "table", "csv" or "jsonl".
        path: a file; None: stdout.
        live: bars are shown as they come, and the file is one that grows for days (see `OutputFile`).
        append: add to what is in the file.
    """
    if path is None:
        with outlet_to_stdout() as outlet:
            writer = BarWriter(outlet, BarText(form, terminal_width(sys.stdout)), live=live)
            try:
                yield writer
            finally:
                writer.flush()
        return
    text = BarText(form)
    output = OutputFile(path, live=live, append=append, header=text.header)
    outlet = Outlet(output.file, str(path))
    writer = BarWriter(outlet, text, live=live, has_header=output.continues)
    try:
        yield writer
        writer.flush()
        outlet.close()
    except BaseException as error:
        # Keep what was written so far, whatever ended the command.
        with suppress(OSError):
            writer.flush()
            outlet.close(READER_TIMEOUT_S)
        # If the thread is still writing, it owns the file, which can then be neither closed nor renamed.
        kept_in = "" if outlet.is_stuck else output.finish(writer.bars, succeeded=False)
        if kept_in:
            error.add_note(f"what was written before is in {kept_in}")
        raise
    output.finish(writer.bars, succeeded=True)
