"""Journal: what a session writes down, so that its run can be replayed: every input, in the order consumed.

`fastbars.tapes.Recording` is the recorder that writes files; live code knows only what is said here. A new input of a
session is written where the session takes it, by `Journal.write`, and gets a line in `fastbars.tapes.replay.INPUTS`.
Units: times int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class Recorder(Protocol):
    """Where one session's inputs go; it must not raise."""

    def messages(self, payloads: Sequence[bytes], receive_time_ns: int, steady_ns: int | None, line: int) -> None:
        """The messages of one wakeup, before the session reads them."""

    def event(self, name: str, receive_time_ns: int, fields: Mapping[str, Any], body: bytes = b"") -> None:
        """Another input that a replay must give to the session; `fields` can be written as JSON."""

    def note(self, name: str, receive_time_ns: int, fields: Mapping[str, Any]) -> None:
        """Something worth knowing that no bar depends on, such as a state of the connection."""


# Opens the recorder of a session that declares itself as `Session.declaration` says.
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
        """Whether what is written goes anywhere."""
        return self.recorder is not None

    def write_messages(self, payloads: Sequence[bytes], receive_time_ns: int, steady_ns: int | None, line: int) -> None:
        """The messages of one wakeup, before anybody reads them."""
        if self.recorder is not None:
            self.recorder.messages(payloads, receive_time_ns, steady_ns, line)

    def write(
        self, name: str, receive_time_ns: int, fields: Mapping[str, Any], body: Callable[[], bytes] = bytes
    ) -> None:
        """Another input, before it takes effect; `body` is made only where it is written."""
        if self.recorder is not None:
            self.recorder.event(name, receive_time_ns, fields, body())

    def note(self, name: str, receive_time_ns: int, fields: Mapping[str, Any]) -> None:
        """Something that no bar depends on."""
        if self.recorder is not None:
            self.recorder.note(name, receive_time_ns, fields)
