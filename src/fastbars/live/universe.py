"""Universe: the symbols of a stream that was given a choice instead of names, as the exchange's list changes.

    Universe        sans-I/O: a list of instruments in, symbols to begin and to end out
    UniverseWatch   asks for the list, again and again, and subscribes and unsubscribes what the universe says

A symbol that is listed, trades and is chosen is subscribed to. One that is subscribed to ends only for a reason:

    delisted        the list says so, or two lists in a row do not have it
    no longer chosen    what it is has changed, or its volume has fallen below half of `min_volume`
    halted          does not end it: it is subscribed to, and waits

A list from which half of the instruments have gone at once is not believed, and ends nothing, until ten in a row have
said the same; a list that cannot be had changes nothing. Units: seconds on a steady clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Protocol

from fastbars.errors import RestError, SubscriptionError, WSConnectionError
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.instruments import Instrument, Where
from fastbars.live.config import StreamConfig
from fastbars.live.connections.placement import most_streams
from fastbars.live.listings import RETRY_S
from fastbars.log import SparseLog, log

_KEEPS = Decimal("0.5")  # of `min_volume`: what is subscribed to may fall so far
_MISSED = 2  # lists in a row that do not have a symbol
_DOUBTED = 10  # lists in a row that have lost half of the instruments
_REMEMBERED = 1000  # symbols that ended, with their reasons
_SHOWN = 20  # symbols in a line of the log


@dataclass(frozen=True, slots=True)
class SymbolChange:
    """What a new list of instruments has changed.

    Attributes:
        added: symbols that are subscribed to from now on.
        ended: symbols that are not any more, and why.
        symbols: how many are subscribed to now.
    """

    added: tuple[str, ...] = ()
    ended: Mapping[str, str] = field(default_factory=dict)
    symbols: int = 0


@dataclass(frozen=True, slots=True)
class UniverseStats:
    """What a universe knows, and has seen so far.

    Attributes:
        symbols: those that are subscribed to.
        halted: those of them that do not trade now.
        ended: the latest 1,000 symbols that ended, and why.
        refused: symbols that are chosen but could not be subscribed to, and why; asked for again with each list.
        lists: how many lists were read; failures: how many could not be had; doubted: how many were not believed.
    """

    symbols: tuple[str, ...] = ()
    halted: tuple[str, ...] = ()
    ended: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    lists: int = 0
    failures: int = 0
    doubted: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a list of instruments says.

    Attributes:
        begin: symbols to subscribe to, those of which most was traded first.
        end: symbols to unsubscribe from, and why.
        doubt: why the list is not believed; empty: it is.
        is_open: it is to be asked for again soon, because something is doubtful.
    """

    begin: tuple[str, ...]
    end: Mapping[str, str]
    doubt: str = ""
    is_open: bool = False


class Universe:
    """Follows the lists of one market.

    Args:
        chosen: which instruments.
        arriving: the name under which the data of a symbol arrives; of two that share one, one is subscribed to.

    Attributes:
        members: symbol -> instrument as last listed: those that are subscribed to.
    """

    def __init__(self, chosen: Where, arriving: Callable[[str], str] = str) -> None:
        self.members: dict[str, Instrument] = {}
        self._arriving = arriving
        self._chosen = chosen
        self._alive: frozenset[str] = frozenset()  # in the last list that was believed, and not delisted
        self._doubts = 0
        self._missed: dict[str, int] = {}

    def read(self, listed: Sequence[Instrument]) -> Verdict:
        """Read a list. What it says is done where `join` and `leave` say so."""
        by_symbol = {one.symbol: one for one in listed}
        alive = frozenset(one.symbol for one in listed if one.status != "delisted")
        gone = len(self._alive - alive)
        doubt = ""
        if gone > 1 and 2 * gone >= len(self._alive) and self._doubts + 1 < _DOUBTED:
            self._doubts += 1
            doubt = f"{gone} of {len(self._alive)} instruments are gone at once"
        else:
            self._doubts, self._alive = 0, alive
        end: dict[str, str] = {}
        missing = False
        for symbol, before in self.members.items():
            one = by_symbol.get(symbol)
            if one is not None:
                self.members[symbol] = one
                self._missed.pop(symbol, None)
            elif not doubt:
                missing = True
                self._missed[symbol] = self._missed.get(symbol, 0) + 1
            reason = "" if doubt else self._reason(symbol, one)
            if reason:
                end[symbol] = reason
            elif one is None:
                self.members[symbol] = before
        begin = [one for one in listed if one.symbol not in self.members and self._begins(one)]
        begin.sort(key=lambda one: (-(one.quote_volume or 0), one.symbol))
        names = {self._arriving(symbol) for symbol in self.members}
        apart: dict[str, str] = {}
        for one in begin:
            if self._arriving(one.symbol) not in names:
                apart.setdefault(self._arriving(one.symbol), one.symbol)
        missing = missing and any(symbol not in end for symbol in self._missed)
        return Verdict(tuple(apart.values()), end, doubt, bool(doubt) or missing)

    def join(self, instruments: Sequence[Instrument]) -> None:
        """These are subscribed to from now on."""
        self.members |= {one.symbol: one for one in instruments}

    def leave(self, symbols: Sequence[str]) -> None:
        """These are not subscribed to any more."""
        for symbol in symbols:
            self.members.pop(symbol, None)
            self._missed.pop(symbol, None)

    def _begins(self, one: Instrument) -> bool:
        return one.status == "trading" and self._chosen.takes(one)

    def _reason(self, symbol: str, one: Instrument | None) -> str:
        if one is None:
            return "no longer listed" if self._missed[symbol] >= _MISSED else ""
        if one.status == "delisted":
            return f"delisted, its status is {one.exchange_status}"
        if not self._chosen.takes_kind(one):
            return f"no longer chosen by {self._chosen}"
        if one.quote_volume is not None and not self._chosen.takes_volume(one, _KEEPS):
            return f"its volume of 24 hours, {one.quote_volume:f}, is below half of min_volume"
        return ""


