"""Journal: records every input of a session in the order consumed, so that its run can be replayed.

`fastbars.tapes.Recording` is the recorder that writes files; live code knows only the `Recorder` below. A new kind
of input is recorded by `Journal.write` where the session takes it, and gets a line in `fastbars.tapes.replay.INPUTS`.
Units: times int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class Recorder(Protocol):
    """Records the inputs of one session; it must not raise."""

    def messages(self, payloads: Sequence[bytes], receive_time_ns: int, steady_ns: int | None, line: int) -> None:
        """Record the messages of one wakeup, before the session reads them."""

    def event(self, name: str, receive_time_ns: int, fields: Mapping[str, Any], body: bytes = b"") -> None:
        """Record another input, which a replay must repeat; `fields` can be written as JSON."""

    def note(self, name: str, receive_time_ns: int, fields: Mapping[str, Any]) -> None:
        """Record something that no bar depends on, such as a state of the connection."""


# Opens the recorder of a session, given `Session.declaration()`.
OpenRecorder = Callable[[Mapping[str, Any]], Recorder]


class Journal:
    """Writes a session's inputs to its recorder, where it has one.

    Attributes:
        recorder: None: nothing is recorded.
    """

    def __init__(self, recorder: Recorder | None) -> None:
        self.recorder = recorder

    @property
    def is_recorded(self) -> bool:
        """Whether there is a recorder."""
        return self.recorder is not None

    def write_messages(self, payloads: Sequence[bytes], receive_time_ns: int, steady_ns: int | None, line: int) -> None:
        """Record the messages of one wakeup, before they are read."""
        if self.recorder is not None:
            self.recorder.messages(payloads, receive_time_ns, steady_ns, line)

    def write(
        self, name: str, receive_time_ns: int, fields: Mapping[str, Any], body: Callable[[], bytes] = bytes
    ) -> None:
        """Record another input, before it takes effect; `body` is called only where there is a recorder."""
        if self.recorder is not None:
            self.recorder.event(name, receive_time_ns, fields, body())

    def note(self, name: str, receive_time_ns: int, fields: Mapping[str, Any]) -> None:
        """Record something that no bar depends on."""
        if self.recorder is not None:
            self.recorder.note(name, receive_time_ns, fields)
