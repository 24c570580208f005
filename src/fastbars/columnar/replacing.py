"""A file or folder that is there as a whole or not at all: written beside its place, then renamed into it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MOST_PARTS = 1000


class Replacement:
    """A new file beside `path` that replaces it, or a new folder.

    A symbolic link is followed, and the permissions of a file that is replaced are kept.

    Args:
        path: where it is to be in the end.
        folder: it is one.

    Attributes:
        target: the path, links followed.
        part: to be written to.

    Raises:
        OSError: it cannot be made; or a folder is where the file is to be.
    """

    def __init__(self, path: Path, *, folder: bool = False) -> None:
        self.target = Path(os.path.realpath(path))
        if not folder and self.target.is_dir():
            raise IsADirectoryError(21, "a folder is where the file is to be", str(path))
        for number in range(1, _MOST_PARTS):
            self.part = self.target.with_name(f".{self.target.name}.part{number}")
            with suppress(FileExistsError):
                if folder:
                    self.part.mkdir()
                else:
                    self.part.open("xb").close()
                return
        raise FileExistsError(17, f"there are {_MOST_PARTS} parts already", str(path))

    def commit(self) -> None:
        """Put the file in its place, in one step, when its content is on disk."""
        with self.part.open("rb+") as written:
            os.fsync(written.fileno())
        with suppress(OSError):
            self.part.chmod(stat.S_IMODE(self.target.stat().st_mode))
        self.part.replace(self.target)

    def discard(self) -> None:
        """Delete what was written."""
        with suppress(OSError):
            self.part.unlink()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path of a file to write; it replaces `path` when the block ends without an exception."""
    new = Replacement(path)
    try:
        yield new.part
        new.commit()
    except BaseException:
        new.discard()
        raise