class Lists(Protocol):
    """Where lists come from: `InstrumentSource`."""

    async def instruments(self, *, volume: bool = False, age_s: float = RETRY_S) -> list[Instrument]:
        """All that is listed. Raises RestError."""


class Subscribing(Protocol):
    """A stream, as a universe sees it."""

    @property
    def subscribed(self) -> Collection[str]:
        """The symbols that are desired."""

    async def subscribe(self, symbols: Sequence[str]) -> None:
        """Add symbols. Raises SubscriptionError, WSConnectionError."""

    async def unsubscribe(self, symbols: Sequence[str]) -> None:
        """Remove symbols. Raises SubscriptionError, WSConnectionError."""


class UniverseWatch:
    """Keeps a stream subscribed to what its universe says, from `begin` to `cancel`.

    Args:
        source: of the lists.
        exchange, config: whose they are, how often to ask for them, and the limits of streams.
        chosen: which instruments.
        on_symbols: called with each SymbolChange.
    """

    def __init__(
        self,
        source: Lists,
        exchange: Exchange,
        config: StreamConfig,
        chosen: Where,
        on_symbols: Callable[[SymbolChange], object] | None = None,
    ) -> None:
        self._source = source
        self._chosen = chosen
        self._interval_s = config.listing_interval
        self._most = most_streams(exchange, config)
        self._venue = exchange
        self._exchange = exchange.name
        self._on_symbols = on_symbols
        self._universe = Universe(chosen, exchange.symbols.arriving)
        self._stats = UniverseStats()
        self._warnings = SparseLog(exchange=exchange.name)
        self._task: asyncio.Task[None] | None = None

    @property
    def stats(self) -> UniverseStats:
        """What is known now."""
        members = self._universe.members
        halted = tuple(symbol for symbol, one in members.items() if one.status != "trading")
        return replace(self._stats, symbols=tuple(members), halted=halted)

    async def begin(self, stream: Subscribing, notify: Callable[..., object]) -> None:
        """Subscribe to what the first list says, and keep looking.

        Raises:
            RestError: there is no list. SubscriptionError: it has nothing that is chosen, or all of it was refused.
            WSConnectionError: a connection was lost, or could not be opened.
        """
        listed = await self._list(self._interval_s)
        verdict = self._universe.read(listed)
        if not verdict.begin:
            raise SubscriptionError(f"{self._exchange}: no instrument that trades is chosen by {self._chosen}")
        refused = await self._add(stream, listed, verdict.begin)
        if not self._universe.members and refused is not None:
            raise refused
        log.info("universe_begins", exchange=self._exchange, symbols=len(self._universe.members))
        self._tell(notify, SymbolChange(tuple(self._universe.members), {}, len(self._universe.members)))
        self._task = asyncio.create_task(self._run(stream, notify), name="fastbars universe")

    async def cancel(self) -> None:
        """Stop looking, and wait until nothing is under way. Idempotent."""
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])

    async def _run(self, stream: Subscribing, notify: Callable[..., object]) -> None:
        soon_s = min(self._interval_s, RETRY_S)
        wait_s = self._interval_s
        while True:
            await asyncio.sleep(wait_s)
            try:
                wait_s = soon_s if await self._look(stream, notify) else self._interval_s
            except RestError as error:
                self._stats = replace(self._stats, failures=self._stats.failures + 1)
                self._warnings.warn("listing_failed", why=str(error))
                wait_s = RETRY_S + 1.0  # the failure is kept for so long
            except WSConnectionError as error:
                self._warnings.warn("universe_waits", why=str(error))
                wait_s = soon_s
            except Exception:  # noqa: BLE001 a task's top: what is subscribed stays so, and the next list is read
                log.exception("universe_failed", exchange=self._exchange)
                wait_s = self._interval_s

    async def _look(self, stream: Subscribing, notify: Callable[..., object]) -> bool:
        # Returns whether to look again soon.
        listed = await self._list(soon_enough_s(self._interval_s))
        verdict = self._universe.read(listed)
        if verdict.doubt:
            self._stats = replace(self._stats, doubted=self._stats.doubted + 1)
            self._warnings.warn("listing_doubted", why=verdict.doubt)
        before = set(self._universe.members)
        if verdict.end:
            await self._end(stream, verdict.end)
        try:
            await self._add(stream, listed, verdict.begin)
        finally:
            now = self._universe.members
            change = SymbolChange(tuple(one for one in now if one not in before), verdict.end, len(now))
            if change.added or change.ended:
                self._tell(notify, change)
        return verdict.is_open

    async def _list(self, age_s: float) -> list[Instrument]:
        listed = await self._source.instruments(volume=self._chosen.needs_volume, age_s=age_s)
        self._stats = replace(self._stats, lists=self._stats.lists + 1)
        return listed

    async def _add(
        self, stream: Subscribing, listed: Sequence[Instrument], symbols: Sequence[str]
    ) -> SubscriptionError | None:
        # What is refused is asked for again with the next list.
        refused = {symbol: why for symbol in symbols if (why := self._why_odd(symbol))}
        fit = [symbol for symbol in symbols if symbol not in refused]
        room = max(0, self._most - len(stream.subscribed))
        taken = set(fit[:room])
        refused |= dict.fromkeys(fit[room:], f"{self._exchange} allows {self._most} streams at once")
        failure: SubscriptionError | None = None
        try:
            if taken:
                failure = await self._request(stream.subscribe, fit[:room])
        finally:
            # What a lost connection was to carry stays desired, and is subscribed to when it is back.
            held = stream.subscribed
            self._universe.join([one for one in listed if one.symbol in taken and one.symbol in held])
            refused |= {symbol: str(failure or "refused") for symbol in taken if symbol not in held}
            new = sorted(set(refused) - set(self._stats.refused))
            if new:
                why = refused[new[0]]
                log.warning("symbols_refused", exchange=self._exchange, symbols=len(new), shown=new[:_SHOWN], why=why)
            self._stats = replace(self._stats, refused=refused)
        return failure

    def _why_odd(self, symbol: str) -> str:
        # A listed name that this library does not take for one.
        try:
            return "" if self._venue.exact_symbol(symbol) == symbol else "its name is taken for another one"
        except SubscriptionError as error:
            return str(error)

    async def _end(self, stream: Subscribing, ended: Mapping[str, str]) -> None:
        # However it ends, they are not wanted any more.
        self._universe.leave(tuple(ended))
        remembered = dict(list({**self._stats.ended, **ended}.items())[-_REMEMBERED:])
        self._stats = replace(self._stats, ended=remembered)
        try:
            failure = await self._request(stream.unsubscribe, tuple(ended))
        except WSConnectionError:
            return  # what a lost connection carried has ended too
        if failure is not None:
            log.warning("unsubscribe_refused", exchange=self._exchange, why=str(failure))

    async def _request(
        self, request: Callable[[Sequence[str]], Awaitable[None]], symbols: Sequence[str]
    ) -> SubscriptionError | None:
        try:
            await request(symbols)
        except SubscriptionError as error:
            return error
        return None

    def _tell(self, notify: Callable[..., object], change: SymbolChange) -> None:
        if change.ended:
            shown = {symbol: change.ended[symbol] for symbol in list(change.ended)[:_SHOWN]}
            log.warning("symbols_ended", exchange=self._exchange, symbols=len(change.ended), why=shown)
        if change.added and change.symbols != len(change.added):
            log.info("symbols_added", exchange=self._exchange, symbols=list(change.added[:_SHOWN]))
        notify(self._on_symbols, change)


def soon_enough_s(interval_s: float) -> float:
    """How old a list may be that is looked at once an interval: streams of one process share it."""
    return min(interval_s, RETRY_S) / 2
