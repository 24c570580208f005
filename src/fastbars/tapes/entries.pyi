from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, final

BLOCK_BYTES: int
MOST_WAITING_BYTES: int

@final
class Entries:
    """Whole entries, one after the other, that wait for the writer.

    Args:
        wake: called when there is something to time or to write: by the first entry, and where a block is full.
        wait: called where MOST_WAITING_BYTES wait; returns once there is room, or they are closed.

    Attributes:
        size: bytes that wait.
        messages: payloads handed over.
        raw_bytes: bytes of all entries that were added.
        is_closed: what is added is dropped.
    """

    @property
    def size(self) -> int: ...
    @property
    def messages(self) -> int: ...
    @property
    def raw_bytes(self) -> int: ...
    @property
    def is_closed(self) -> bool: ...
    def __new__(cls, wake: Callable[[], object], wait: Callable[[], object]) -> Self: ...
    def add(self, entry: bytes) -> None:
        """Add one."""
    def take(self) -> bytes:
        """Those that wait, which do so no longer."""
    def close(self) -> None:
        """Drop what is added from here on. Idempotent."""

@final
class SessionRecorder:
    """The recorder of one session; see `fastbars.live.journal.Recorder`."""

    def __new__(cls, entries: Entries, number: int) -> Self: ...
    def messages(self, payloads: Sequence[bytes], receive_time_ns: int, steady_ns: int | None, line: int) -> None:
        """Record the messages of one wakeup."""
    def event(self, name: str, receive_time_ns: int, fields: Mapping[str, Any], body: bytes = b"") -> None:
        """Record another input of the session."""
    def note(self, name: str, receive_time_ns: int, fields: Mapping[str, Any]) -> None:
        """Record something that no bar depends on."""
