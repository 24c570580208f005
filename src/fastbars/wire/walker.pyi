from collections.abc import Callable
from typing import Self, final

from typing_extensions import Buffer

from fastbars.wire.scanner import TradeScanner

@final
class FrameWalker:
    """Walks the frames that a server sends.

    Args:
        on_message: called with the payload of each whole data frame whose trades the scanner does not take.
        hand_on: called with the bytes of every other frame, as they come. It returns whether the connection is
            still open after them; after the first False all bytes go there.
        scanner: reads trade messages in place; None: every message goes to on_message.
        max_size: a longer frame is handed on; None: no limit.
    """

    done: bool
    def __new__(
        cls,
        on_message: Callable[[bytes], object],
        hand_on: Callable[[bytes], bool],
        scanner: TradeScanner | None = None,
        max_size: int | None = None,
    ) -> Self: ...
    def feed(self, data: Buffer) -> None:
        """Process the next bytes of the connection. Raises what on_message and hand_on raise."""

    def stop(self) -> None:
        """Hand on what is kept of a cut frame, and everything from here on."""

    @property
    def kept_bytes(self) -> int:
        """Bytes of a cut frame, kept until the rest comes."""

    @property
    def buffer_bytes(self) -> int:
        """Memory held for cut frames."""
