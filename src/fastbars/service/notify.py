"""Tells systemd what becomes of the service: the datagrams of sd_notify(3), to the socket in $NOTIFY_SOCKET.

Without that variable nothing is sent. The libraries for it are unmaintained or need systemd's headers to build; the
protocol is one datagram of text.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from fastbars.clocks import steady_ns

__all__ = ["Notifier"]


class Notifier:
    """Sends states to the manager that has started this process.

    Args:
        environ: the environment of the process.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = _watchdog_s(environ)

    def ready(self, status: str) -> None:
        """It does what it is there for."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """What it does, in a line."""
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """It reads its configuration; `ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={steady_ns() // 1_000}")

    def stopping(self) -> None:
        """It ends."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Its event loop turns; to be sent every `watchdog_s`, where that is not None."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.setblocking(False)
                link.sendto(message.replace("\0", "").encode(), self._address)
        except OSError:  # nobody listens, or is too busy to: the service goes on
            return


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    # Half of what the manager waits for, where it is this process that it watches.
    try:
        if int(environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return None
        return int(environ["WATCHDOG_USEC"]) / 2e6 or None
    except (KeyError, ValueError):
        return None
