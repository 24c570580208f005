"""Brake: several consumers may each be too slow; the sockets are read while none of them is."""

from __future__ import annotations

from collections.abc import Callable


class Brake:
    """Pauses reading while somebody holds it. It does nothing before `release`: the stream is still being entered.

    Args:
        pause, resume: of the connections.
    """

    def __init__(self, pause: Callable[[], object], resume: Callable[[], object]) -> None:
        self._pause = pause
        self._resume = resume
        self._holders: set[str] = set()
        self._is_free = False

    def hold(self, holder: str, held: bool) -> None:
        """One consumer holds it from now on, or no longer."""
        before = bool(self._holders)
        (self._holders.add if held else self._holders.discard)(holder)
        if self._is_free and before != bool(self._holders):
            (self._pause if self._holders else self._resume)()

    def release(self) -> None:
        """The stream is entered: who holds it pauses it now."""
        self._is_free = True
        if self._holders:
            self._pause()
