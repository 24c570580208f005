from collections.abc import Callable
from typing import Self, final

from typing_extensions import Buffer

from fastbars.wire.walker import FrameWalker

@final
class Ending:
    """The function, in Python or C, that ends the ordinary wakeups of a connection.

    Args:
        function: called as `finish` is.
    """

    def __new__(cls, function: Callable[[int], bool]) -> Self: ...
    def finish(self, steady_ns: int) -> bool:
        """End a wakeup in which the scanner took every message; `steady_ns` is when the read began.

        Returns:
            Whether nothing is left to do: on_payloads need not be called.
        """

@final
class Wakeup:
    """The reads of one connection, each of which is processed before the loop continues.

    Args:
        payloads: the list that messages for on_payloads are collected in.
        on_response: called with everything that is read before there is a walker.
        on_payloads: called at the end of a read that completed messages; with a scanner at the end of each.
        ending: asked before it, where there are no `payloads`.
        on_rest: called where the socket is to rest: until the loop has had its turn (True), or for a while (False).
        scans: messages go to a scanner, mostly.
        rests: the socket rests after each read that emptied it.

    Attributes:
        walker: None until the handshake is over.
        is_open: where this is False the walker hands everything on.
        last_receive_ns: time of the last read, on the steady clock.
        last_read_was_full: whether the last read may have left something in the socket.
    """

    walker: FrameWalker | None
    is_open: bool
    ending: Ending | None
    last_receive_ns: int
    last_read_was_full: bool
    def __new__(
        cls,
        payloads: list[bytes],
        on_response: Callable[[bytes], object],
        on_payloads: Callable[[list[bytes]], object],
        on_rest: Callable[[bool], object],
        *,
        ending: Ending | None = None,
        scans: bool = False,
        rests: bool = False,
    ) -> Self: ...
    def receive(self, data: Buffer) -> None:
        """Process one read of the socket: every message in it is handed on before this returns."""
