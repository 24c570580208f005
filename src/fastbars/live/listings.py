"""ListingCache: the instruments that exchanges list, requested once for all streams of a process. Units: seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple
from weakref import WeakKeyDictionary

from fastbars.clocks import steady_s
from fastbars.errors import ParseError, RestError
from fastbars.exchanges.listing import MOST_INSTRUMENTS, MOST_PAGES, Listed, Listing, Question
from fastbars.live.config import StreamConfig
from fastbars.live.connections.limits import RateLimiter
from fastbars.live.rest import RestClient, body_of
from fastbars.live.secrets import without_credentials

TIMEOUT_S = 5.0  # for the whole listing: a stream does not wait longer for it
RETRY_S = 30.0  # after a listing that could not be had
_MOST_BYTES = 64 * 2**20
_MOST_KEPT = 64
_JSON = {"Content-Type": "application/json"}
_UNREADABLE = (ParseError, LookupError, TypeError, ValueError, AttributeError, RecursionError)

Key = tuple[str, Question]


class Entry(NamedTuple):
    """A cached answer and its time; where there is no listing, why, and for how long not to ask again.

    `is_empty`: there was an answer, and it lists nothing.
    """

    at_s: float
    listed: Mapping[str, Listed] | None
    why: str = ""
    held_s: float = 0.0
    is_empty: bool = False


class ListingCache:
    """The latest answers, by address and question; a bounded number of them."""

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}
        # A lock belongs to an event loop; of the loops of several threads each asks for itself.
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Key, asyncio.Lock]] = WeakKeyDictionary()

    def clear(self) -> None:
        """Forget every answer."""
        self._entries.clear()

    async def entry(
        self, listing: Listing, question: Question, config: StreamConfig, limiter: RateLimiter, age_s: float
    ) -> Entry:
        """An answer that is at most `age_s` old, or why there is none.

        Args:
            config: where and how REST is reached.
            limiter: of the exchange's weights.
        """
        key = (config.rest_url or listing.api.url).rstrip("/") + listing.path, question
        lock = self._locks.setdefault(asyncio.get_running_loop(), {}).setdefault(key, asyncio.Lock())
        async with lock:  # the second caller finds the answer to the first
            entry = self._entries.get(key)
            if entry is None or steady_s() - entry.at_s > (entry.held_s if entry.listed is None else age_s):
                entry = await _fetch(listing, *key, config, limiter)
                while len(self._entries) >= _MOST_KEPT:
                    self._entries.pop(next(iter(self._entries)), None)
                self._entries[key] = entry
        return entry


async def _fetch(listing: Listing, url: str, question: Question, config: StreamConfig, limiter: RateLimiter) -> Entry:
    why, held_s, is_empty = f"no answer within {TIMEOUT_S:g} s ({url})", RETRY_S, False
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            RestClient(TIMEOUT_S, ssl=config.ssl, proxy=config.proxy, most_bytes=_MOST_BYTES) as client,
        ):
            listed = await _ask(client, listing, url, question, limiter)
        if listed:
            return Entry(steady_s(), listed)
        why, is_empty = f"it lists no instrument ({url})", True
    except RestError as error:
        why = str(error)
        held_s = max(error.retry_after_s or 0.0, RETRY_S)  # `rest` has bounded what the server asks
    except TimeoutError:
        pass
    except _UNREADABLE as error:
        why = f"the answer cannot be read: {error!r} ({url})"
    return Entry(steady_s(), None, without_credentials(why), held_s, is_empty)


async def _ask(
    client: RestClient, listing: Listing, url: str, question: Question, limiter: RateLimiter
) -> dict[str, Listed]:
    # Every page of the answer.
    listed: dict[str, Listed] = {}
    query = dict(question.query)
    headers = {} if question.body is None else _JSON
    for _ in range(MOST_PAGES):
        delay_s = limiter.delay_s(listing.weight)
        if delay_s > TIMEOUT_S:
            raise RestError(f"the exchange's REST weights are used up for {delay_s:.0f} s ({url})")
        await limiter.wait(listing.weight)
        answer = await client(url, query, headers, question.body)
        body = body_of(answer, f"{'GET' if question.body is None else 'POST'} {url}")
        page, cursor = await asyncio.to_thread(listing.parse, body)
        listed.update((one.symbol, one) for one in page)
        if len(listed) > MOST_INSTRUMENTS:
            raise ParseError(f"more than {MOST_INSTRUMENTS} instruments")
        if listing.cursor is None or not cursor or not page or cursor == query.get(listing.cursor[0]):
            return listed
        query[listing.cursor[0]] = cursor
    raise RestError(f"more than {MOST_PAGES} pages ({url})")
