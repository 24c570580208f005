"""StateFile: the state file of one stream, reserved against other streams of this process and other processes.

The reservation is an operating system lock on PATH.lock, which ends with the process, however that ends; the file
holds the process id, and is removed when the lock is released. Paths are compared as the file system resolves them,
so that two spellings of one path are one file.

    provisional --keep--> kept --release--> released --keep--> kept, unless the file was written meanwhile
      +--another stream of this process wants the file--> released

Source: https://man7.org/linux/man-pages/man2/flock.2.html
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from weakref import finalize

from fastbars.errors import SnapshotError
from fastbars.live.shared import SHARED
from fastbars.log import log

_TRIES = 100  # a lock file can be removed between its opening and its locking
_LONGEST_NOTE = 64
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_LOCKED_BYTE = 1 << 30  # on Windows, where a locked byte cannot be read: after the process id

Signature = tuple[int, int, int] | None


class StateFile:
    """Reserves PATH for one stream.

    It is provisional until `keep` is called: a stream that was created but never entered loses it to the next one.

    Args:
        path: as the user gave it.

    Attributes:
        path: the file, with all symbolic links followed.
        is_kept: the reservation is final.

    Raises:
        SnapshotError: another stream or process has it.
        OSError: the folder is missing or cannot be written to.
    """

    path: Path
    is_kept: bool

    def __init__(self, path: str) -> None:
        self.path = Path(os.path.realpath(path))
        self._make_way()
        self.is_kept = False
        self._left: Signature = None
        self._was_left = False
        self._lock: finalize[[int, str], StateFile] | None = None
        self._reserve()

    def keep(self) -> None:
        """Make the reservation final, and renew it where it was released.

        Raises:
            SnapshotError: another stream or process has the file, or had it since and wrote to it.
        """
        if self._lock is None:
            self._make_way()
            self._reserve()
            if self._was_left and self._signature() != self._left:
                self.release()
                raise SnapshotError(
                    f"{self.path}: another stream has written the state file since; create a new stream"
                )
        self.is_kept = True

    def release(self) -> None:
        """Release the file. Idempotent."""
        self.is_kept = False
        if self._lock is None:
            return
        self._left, self._was_left = self._signature(), True
        SHARED.state_files.pop(str(self.path), None)
        self._lock()
        self._lock = None

    def _make_way(self) -> None:
        # One that is provisional loses the file.
        other = SHARED.state_files.get(str(self.path))
        if other is not None:
            if other.is_kept:
                raise _in_use(str(self.path))
            other.release()

    def _reserve(self) -> None:
        lock_path = f"{self.path}.lock"
        self._lock = finalize(self, _unlock, _locked(self.path, lock_path), lock_path)
        SHARED.state_files[str(self.path)] = self

    def _signature(self) -> Signature:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _in_use(path: str) -> SnapshotError:
    return SnapshotError(f"{path}: the state file is in use by another stream of this process ({os.getpid()})")


def _locked(path: Path, lock_path: str) -> int:
    # The descriptor of a lock file that this process alone has; -1 where the file system has no locks.
    for _ in range(_TRIES):
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            _lock(descriptor)
            if os.fstat(descriptor).st_ino == os.stat(lock_path).st_ino:
                note = f"{os.getpid()}\n".encode()
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, note, 0) if hasattr(os, "pwrite") else os.write(descriptor, note)
                return descriptor
        except FileNotFoundError:
            pass  # its holder has removed it meanwhile
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno in _NO_LOCKS:
                log.warning("state_file_not_locked", path=str(path), error=str(error))
                return -1
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise SnapshotError(f"{path}: the state file is in use by another process{holder}") from None
            raise
        os.close(descriptor)
    raise SnapshotError(f"{path}: the state file is in use: {lock_path} keeps being removed")


def _holder(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        note = os.read(descriptor, _LONGEST_NOTE).strip()
    except OSError:
        return ""
    return f" ({note.decode()})" if note.isdigit() else ""


def _unlock(descriptor: int, lock_path: str) -> None:
    if descriptor < 0:
        return
    # Removed while it is still locked, so that nobody can have locked it in between; Windows removes no open file.
    if sys.platform != "win32":
        Path(lock_path).unlink(missing_ok=True)
    os.close(descriptor)
    if sys.platform == "win32":
        with suppress(PermissionError):  # another process has opened it already
            Path(lock_path).unlink(missing_ok=True)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
