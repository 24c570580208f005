"""Ends a command in an orderly way on Ctrl-C, SIGTERM or SIGHUP.

running --first signal--> ending: `action` was called once, the command finishes its work
   ending --SIGINT--> the process dies at once; --SIGTERM, SIGHUP--> ignored
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["on_signals"]


@contextmanager
def on_signals(action: Callable[[], object]) -> Iterator[None]:
    """Call `action` on the first SIGINT, SIGTERM or SIGHUP; any SIGINT after that ends the process at once."""
    loop = asyncio.get_running_loop()
    ending = False

    def end() -> None:
        nonlocal ending
        if not ending:
            ending = True
            # From now on Ctrl-C kills, so that a user need not wait for an orderly end that hangs. SIGTERM and SIGHUP
            # stay handled and do nothing: supervisors and closing terminals repeat them, and bars would be lost.
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            action()

    signals = [signal.SIGINT, signal.SIGTERM]
    # Under `nohup` SIGHUP is ignored on purpose, and stays so.
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
            # Removing the handler has restored Python's default, with which Ctrl-C would raise KeyboardInterrupt in
            # the middle of the last flush.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
