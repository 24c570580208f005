"""SymbolCheck: whether the exchange lists what is subscribed to, asked before the subscription.

Some exchanges confirm a subscription to any name, and are silent about those that they do not know. The listing is
one request for all symbols, kept for some minutes for everyone in this process. Where it cannot be had, nothing is
refused: the stream starts with a warning. Units: seconds on a steady clock.
"""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from fastbars.errors import ParseError, RestError, SubscriptionError, WSConnectionError
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.listing import MOST_INSTRUMENTS, MOST_PAGES, Listed, Listing, Question
from fastbars.exchanges.messages import Stream
from fastbars.live.config import StreamConfig
from fastbars.live.connections.subscriptions import joined, refusal
from fastbars.live.healing.budget import shared_budget
from fastbars.live.rest import Answer, RestClient
from fastbars.live.secrets import without_credentials
from fastbars.log import log

TIMEOUT_S = 5.0  # for the whole listing: a stream does not wait longer for it
_MOST_BYTES = 64 * 2**20
_KEPT_S = 300.0  # a listing allows for so long, and refuses for so long:
_REFUSES_S = 5.0  # what is not in it may have been listed since
_RETRY_S = 30.0  # after a listing that could not be had
_LONGEST_HOLD_S = 3600.0
_MOST_KEPT = 64
_SUGGESTED = 10  # symbols whose nearest names are looked for
_LONGEST = 40  # characters, of such symbols
_HTTP_OK = 200
_JSON = {"Content-Type": "application/json"}
_UNREADABLE = (ParseError, LookupError, TypeError, ValueError, AttributeError, RecursionError)


class _Entry(NamedTuple):
    """What was answered, and when; without a listing, why not, and for how long it is not asked for again."""

    at_s: float
    listed: Mapping[str, Listed] | None
    why: str = ""
    held_s: float = _RETRY_S


class _RefusedError(RestError):
    """The exchange answered with an HTTP status; `held_s`: for how long it asks to be left alone."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status} {answer.body[:200]!r}")
        self.held_s = min(max(answer.retry_after_s or 0.0, _RETRY_S), _LONGEST_HOLD_S)


_ENTRIES: dict[tuple[str, Question], _Entry] = {}
_LOCKS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, Question], asyncio.Lock]] = WeakKeyDictionary()


class SymbolCheck:
    """The check of one stream's symbols.

    Args:
        exchange: whose symbols.
        config: `check_symbols`, `rest_url`, and how REST is reached.
        url: where the stream comes from, if not from the exchange's own address: then only `rest_url` is asked.
    """

    def __init__(self, exchange: Exchange, config: StreamConfig, url: str | None = None) -> None:
        self._exchange = exchange
        self._config = config
        is_asked = config.check_symbols and (url is None or config.rest_url is not None)
        self._listing = exchange.listing if is_asked else None
        self._warned = False

    async def subscribe(
        self,
        streams: Sequence[Stream],
        held: Collection[Stream],
        subscribe: Callable[[Sequence[Stream]], Awaitable[None]],
    ) -> None:
        """Subscribe to those streams that are held already, or whose symbols the exchange lists as trading.

        Raises:
            SubscriptionError: an unknown channel: at once; symbols that are not listed or do not trade, beside
                what `subscribe` refuses.
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

    async def refused(self, symbols: Sequence[str]) -> dict[str, str]:
        """Those that the exchange does not list or that do not trade, and why, with the nearest names."""
        answers = await asyncio.gather(*(self._refused(*each) for each in self._questions(symbols)))
        return {symbol: reasons[symbol] for symbol in symbols for reasons in answers if symbol in reasons}

    def _questions(self, symbols: Iterable[str]) -> list[tuple[list[str], Question]]:
        # What is to be asked about which symbols.
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
        refused = _reasons(symbols, entry.listed, stopped)
        return refused and await asyncio.to_thread(_with_nearest, refused, entry.listed, stopped)

    async def _entry(self, question: Question, age_s: float) -> _Entry:
        assert self._listing is not None
        key = (self._config.rest_url or self._listing.url).rstrip("/") + self._listing.path, question
        lock = _LOCKS.setdefault(asyncio.get_running_loop(), {}).setdefault(key, asyncio.Lock())
        async with lock:  # who comes second finds what the first one was answered
            entry = _ENTRIES.get(key)
            if entry is None or time.monotonic() - entry.at_s > (entry.held_s if entry.listed is None else age_s):
                entry = await self._fetch(self._listing, *key)
                while len(_ENTRIES) >= _MOST_KEPT:
                    _ENTRIES.pop(next(iter(_ENTRIES)), None)
                _ENTRIES[key] = entry
        return entry

    async def _fetch(self, listing: Listing, url: str, question: Question) -> _Entry:
        why, held_s = f"no answer within {TIMEOUT_S:g} s", _RETRY_S
        config = self._config
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                RestClient(TIMEOUT_S, ssl=config.ssl, proxy=config.proxy, most_bytes=_MOST_BYTES) as client,
            ):
                listed = await self._ask(client, listing, url, question)
            if listed:
                return _Entry(time.monotonic(), listed)
            why = "it lists no instrument"
        except (RestError, TimeoutError) as error:
            why = str(error) or why
            held_s = error.held_s if isinstance(error, _RefusedError) else _RETRY_S
        except _UNREADABLE as error:
            why = f"the answer cannot be read: {error!r}"
        return _Entry(time.monotonic(), None, without_credentials(f"{why} ({url})"), held_s)

    async def _ask(self, client: RestClient, listing: Listing, url: str, question: Question) -> dict[str, Listed]:
        # Every page of the answer.
        budget = shared_budget(listing.budget_name, listing.weight_per_minute, self._config.rest_url)
        listed: dict[str, Listed] = {}
        query = dict(question.query)
        headers = {} if question.body is None else _JSON
        for _ in range(MOST_PAGES):
            wait_s = budget.spend(listing.weight)
            if wait_s > TIMEOUT_S:
                raise RestError(f"the exchange's REST weights are used up for {wait_s:.0f} s")
            await asyncio.sleep(wait_s)
            answer = await client(url, query, headers, question.body)
            if answer.status != _HTTP_OK:
                raise _RefusedError(answer)
            page, cursor = await asyncio.to_thread(listing.parse, answer.body)
            listed.update((one.symbol, one) for one in page)
            if len(listed) > MOST_INSTRUMENTS:
                raise ParseError(f"more than {MOST_INSTRUMENTS} instruments")
            if listing.cursor is None or not cursor or not page or cursor == query.get(listing.cursor[0]):
                return listed
            query[listing.cursor[0]] = cursor
        raise RestError(f"more than {MOST_PAGES} pages")


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
