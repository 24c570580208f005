"""Watchdog: does something about silence, of a whole connection and of single subscriptions, while the socket lives.

    what is silent                                      what is done
    the connection, though it used to bring data        it is dropped
    a symbol that used to trade                         it is subscribed again; in vain: the connection is dropped
    a subscription of which nothing ever came           it is subscribed again once, and reported

(A socket over which not even a ping comes is the duty of `keepalive.py`.) What a symbol missed while it was silent is
an outage of that symbol alone: `Outages.suspect_since` says since when. It ends when the symbol has been subscribed
again, and a moment after that once more, as some exchanges send a part of the past by themselves.

Units: seconds on a steady clock; times int64 nanoseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from fastbars.clocks import steady_ns, steady_s, wall_ns
from fastbars.errors import SubscriptionError
from fastbars.exchanges.messages import Stream
from fastbars.live.connections.connection import Connection
from fastbars.live.connections.never_heard import NeverHeard
from fastbars.live.connections.silence import Silence
from fastbars.live.outages import HISTORY_S
from fastbars.live.session import Session
from fastbars.log import log

_NAMED = 20


class Watchdog:
    """Watches the connections of one line, one after the other: what was learned of rates outlives each.

    Args:
        session: knows when what has traded; its config says what silence is.
        on_error: called with an error that names what has never been heard, or was refused when it was renewed.
        reports: whether what was never heard is its duty. A trade is heard on any of several lines: the first reports.

    Attributes:
        silence: what was learned.
        resubscriptions: subscriptions that were made again.
    """

    def __init__(
        self, session: Session, on_error: Callable[[SubscriptionError], object], *, reports: bool = True
    ) -> None:
        config = session.config
        self.silence = Silence(config.stale_after, config.stale_factor)
        self.resubscriptions = 0
        self._session = session
        self._on_error = on_error
        self._never_heard = NeverHeard(config.never_heard_after or 4.0 * config.stale_after) if reports else None

    @property
    def reported(self) -> int:
        """How many subscriptions were reported as never heard."""
        return 0 if self._never_heard is None else self._never_heard.reported

    async def watch(self, connection: Connection, heard_before: int) -> None:
        """Look again and again, and do something about it, until the connection ends.

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
            # What lies unread may be what is missed.
            if not connection.is_reading or connection.last_read_was_full:
                self.silence.restart(now_s)
                continue
            times_ns = session.trade_times_ns
            names = session.symbols[: len(times_ns)]
            channel = session.channel
            watched = [i for i, name in enumerate(names) if (name, channel) in connection.subscriptions.confirmed]
            found = self.silence.find_silent(now_s, heard_before + connection.data_messages, times_ns, watched)
            log.debug("silence", exchange=exchange.name, watched=len(watched), found=found)
            if found.everything_s is not None:
                connection.drop(f"no data for {found.everything_s:.1f} s, though the socket lives")
                return
            if found.again:
                self._suspect(found.again)
                symbols = [names[i] for i in found.again][:_NAMED]
                connection.drop(f"subscribed again, and still no trades of {len(found.again)} symbols: {symbols}")
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
        # Whether something was renewed. Of subscriptions whose rate is known, nothing is said while `silence` has still
        # something to do about them.
        session, subscriptions = self._session, connection.subscriptions
        now_s = steady_s()
        if not connection.is_reading:
            never_heard.pause(now_s)
            return False
        channel = session.channel
        candles = set(session.exchange.candles.values())
        ids = {name: i for i, name in enumerate(session.symbols)}
        if session.has_own_parser and not ids.keys() <= {symbol for symbol, _ in subscriptions.desired}:
            channel = ""  # a user's parser has names of its own: whose trades these are, is not known here
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
            now_ns = session.now_ns(steady_ns())
            for symbol in {symbol for symbol, name in renew if name == channel and symbol in ids}:
                if now_ns is not None:  # it was heard on an earlier connection: until it is subscribed again, it is not
                    session.outages.suspect(symbol, now_ns - session.intake.delays.grace_ns)
            refused = await self._renew(renew, connection)
            if refused is not None:
                self._on_error(refused)
        return bool(renew)

    async def _renew(self, streams: Sequence[Stream], connection: Connection) -> SubscriptionError | None:
        # What the exchange refuses of it.
        outages = self._session.outages
        self.resubscriptions += len(streams)
        try:
            await connection.subscriptions.renew(streams, connection.send)
        except SubscriptionError as error:
            log.error("subscription_refused", exchange=connection.exchange.name, error=str(error))
            return error
        symbols = [symbol for symbol, _ in streams]
        if outages.suspect_since.keys().isdisjoint(symbols):
            return None
        until_ns = outages.until_ns(steady_ns())
        for wait_s in (0.0, HISTORY_S):
            await asyncio.sleep(wait_s)
            if until_ns is not None:
                outages.judge_suspects(symbols, until_ns, wall_ns())
        outages.trust(symbols)
        return None

    def _suspect(self, ids: Sequence[int]) -> None:
        # Should the connection end before they are heard again, the outage began for them with their last trade.
        times_ns = self._session.trade_times_ns
        for i in ids:
            self._session.outages.suspect(self._session.symbols[i], int(times_ns[i]))


def _marks(session: Session) -> dict[Stream, int]:
    # What `NeverHeard` wants of each subscription of trades and candles.
    channel = session.channel
    times_ns = zip(session.symbols, session.trade_times_ns.tolist(), strict=False)
    return session.candles.counts | {(symbol, channel): time_ns for symbol, time_ns in times_ns}
