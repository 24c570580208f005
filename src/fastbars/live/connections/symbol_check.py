"""SymbolCheck: checks before a subscription that the exchange lists the symbols.

Some exchanges confirm a subscription to any name, and then send nothing for one that they do not know. The listing is
one request for all symbols, kept for some minutes for everyone in this process. Where it cannot be had, nothing is
refused: the stream starts with a warning. Units: seconds on a steady clock.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from fastbars.errors import SubscriptionError, WSConnectionError
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.listing import Listed, Question
from fastbars.exchanges.messages import Stream
from fastbars.exchanges.naming import Alias, read_alias
from fastbars.live.config import StreamConfig
from fastbars.live.connections.subscriptions import joined, refusal
from fastbars.live.listings import Entry
from fastbars.live.shared import SHARED
from fastbars.log import log

_KEPT_S = 300.0  # a listing allows for so long, and refuses for so long:
_REFUSES_S = 5.0  # what is not in it may have been listed since
_SUGGESTED = 10  # symbols whose nearest names are looked for
_LONGEST = 40  # characters, of such symbols


class SymbolCheck:
    """The check of one stream's symbols.

    Args:
        exchange: whose symbols.
        config: `check_symbols`, `rest_url`, and how REST is reached.
        url: where the stream comes from, if not from the exchange's own address: then only `rest_url` is asked.
        on_listed: called with what the exchange lists of the symbols that are checked.
    """

    def __init__(
        self,
        exchange: Exchange,
        config: StreamConfig,
        url: str | None = None,
        on_listed: Callable[[Sequence[Listed]], object] = list,
    ) -> None:
        self._exchange = exchange
        self._config = config
        is_asked = config.check_symbols and (url is None or config.rest_url is not None)
        self._listing = exchange.listing if is_asked else None
        self._warned = False
        self._on_listed = on_listed

    async def subscribe(
        self,
        streams: Sequence[Stream],
        held: Collection[Stream],
        subscribe: Callable[[Sequence[Stream]], Awaitable[None]],
    ) -> None:
        """Subscribe to those streams that are held already, or whose symbols the exchange lists as trading.

        Raises:
            SubscriptionError: an unknown channel, at once; or symbols that are not listed or do not trade, along with
                those that `subscribe` refuses.
        """
        for channel in {channel for _, channel in streams}:
            self._exchange.check_channel(channel)
        reasons = await self.refused([stream[0] for stream in streams if stream not in held])
        if not reasons:
            await subscribe(streams)
            return
        error = refusal(self._exchange.name, reasons, tuple(reasons))
        granted = [stream for stream in streams if stream in held or stream[0] not in reasons]
        try:
            if granted:
                await subscribe(granted)
        except SubscriptionError as more:
            raise joined(self._exchange.name, [error, more]) from None
        except WSConnectionError:
            log.error("subscription_refused", exchange=self._exchange.name, error=str(error))
            raise
        raise error

    async def resolved(self, symbols: Sequence[str]) -> list[str]:
        """The symbols, in place of aliases the exchange's own names, where only its listing tells them.

        An alias that is listed as a symbol of its own is one. Without a listing they stay as they are.

        Raises:
            SubscriptionError: an alias of several instruments.
        """
        exchange, names = self._exchange, dict[str, str]()
        asked = [one for one in symbols if (read := read_alias(one)) and exchange.native_name(read) is None]
        for aliases, question in self._questions(asked):
            listed = (await self._entry(question, _KEPT_S)).listed or {}
            meant: dict[str, list[str]] = {}
            for one in listed.values():
                if one.kind == "spot" and one.base is not None and one.quote is not None:
                    meant.setdefault(str(Alias(one.base, one.quote)), []).append(one.symbol)
            for alias in aliases:
                found = [] if alias in listed else meant.get(alias, [])
                if len(found) > 1:
                    some = ", ".join(found[:_SUGGESTED])
                    raise SubscriptionError(f"{exchange.name}: {alias!r} is the alias of several: {some}", (alias,))
                if found:
                    names[alias] = found[0]
        return list(dict.fromkeys(names.get(symbol, symbol) for symbol in symbols))

    async def refused(self, symbols: Sequence[str]) -> dict[str, str]:
        """Those that the exchange does not list or that do not trade, and why, with the nearest names."""
        answers = await asyncio.gather(*(self._refused(*each) for each in self._questions(symbols)))
        return {symbol: reasons[symbol] for symbol in symbols for reasons in answers if symbol in reasons}

    def _questions(self, symbols: Iterable[str]) -> list[tuple[list[str], Question]]:
        # The questions to ask, each with the symbols that it covers.
        questions = () if self._listing is None else self._listing.questions
        covered = [(list(filter(question.covers, dict.fromkeys(symbols))), question) for question in questions]
        return [(asked, question) for asked, question in covered if asked]

    async def _refused(self, symbols: Sequence[str], question: Question) -> dict[str, str]:
        assert self._listing is not None
        stopped = self._listing.stopped
        entry = await self._entry(question, _KEPT_S)
        if entry.listed is not None and _reasons(symbols, entry.listed, stopped):
            entry = await self._entry(question, _REFUSES_S)
        if entry.listed is None:
            if not self._warned:
                self._warned = True
                log.warning("symbols_not_checked", exchange=self._exchange.name, symbols=len(symbols), why=entry.why)
            return {}
        self._warned = False
        self._on_listed([entry.listed[symbol] for symbol in symbols if symbol in entry.listed])
        refused = _reasons(symbols, entry.listed, stopped)
        return refused and await asyncio.to_thread(_with_nearest, refused, entry.listed, stopped)

    async def _entry(self, question: Question, age_s: float) -> Entry:
        listing, config = self._listing, self._config
        assert listing is not None
        limiter = SHARED.rest_limiter(listing.api.budget_name, listing.api.weight_per_minute, config.rest_url)
        return await SHARED.listings.entry(listing, question, config, limiter, age_s)


def _reasons(symbols: Sequence[str], listed: Mapping[str, Listed], stopped: Mapping[str, str]) -> dict[str, str]:
    refused: dict[str, str] = {}
    for symbol in symbols:
        one = listed.get(symbol)
        if one is None:
            refused[symbol] = "not listed"
        elif one.status in stopped:
            refused[symbol] = f"{stopped[one.status]}, its status is {one.status}"
    return refused


def _with_nearest(
    refused: Mapping[str, str], listed: Mapping[str, Listed], stopped: Mapping[str, str]
) -> dict[str, str]:
    trading = {name.upper(): name for name, one in listed.items() if one.status not in stopped}
    result = dict(refused)
    for symbol in list(refused)[:_SUGGESTED]:
        near = difflib.get_close_matches(symbol.upper(), trading, n=3) if len(symbol) <= _LONGEST else []
        if near:
            result[symbol] += f" (nearest: {', '.join(trading[name] for name in near)})"
    return result
