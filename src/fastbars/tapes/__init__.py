"""Tapes: raw exchange messages as they came over the wire, recorded to files and read back.

`read_tape` reads one file, `read_tapes` several in a row; both yield `TapeRecord`s. A `Recording` writes everything
that a run consumes; `read_recording` yields its `Entry`s.
"""

from __future__ import annotations

from fastbars.tapes.reader import TapeRecord, read_tape, read_tapes
from fastbars.tapes.recorder import Recording
from fastbars.tapes.recording import Entry, read_recording

__all__ = ["Entry", "Recording", "TapeRecord", "read_recording", "read_tape", "read_tapes"]
