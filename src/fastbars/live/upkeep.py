"""Upkeep: what keeps a session whole beside its connection: healing its holes, and snapshots for a restart.

Units: seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastbars.live import snapshot
from fastbars.live.config import StreamConfig
from fastbars.live.exchange import Exchange
from fastbars.live.healing import Healer, HealingStats, shared_budget
from fastbars.live.history import Hole
from fastbars.live.rest import RestClient
from fastbars.live.session import Session
from fastbars.log import log


class Upkeep:
    """The healer and the snapshots of one session.

    Args:
        exchange, session, config: whose upkeep this is.
        number: of the session among those of its stream; the second one's snapshot is PATH.1, ...
    """

    def __init__(self, exchange: Exchange, session: Session, config: StreamConfig, number: int = 0) -> None:
        self._exchange = exchange
        self._session = session
        self._config = config
        self._path = None if config.state is None else Path(f"{config.state}.{number}" if number else config.state)
        self._client = RestClient(ssl=config.ssl, proxy=config.proxy)
        self._seen_holes = 0
        self._restored = False
        self._tasks: list[asyncio.Task[None]] = []
        history = exchange.history(session.channel, has_key=config.api_key is not None)
        budget = None
        if history is not None:
            budget = shared_budget(config.rest_url or history.url, history.weight_per_minute)
        self._healer = Healer(
            exchange.name,
            history,
            [session],
            self._client,
            api_key=config.api_key,
            url=config.rest_url,
            horizon_s=config.heal_horizon,
            exchange_time_ns=self._exchange_time_ns,
            budget=budget,
        )

    @property
    def stats(self) -> HealingStats:
        """What healing has done."""
        return self._healer.stats

    def holes(self) -> dict[Hole, str]:
        """What is missing now, and why it stays so; "" where that is not decided."""
        return {hole: self._healer.reasons.get(hole, "") for hole in self._session.holes()}

    def restore(self) -> None:
        """Go on from the snapshot file, where there is one; once.

        Raises:
            SnapshotError: it cannot be used; it was set aside.
            OSError: it cannot be read.
        """
        if self._path is None or self._restored:
            return
        content = snapshot.read(self._path)
        if content is not None:
            try:
                self._session.load(content, time.time_ns())
            except (ValueError, LookupError, TypeError) as error:
                raise snapshot.set_aside(self._path, str(error)) from error
            log.info("snapshot_restored", exchange=self._exchange.name, path=str(self._path))
        self._restored = True

    def start(self) -> None:
        """Begin; it goes on until `stop`."""
        if self._tasks:
            return
        if self._config.heal:
            self._tasks.append(asyncio.create_task(self._heal(), name=f"fastbars healing {self._exchange.name}"))
        if self._path is not None:
            self._tasks.append(asyncio.create_task(self._save(self._path), name="fastbars snapshots"))

    def look(self) -> None:
        """Messages were taken: there may be new holes."""
        opened = self._session.holes_opened
        if opened != self._seen_holes:
            self._seen_holes = opened
            self._healer.wake()

    async def stop(self) -> None:
        """End, and take a last snapshot."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._client.close()
        if self._path is not None and tasks:
            await self._save_once(self._path)

    async def _heal(self) -> None:
        while True:
            try:
                await self._healer.run()
            except Exception:  # noqa: BLE001 a task's top: it logs, and bars stay what they are
                log.exception("healing_failed", exchange=self._exchange.name)
                await asyncio.sleep(self._config.state_interval)

    async def _save(self, path: Path) -> None:
        while True:
            await asyncio.sleep(self._config.state_interval)
            await self._save_once(path)

    async def _save_once(self, path: Path) -> None:
        content = self._session.dump()
        if content is None:
            return
        try:
            # The copy is made here, between two wakeups; checksum and disk have time.
            await asyncio.to_thread(_write, path, content)
        except OSError as error:
            log.error("snapshot_not_written", exchange=self._exchange.name, path=str(path), error=str(error))

    def _exchange_time_ns(self) -> int:
        now_ns = self._session.now_ns(time.monotonic_ns())
        return time.time_ns() if now_ns is None else now_ns


def _write(path: Path, content: Mapping[str, Any]) -> None:
    snapshot.write(path, snapshot.pack(content))
