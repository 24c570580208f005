"""Silence: notices what used to be heard and is no longer heard, though the socket lives.

Each symbol's rate is learned from when its trades come, and the whole connection's from when any data comes. A
symbol that trades once an hour may be silent for hours; one that trades every second may not. A silent
subscription is first renewed; where that does not help, the connection is. What stays silent even then is taken
for quiet, until it is heard again.

What has never been heard since it was subscribed to is no matter of rates: see `never_heard.py`.

It looks once in a while and compares times of last trades, so it costs nothing a trade. Units: seconds on a
steady clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastbars.callbacks import call
from fastbars.errors import SubscriptionError
from fastbars.live.connections.connection import Line
from fastbars.live.connections.never_heard import NeverHeard
from fastbars.live.repairs import HISTORY_S
from fastbars.live.session import Session
from fastbars.log import log

_ENOUGH = 10  # gaps seen before a rate counts as known
_WEIGHT = 0.1  # of the latest gap in the mean
_LONGEST = 3.0  # so many times the longest gap seen is silence, where the mean says less
_FORGET = 0.999  # what is left of the longest gap with each one after it
_CONNECTION = 0  # its row; a symbol's is its id + 1
_NAMED = 20


class Found(NamedTuple):
    """What is silent.

    Attributes:
        everything_s: for how long nothing at all came, s; None where something did.
        symbols: ids of silent symbols, to be subscribed again.
        again: ids of those that have been, in vain.
    """

    everything_s: float | None
    symbols: list[int]
    again: list[int]


class Silence:
    """Learns what is to be heard, and says what is not.

    Args:
        least_s: shorter than this is never silence.
        factor: as many times the mean gap between two trades is silence.
        never_heard: what has brought nothing yet; None: that is somebody else's duty.
    """

    def __init__(self, least_s: float, factor: float, never_heard: NeverHeard | None = None) -> None:
        self.never_heard = never_heard
        self._least_s = least_s
        self._factor = factor
        self._marks: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._heard_s = np.zeros(0)  # when the mark last moved
        self._since_s = np.zeros(0)  # from when silence counts: since then, or since something was done about it
        self._mean_s = np.zeros(0)
        self._longest_s = np.zeros(0)
        self._gaps = np.zeros(0, np.int64)
        self._stage = np.zeros(0, np.int64)  # what was done: 0 nothing, 1 renewed, 2 reconnected
        self.resubscriptions = 0

    @property
    def reported(self) -> int:
        """How many subscriptions were reported as never heard."""
        return 0 if self.never_heard is None else self.never_heard.reported

    def restart(self, now_s: float) -> None:
        """Nothing could be heard until now: no silence before counts, and no gap is learned from it."""
        self._since_s[:] = now_s
        self._heard_s[:] = np.nan

    def look(self, now_s: float, messages: int, trade_times_ns: npt.NDArray[np.int64], watched: Sequence[int]) -> Found:
        """What has been silent for too long.

        Args:
            messages: how many came on the connection so far.
            trade_times_ns: time of the latest trade of each symbol, by id.
            watched: ids of the symbols that are subscribed.
        """
        marks = np.concatenate(([messages], trade_times_ns))
        self._grow(len(marks), now_s)
        moved = marks != self._marks
        gaps = now_s - self._heard_s
        learned = moved & ~np.isnan(gaps)
        first = learned & (self._gaps == 0)
        # What was silence teaches only a little, or the next would go unnoticed.
        known = self._gaps >= _ENOUGH
        gaps[known] = np.minimum(gaps, self._limit_s())[known]
        self._mean_s[first] = gaps[first]
        self._mean_s[learned] += _WEIGHT * (gaps[learned] - self._mean_s[learned])
        self._longest_s[learned] = np.maximum(_FORGET * self._longest_s[learned], gaps[learned])
        self._gaps[learned] += 1
        self._heard_s[moved] = self._since_s[moved] = now_s
        self._stage[moved] = 0
        self._marks = marks
        limit_s = self._limit_s() * 2.0 ** np.minimum(self._stage, 8)
        silent = (self._gaps >= _ENOUGH) & (now_s - self._since_s > limit_s)
        if silent[_CONNECTION]:
            silent_s = float(now_s - self._since_s[_CONNECTION])
            self._stage[_CONNECTION] += 1  # the next time it takes longer
            return Found(silent_s, [], [])
        rows = np.asarray(watched, np.int64) + 1
        rows = rows[silent[rows] & (self._stage[rows] < 2)]
        self._since_s[rows] = now_s
        self._stage[rows] += 1
        again = rows[self._stage[rows] == 2]
        return Found(None, (rows[self._stage[rows] == 1] - 1).tolist(), (again - 1).tolist())

    def _limit_s(self) -> npt.NDArray[np.float64]:
        learned_s = np.maximum(self._factor * self._mean_s, _LONGEST * self._longest_s)
        return np.maximum(self._least_s, learned_s)

    async def watch(
        self,
        line: Line,
        session: Session,
        heard_before: int,
        on_error: Callable[[SubscriptionError], object] | None = None,
    ) -> None:
        """Look again and again, and do something about it, until the line ends.

        Args:
            heard_before: how many data messages came on the lines before it.
            on_error: called with an error that names what has never been heard.
        """
        self.restart(time.monotonic())
        if self.never_heard is not None:
            self.never_heard.connected(time.monotonic(), _marks(session))
        while True:
            await asyncio.sleep(line.config.stale_interval)
            if self.never_heard is not None and await self._look_for_first(self.never_heard, line, session, on_error):
                self.restart(time.monotonic())  # meanwhile nobody looked
            now_s = time.monotonic()
            if not line.is_reading or line.last_read_was_full:
                self.restart(now_s)
                continue
            times_ns = session.trade_times_ns
            names = session.symbols[: len(times_ns)]
            channel = session.channel
            watched = [i for i, name in enumerate(names) if (name, channel) in line.subscriptions.confirmed]
            found = self.look(now_s, heard_before + line.data_messages, times_ns, watched)
            log.debug("silence", exchange=line.exchange.name, watched=len(watched), found=found)
            if found.everything_s is not None:
                line.drop(f"no data for {found.everything_s:.1f} s, though the socket lives")
                return
            if found.again:
                self._doubt(found.again, session)
                symbols = [names[i] for i in found.again][:_NAMED]
                line.drop(f"subscribed again, and still no trades of {len(found.again)} symbols: {symbols}")
                return
            if found.symbols:
                self._doubt(found.symbols, session)
                silent = [(names[i], channel) for i in found.symbols]
                symbols = [symbol for symbol, _ in silent][:_NAMED]
                log.warning("subscription_silent", exchange=line.exchange.name, count=len(silent), symbols=symbols)
                if await self._renew(silent, line, session) is not None:
                    line.drop("a silent subscription could not be renewed")
                    return

    async def _look_for_first(
        self,
        never_heard: NeverHeard,
        line: Line,
        session: Session,
        on_error: Callable[[SubscriptionError], object] | None,
    ) -> bool:
        # Whether something was renewed. Of subscriptions whose rate is known, nothing is said while `look` has still
        # something to do about their silence.
        now_s = time.monotonic()
        if not line.is_reading:
            never_heard.pause(now_s)
            return False
        subscriptions, channel = line.subscriptions, session.channel
        candles = set(session.exchange.candles.values())
        ids = {name: i for i, name in enumerate(session.symbols)}
        if session.declaration()["own_parser"] and not ids.keys() <= {symbol for symbol, _ in subscriptions.desired}:
            channel = ""  # a user's parser has names of its own: whose trades these are, is not known here
        watched = [
            (symbol, name)
            for symbol, name in subscriptions.desired
            if (symbol, name) in subscriptions.confirmed
            and (name == channel or name in candles)
            and not (name == channel and self._is_judged(ids.get(symbol)))
        ]
        found = never_heard.look(now_s, watched, subscriptions.desired, _marks(session))
        if not found.streams:
            return False
        error = found.error(line.exchange.name)
        counts = {"count": len(found.streams), "renewed": len(found.renew)}
        log.warning("never_heard", exchange=line.exchange.name, **counts, error=str(error))
        if on_error is not None:
            call(on_error, error)
        renew = [stream for stream in found.renew if stream in subscriptions.confirmed]
        if renew:
            now_ns = session.now_ns(time.monotonic_ns())
            for symbol in {symbol for symbol, name in renew if name == channel and symbol in ids}:
                if now_ns is not None:  # it was heard on an earlier connection: until it is subscribed again, it is not
                    session.unheard.setdefault(symbol, now_ns - round(session.grace_s * 1e9))
            refused = await self._renew(renew, line, session)
            if refused is not None and on_error is not None:
                call(on_error, refused)
        return bool(renew)

    def _is_judged(self, i: int | None) -> bool:
        # Whether the rate of a symbol is known, and not yet everything was done about its silence.
        return (
            i is not None and i + 1 < len(self._gaps) and bool(self._gaps[i + 1] >= _ENOUGH and self._stage[i + 1] < 2)
        )

    async def _renew(
        self, streams: Sequence[tuple[str, str]], line: Line, session: Session
    ) -> SubscriptionError | None:
        # What the exchange refuses of it.
        self.resubscriptions += len(streams)
        try:
            await line.subscriptions.renew(streams, line.send)
        except SubscriptionError as error:
            log.error("subscription_refused", exchange=line.exchange.name, error=str(error))
            return error
        if not any(symbol in session.unheard for symbol, _ in streams):
            return None
        until_ns = session.now_ns(time.monotonic_ns())
        if until_ns is not None:
            until_ns += round(session.grace_s * 1e9)  # the clock is an estimate
        for wait_s in (0.0, HISTORY_S):
            await asyncio.sleep(wait_s)
            for symbol, _ in streams:
                if until_ns is not None and symbol in session.unheard:
                    session.note_outage(session.unheard[symbol], until_ns, time.time_ns(), [symbol])
        for symbol, _ in streams:
            session.unheard.pop(symbol, None)
        return None

    def _doubt(self, ids: Sequence[int], session: Session) -> None:
        # Should the line end before they are heard again, the outage began for them with their last trade.
        times_ns = session.trade_times_ns
        for i in ids:
            session.unheard.setdefault(session.symbols[i], int(times_ns[i]))

    def _grow(self, size: int, now_s: float) -> None:
        more = size - len(self._marks)
        if more > 0:
            self._marks = np.concatenate((self._marks, np.zeros(more, np.int64)))
            self._heard_s = np.concatenate((self._heard_s, np.full(more, np.nan)))
            self._since_s = np.concatenate((self._since_s, np.full(more, now_s)))
            self._mean_s = np.concatenate((self._mean_s, np.zeros(more)))
            self._longest_s = np.concatenate((self._longest_s, np.zeros(more)))
            self._gaps = np.concatenate((self._gaps, np.zeros(more, np.int64)))
            self._stage = np.concatenate((self._stage, np.zeros(more, np.int64)))


def _marks(session: Session) -> dict[tuple[str, str], int]:
    # What `NeverHeard` wants of each subscription of trades and candles.
    channel = session.channel
    times_ns = zip(session.symbols, session.trade_times_ns.tolist(), strict=False)
    return session.candles.counts | {(symbol, channel): time_ns for symbol, time_ns in times_ns}
