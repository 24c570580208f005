"""Upkeep: what a live session needs besides its connection: healing of its holes, and snapshots for a restart.

Units: seconds.
"""

from __future__ import annotations

import asyncio

from fastbars.clocks import steady_ns, wall_ns
from fastbars.exchanges.history import Hole
from fastbars.live.healing.healer import Healer
from fastbars.live.healing.pages import HealingStats
from fastbars.live.rest import RestClient
from fastbars.live.restarts import SnapshotKeeper
from fastbars.live.secrets import without_credentials
from fastbars.live.session import Session
from fastbars.live.shared import SHARED
from fastbars.log import log

_NO_HISTORY = "the exchange serves no history of trades"


class Upkeep:
    """The healer and the snapshots of one session, while it is connected.

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
        self._snapshots = None if config.state is None else SnapshotKeeper(session, str(config.state))
        self._users = 0
        self._tasks: list[asyncio.Task[None]] = []
        session.wake_healer = self._healer.wake

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

    def start(self) -> None:
        """Start, until `stop` was called as often. Raises SnapshotError as `reserve`."""
        self.reserve()
        self._users += 1
        if self._users > 1:
            return
        if self._snapshots is not None:
            self._snapshots.start()
        if self._session.config.heal:
            self._tasks.append(asyncio.create_task(self._heal(), name="fastbars healing"))
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

    async def _heal(self) -> None:
        while True:
            try:
                await self._healer.run()
            except Exception:  # noqa: BLE001 a task's top: it logs, and bars stay what they are
                log.exception("healing_failed", exchange=self._session.exchange.name)
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

    def exchange_time_ns() -> int:
        now_ns = session.now_ns(steady_ns())
        return wall_ns() if now_ns is None else now_ns

    return Healer(
        exchange.name,
        history,
        [session.repairs],
        client,
        why_none=why_none,
        api_key=config.api_key,
        url=config.rest_url,
        horizon_s=config.heal_horizon,
        exchange_time_ns=exchange_time_ns,
        limiter=limiter,
    )
