"""Watchdog: acts on silence, of a whole connection and of single subscriptions, while the socket is open.

    what is silent                                      what is done
    the connection, though it used to bring data        it is dropped
    a symbol that used to trade                         it is subscribed again; then the connection is dropped
    a subscription that never brought anything          it is subscribed again once, and reported

(`keepalive.py` drops a socket over which not even a pong comes.) From its last trade on, a symbol that has fallen
silent is not covered (`Coverage.suspect`) until its subscription is confirmed again.

Units: seconds on a steady clock; times int64 nanoseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from fastbars.clocks import steady_s
from fastbars.errors import SubscriptionError
from fastbars.exchanges.messages import Stream
from fastbars.live.connections.connection import Connection
from fastbars.live.connections.never_heard import NeverHeard
from fastbars.live.connections.silence import Rates, Silence
from fastbars.live.session import Session
from fastbars.log import log

_NAMED = 20


class Watchdog:
    """Watches the connections of one line, one after the other.

    Args:
        session: knows when each symbol last traded; its config says what counts as silence.
        rates: of the symbols, learned by all watchdogs of the session.
        on_error: called with an error that names what has never been heard, or was refused when it was renewed.
        reports: whether it reports subscriptions that never brought anything; of several lines the first does, as a
            trade of any line counts.

    Attributes:
        silence: what has fallen silent, by the rates learned.
        resubscriptions: subscriptions that were made again.
    """

    def __init__(
        self, session: Session, rates: Rates, on_error: Callable[[SubscriptionError], object], *, reports: bool = True
    ) -> None:
        config = session.config
        self.silence = Silence(rates)
        self.resubscriptions = 0
        self._session = session
        self._on_error = on_error
        self._never_heard = NeverHeard(config.never_heard_after or 4.0 * config.stale_after) if reports else None

    @property
    def reported(self) -> int:
        """How many subscriptions were reported as never heard."""
        return 0 if self._never_heard is None else self._never_heard.reported

    async def watch(self, connection: Connection, heard_before: int) -> None:
        """Check every `stale_interval`, and act on what is silent, until the connection ends.

        Args:
            heard_before: how many data messages came on the connections before it.
        """
        session, exchange = self._session, connection.exchange
        self.silence.restart(steady_s())
        if self._never_heard is not None:
            self._never_heard.connected(steady_s(), _marks(session))
        while True:
            await asyncio.sleep(connection.config.stale_interval)
            if self._never_heard is not None and await self._renew_never_heard(self._never_heard, connection):
                self.silence.restart(steady_s())  # nothing was checked meanwhile
            now_s = steady_s()
            times_ns = session.trade_times_ns
            names = session.symbols[: len(times_ns)]
            channel = session.channel
            watched = [i for i, name in enumerate(names) if (name, channel) in connection.subscriptions.confirmed]
            # What seems to be missing may lie unread in the socket.
            if not connection.is_reading or connection.last_read_was_full:
                self.silence.restart(now_s, watched)
                continue
            found = self.silence.find_silent(now_s, heard_before + connection.data_messages, times_ns, watched)
            log.debug("silence", exchange=exchange.name, watched=len(watched), found=found)
            if found.everything_s is not None:
                connection.drop(f"no data for {found.everything_s:.1f} s, though the socket is open")
                return
            if found.again:
                self._suspect(found.again)
                symbols = [names[i] for i in found.again][:_NAMED]
                connection.drop(f"still no trades of {len(found.again)} symbols after resubscribing: {symbols}")
                return
            if found.symbols:
                self._suspect(found.symbols)
                silent = [(names[i], channel) for i in found.symbols]
                symbols = [symbol for symbol, _ in silent][:_NAMED]
                log.warning("subscription_silent", exchange=exchange.name, count=len(silent), symbols=symbols)
                if await self._renew(silent, connection) is not None:
                    connection.drop("a silent subscription could not be renewed")
                    return

    async def _renew_never_heard(self, never_heard: NeverHeard, connection: Connection) -> bool:
        # Returns whether something was renewed. A subscription whose rate is known is left to `silence` until that has
        # tried everything.
        session, subscriptions = self._session, connection.subscriptions
        now_s = steady_s()
        if not connection.is_reading:
            never_heard.pause(now_s)
            return False
        channel = session.channel
        candles = set(session.exchange.candles.values())
        ids = {name: i for i, name in enumerate(session.symbols)}
        if session.has_own_parser and not ids.keys() <= {symbol for symbol, _ in session.streams}:
            channel = ""  # a user's parser has names of its own: which subscription a trade belongs to is unknown
        watched = [
            (symbol, name)
            for symbol, name in subscriptions.desired
            if (symbol, name) in subscriptions.confirmed
            and (name == channel or name in candles)
            and not (name == channel and symbol in ids and self.silence.is_judged(ids[symbol]))
        ]
        report = never_heard.find_due(now_s, watched, subscriptions.desired, _marks(session))
        if not report.streams:
            return False
        error = report.error(connection.exchange.name)
        counts = {"count": len(report.streams), "renewed": len(report.renew)}
        log.warning("never_heard", exchange=connection.exchange.name, **counts, error=str(error))
        self._on_error(error)
        renew = [stream for stream in report.renew if stream in subscriptions.confirmed]
        if renew:
            refused = await self._renew(renew, connection)
            if refused is not None:
                self._on_error(refused)
        return bool(renew)

    async def _renew(self, streams: Sequence[Stream], connection: Connection) -> SubscriptionError | None:
        # Subscribes again. Returns the exchange's refusal, if any.
        self.resubscriptions += len(streams)
        try:
            await connection.subscriptions.renew(streams, connection.send)
        except SubscriptionError as error:
            log.error("subscription_refused", exchange=connection.exchange.name, error=str(error))
            return error
        return None

    def _suspect(self, ids: Sequence[int]) -> None:
        self._session.coverage.suspect([self._session.symbols[i] for i in ids])


def _marks(session: Session) -> dict[Stream, int]:
    # For each subscription to trades or candles a number that changes with every message; see `NeverHeard.find_due`.
    channel = session.channel
    times_ns = zip(session.symbols, session.trade_times_ns.tolist(), strict=False)
    return session.candles.counts | {(symbol, channel): time_ns for symbol, time_ns in times_ns}
