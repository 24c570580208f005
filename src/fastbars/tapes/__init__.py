"""Tapes: raw exchange messages as they came over the wire, recorded to files and read back.

`read_tape` reads one file, `read_tapes` several in a row; both yield `TapeRecord`s.
"""

from __future__ import annotations

from fastbars.tapes.reader import TapeRecord, read_tape, read_tapes

__all__ = ["TapeRecord", "read_tape", "read_tapes"]
