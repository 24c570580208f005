"""What a session tells a recorder, so that its run can be replayed: every input, in the order consumed.

`fastbars.tapes.Recording` is the recorder that writes files; live code knows only what is said here. A new input of a
session is recorded where the session takes it, by `event`, and gets a line in `fastbars.tapes.replay.INPUTS`.
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
