"""Upkeep: what a live session needs besides its connection: healing, repair by candles, and snapshots.

Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastbars.bars import BarStatus
from fastbars.clocks import steady_ns, wall_ns
from fastbars.exchanges.checked import LATEST_NS
from fastbars.exchanges.history import Hole
from fastbars.live.healing.healer import Healer
from fastbars.live.healing.pages import HealingStats
from fastbars.live.past.beginnings import Beginnings
from fastbars.live.past.candle_bars import CandleBars
from fastbars.live.past.candles import CandleClient
from fastbars.live.past.repairer import CandleRepairer, Place, RepairStats
from fastbars.live.rest import RestClient
from fastbars.live.restarts import SnapshotKeeper
from fastbars.live.secrets import without_credentials
from fastbars.live.session import Session
from fastbars.live.shared import SHARED
from fastbars.log import log

_NO_HISTORY = "the exchange serves no history of trades"


class Upkeep:
    """The healer, the repairer and the snapshots of one session, while it is connected.

    It is reference-counted: a new connection may start it before the last one has stopped it.

    Args:
        session: whose upkeep this is.
        url: where the stream comes from, if not from the exchange's own address: then only `rest_url` is asked.

    Raises:
        SnapshotError, OSError: as SnapshotKeeper.
    """

    def __init__(self, session: Session, url: str | None = None) -> None:
        config = session.config
        self._session = session
        self._client = RestClient(ssl=config.ssl, proxy=config.proxy)
        self._healer = _healer_of(session, self._client, url)
        self._candles = _candles_of(session, self._client, url) if config.repair == "candles" else None
        self._repairer = None
        if config.repair == "candles":
            self._repairer = _repairer_of(session, self._candles, url, self._healer if config.heal else None)
        self._snapshots = None if config.state is None else SnapshotKeeper(session, str(config.state))
        self._users = 0
        self._tasks: list[asyncio.Task[None]] = []
        session.wake_healer = self._healer.wake
        # (What is sampled need not be in a candle.)
        if self._candles is not None and session.exchange.id_policy(session.channel).best is not BarStatus.SAMPLED:
            session.past.beginnings = Beginnings(
                session.intake, config.specs, self._candles, config.lateness, _exchange_time_of(session)
            )

    @property
    def stats(self) -> HealingStats:
        """What healing has done."""
        return self._healer.stats

    def holes(self) -> dict[Hole, str]:
        """The holes there are now, and why they stay; "" where healing is under way."""
        return {hole: self._healer.reasons.get(hole, "") for hole in self._session.repairs.holes()}

    def is_healing(self, symbol: str) -> bool:
        """Whether there are holes of a symbol that may still be filled."""
        return self._session.config.heal and any(
            not self._healer.reasons.get(hole, "") for hole in self._session.repairs.holes(symbol)
        )

    @property
    def repair_stats(self) -> RepairStats | None:
        """What repair by candles has done; None where bars are not repaired."""
        if self._repairer is None:
            return None
        counted = self._repairer.count()
        if self._candles is not None:
            counted.requests, counted.errors = self._candles.stats.requests, self._candles.stats.errors
        return counted

    def unrepaired(self) -> dict[Place, str]:
        """The bars that lack trades, and why they stay so; "" where they may yet be repaired."""
        return {} if self._repairer is None else self._repairer.waiting()

    def start(self) -> None:
        """Start, until `stop` was called as often. Raises SnapshotError as `reserve`."""
        self.reserve()
        self._users += 1
        if self._users > 1:
            return
        if self._snapshots is not None:
            self._snapshots.start()
        if self._session.config.heal:
            self._tasks.append(asyncio.create_task(self._keep_up(self._healer.run, "healing"), name="fastbars healing"))
        if self._repairer is not None:
            repair = self._keep_up(self._repairer.run, "repair_by_candles")
            self._tasks.append(asyncio.create_task(repair, name="fastbars repair by candles"))
        if (beginnings := self._session.past.beginnings) is not None:
            begin = self._keep_up(beginnings.run, "beginnings_by_candles")
            self._tasks.append(asyncio.create_task(begin, name="fastbars beginnings"))
        if self._snapshots is not None:
            self._tasks.append(asyncio.create_task(self._snapshots.run(), name="fastbars snapshots"))

    async def stop(self) -> None:
        """Stop, and take a last snapshot; only the last of several calls does so."""
        self._users -= 1
        if self._users > 0:
            return
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._client.close()
        # After healing, so that the snapshot has what was healed last.
        if self._snapshots is not None:
            await self._snapshots.finish()
        self.release()

    async def save_confirmed(self) -> None:
        """Write down what consumers have confirmed since the last snapshot; for a stream that has stopped."""
        if self._snapshots is not None and self._users == 0:
            await self._snapshots.save_confirmed()

    def reserve(self) -> None:
        """Keep the state file for this session, before it connects. Raises SnapshotError as SnapshotKeeper.reserve."""
        if self._snapshots is not None:
            self._snapshots.reserve()

    def release(self) -> None:
        """Release the state file, unless it is in use: the connection could not be opened."""
        if self._snapshots is not None and self._users == 0:
            self._snapshots.release()

    async def _keep_up(self, run: Callable[[], Awaitable[None]], what: str) -> None:
        while True:
            try:
                await run()
            except Exception:  # noqa: BLE001 a task's top: it logs, and bars stay what they are
                log.exception(f"{what}_failed", exchange=self._session.exchange.name)
                await asyncio.sleep(self._session.config.state_interval)


def _healer_of(session: Session, client: RestClient, url: str | None) -> Healer:
    config, exchange = session.config, session.exchange
    history, why_none = exchange.history(session.channel, has_key=config.api_key is not None), _NO_HISTORY
    # A stream from elsewhere, such as a simulator, has trades of its own: the exchange's would fill its holes wrongly.
    if url is not None and config.rest_url is None:
        history, why_none = (
            None,
            f"the stream comes from {without_credentials(url)}; set rest_url to the REST API to use",
        )
    limiter = None
    if history is not None:
        limiter = SHARED.rest_limiter(history.api.budget_name, history.api.weight_per_minute, config.rest_url)

    return Healer(
        exchange.name,
        history,
        [session.repairs],
        client,
        why_none=why_none,
        api_key=config.api_key,
        first_id=exchange.first_ids.get(session.channel),
        url=config.rest_url,
        horizon_s=config.heal_horizon,
        exchange_time_ns=_exchange_time_of(session),
        limiter=limiter,
    )


def _exchange_time_of(session: Session) -> Callable[[], int]:
    def exchange_time_ns() -> int:
        now_ns = session.now_ns(steady_ns())
        return wall_ns() if now_ns is None else now_ns

    return exchange_time_ns


def _candles_of(session: Session, client: RestClient, url: str | None) -> CandleClient | None:
    config, history = session.config, session.exchange.candle_history
    if history is None or (url is not None and config.rest_url is None):
        return None
    return CandleClient(
        session.exchange,
        client,
        SHARED.rest_limiter(history.api.budget_name, history.api.weight_per_minute, config.rest_url),
        url=config.rest_url,
        patience_s=config.heal_horizon,
        exchange_time_ns=_exchange_time_of(session),
    )


def _repairer_of(
    session: Session, candles: CandleClient | None, url: str | None, healer: Healer | None
) -> CandleRepairer:
    config, exchange = session.config, session.exchange
    why_none = "the exchange serves no candles over REST"
    if url is not None and config.rest_url is None:
        why_none = f"the stream comes from {without_credentials(url)}; set rest_url to the REST API to use"
    history = None if candles is None else candles.history

    def still_healed(symbol: str) -> list[tuple[int, int]]:
        if healer is None or not healer.is_able:
            return []
        # Behind the newest trade nothing is proven to be missing: the next one's id decides, and healing begins then.
        return [*healer.spans(symbol), (session.trade_time_ns(symbol), LATEST_NS)]

    return CandleRepairer(
        exchange.name,
        session.delivery.earlier,
        session.report,
        CandleBars(
            candles,
            {} if history is None else history.intervals,
            why_none=why_none,
            is_sampled=exchange.id_policy(session.channel).best is BarStatus.SAMPLED,
            is_inverse=lambda symbol: exchange.contract_size(symbol) is not None,
            settles_s=0.0 if history is None else history.settles_s,
        ),
        still_healed=still_healed,
        horizon_s=config.heal_horizon,
        exchange_time_ns=_exchange_time_of(session),
        at_once=1 if history is None else history.at_once,
    )
