"""Ending a command in an orderly way by Ctrl-C, SIGTERM or SIGHUP."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["on_signals"]


@contextmanager
def on_signals(action: Callable[[], object]) -> Iterator[None]:
    """End by `action` at the first SIGINT, SIGTERM or SIGHUP; at once at a SIGINT after that."""
    loop = asyncio.get_running_loop()
    ending = False

    def end() -> None:
        nonlocal ending
        if not ending:
            ending = True
            # A second Ctrl-C ends the process at once, whatever is still to be done. SIGTERM and SIGHUP stay handled,
            # and do nothing more.
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            action()

    signals = [signal.SIGINT, signal.SIGTERM]
    # Under `nohup` SIGHUP is ignored, and stays so.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    for number in signals:
        try:
            loop.add_signal_handler(number, end)
        except NotImplementedError:  # asyncio on Windows: Ctrl-C arrives as KeyboardInterrupt
            return (yield)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        if ending:
            # Removing a handler has put Python's default back, by which a second one would raise KeyboardInterrupt.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
