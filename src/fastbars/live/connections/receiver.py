"""Receiver: hands the messages of one connection to the session, and counts those that were data.

Units: times int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastbars.clocks import steady_ns, wall_ns
from fastbars.live.intake import Feed
from fastbars.live.reader import Received
from fastbars.live.session import Session
from fastbars.log import log
from fastbars.wire.scanner import TradeScanner
from fastbars.wire.wakeup import Ending


class Receiver:
    """Passes the messages of one connection to its session.

    After an unexpected internal error the state of the session is unknown: no further message is taken.

    Args:
        session: takes the messages.
        number: of the connection, among those that feed the session; modulo the number of lines, its line.
        on_received: called with the result of each wakeup that the session had to end.
        on_failure: called once, with an unexpected internal error.

    Attributes:
        number: of the connection.
        feed: ends wakeups of which the scanner took every message, without a Python frame; None: it is not open.
    """

    def __init__(
        self,
        session: Session,
        number: int,
        on_received: Callable[[Received], object],
        on_failure: Callable[[Exception], object],
    ) -> None:
        self.feed: Feed | None = None
        self._session = session
        self.number = number
        self._on_received = on_received
        self._on_failure = on_failure
        self._failed = False

    def open(self) -> tuple[TradeScanner | None, Ending]:
        """Open the feed.

        Returns:
            What reads trade messages before the session does (None: it must be given every message), and what ends
            the wakeups in which it has read them all.
        """
        self.feed = self._session.open_feed(self.number, on_failure=self._fail)
        return self._session.scanner_of(self.feed), self.feed.ending

    def close(self) -> None:
        """Nothing comes any more. Idempotent."""
        if self.feed is not None:
            self._session.close_feed(self.feed)

    @property
    def data_messages(self) -> int:
        """Messages received that were data and could be read."""
        return 0 if self.feed is None else self.feed.data_messages

    def take_payloads(self, payloads: Sequence[bytes]) -> None:
        """End a wakeup, given those of its messages that have not been taken yet."""
        if self._failed:
            return
        try:
            received = self._session.receive(payloads, wall_ns(), steady_ns(), line=self.number)
            if self.feed is not None:
                self.feed.note_data(received.data_messages)
            self._on_received(received)
        except Exception as error:  # noqa: BLE001 nothing above it could: it logs and stops loudly
            self._fail(error)

    def take_message(self, payload: bytes) -> None:
        """Take one message, on arrival, that the scanner did not take."""
        if self._failed:
            return
        try:
            self._session.take_message(payload, wall_ns(), steady_ns(), self.number)
        except Exception as error:  # noqa: BLE001 as above
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        log.exception("session_failed", exchange=self._session.exchange.name)
        self._on_failure(error)
