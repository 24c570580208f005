"""InstrumentSource: the instruments of one market, all that the exchange lists, from what this process has been told.

Units: seconds on a steady clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastbars.errors import RestError
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.instruments import Instrument, instruments_of
from fastbars.exchanges.listing import Listed, Listing
from fastbars.live.config import StreamConfig
from fastbars.live.listings import RETRY_S
from fastbars.live.shared import SHARED


class InstrumentSource:
    """Asks for the instruments of one market.

    Args:
        exchange: whose instruments.
        config: where and how REST is reached.
        url: where the stream comes from, if not from the exchange's own address: then only `rest_url` is asked.

    Raises:
        RestError: this exchange lists no instruments, or is not to be asked.
    """

    def __init__(self, exchange: Exchange, config: StreamConfig, url: str | None = None) -> None:
        if exchange.listing is None:
            raise RestError(f"{exchange.name}: this exchange has no list of its instruments", permanent=True)
        if url is not None and config.rest_url is None:
            raise RestError(
                f"{exchange.name}: a stream with a url of its own asks for instruments at StreamConfig.rest_url only,"
                " which is not given",
                permanent=True,
            )
        self._exchange = exchange
        self._config = config
        self._listing: Listing = exchange.listing

    async def instruments(self, *, volume: bool = False, age_s: float = RETRY_S) -> list[Instrument]:
        """All that is listed.

        Args:
            volume: ask what was traded in the last 24 hours, too; where the listing itself says so, it is there anyway.
            age_s: answers may be so old.

        Raises:
            RestError: an answer could not be had.
        """
        asked = [self._answers(self._listing, age_s)]
        if volume and self._listing.volumes is not None:
            asked.append(self._answers(self._listing.volumes, age_s))
        listed, *volumes = await asyncio.gather(*asked)
        return await asyncio.to_thread(
            instruments_of, self._exchange, self._listing, listed.values(), volumes[0] if volumes else None
        )

    async def _answers(self, listing: Listing, age_s: float) -> Mapping[str, Listed]:
        api, config = listing.api, self._config
        limiter = SHARED.rest_limiter(api.budget_name, api.weight_per_minute, config.rest_url)
        found: dict[str, Listed] = {}
        for question in listing.questions:
            entry = await SHARED.listings.entry(listing, question, config, limiter, age_s)
            if entry.listed is None:
                # A market may have no futures, and lists none; that no question has an answer is an error below.
                if entry.is_empty:
                    continue
                raise RestError(f"{self._exchange.name}: the instruments could not be had: {entry.why}")
            found.update(entry.listed)
        if not found:
            raise RestError(f"{self._exchange.name}: the exchange lists no instrument")
        return found
