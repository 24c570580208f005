"""Upkeep: what keeps a live session whole beside its connection: healing its holes, and snapshots for a restart.

Units: seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastbars.clocks import steady_ns, wall_ns
from fastbars.exchanges.history import Hole
from fastbars.live import snapshots
from fastbars.live.healing.healer import Healer
from fastbars.live.healing.pages import HealingStats
from fastbars.live.rest import RestClient
from fastbars.live.secrets import without_credentials
from fastbars.live.session import Session
from fastbars.live.shared import SHARED
from fastbars.live.statefile import StateFile
from fastbars.log import log

_NO_HISTORY = "the exchange serves no history of trades"


class Upkeep:
    """The healer and the snapshots of one session; it goes on from the snapshot file, where there is one.

    The snapshots of a stream's sessions are PATH, PATH.1, PATH.2, ... in the order in which they were made.

    Args:
        session: whose upkeep this is.
        url: where the stream comes from, if not from the exchange's own address: then only `rest_url` is asked.

    Raises:
        SnapshotError: the file cannot be used, and was set aside; or another stream or process has it.
        OSError: it cannot be read, or its folder not written to.
    """

    def __init__(self, session: Session, url: str | None = None) -> None:
        config, exchange = session.config, session.exchange
        self._session = session
        self._state = None if config.state is None else StateFile(str(config.state), config)
        self._client = RestClient(ssl=config.ssl, proxy=config.proxy)
        self._users = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._writing: asyncio.Task[None] | None = None
        history, why_none = exchange.history(session.channel, has_key=config.api_key is not None), _NO_HISTORY
        if url is not None and config.rest_url is None:
            history, why_none = None, f"the stream comes from {without_credentials(url)}; rest_url says whom to ask"
        limiter = None
        if history is not None:
            limiter = SHARED.rest_limiter(history.api.budget_name, history.api.weight_per_minute, config.rest_url)
        self._healer = Healer(
            exchange.name,
            history,
            [session.repairs],
            self._client,
            why_none=why_none,
            api_key=config.api_key,
            url=config.rest_url,
            horizon_s=config.heal_horizon,
            exchange_time_ns=self._exchange_time_ns,
            limiter=limiter,
        )
        session.wake_healer = self._healer.wake
        if self._state is not None:
            try:
                self._restore(self._state.path)
            except BaseException:
                self._state.release()
                raise

    @property
    def stats(self) -> HealingStats:
        """What healing has done."""
        return self._healer.stats

    def holes(self) -> dict[Hole, str]:
        """What is missing now, and why it stays so; "" where that is not decided."""
        return {hole: self._healer.reasons.get(hole, "") for hole in self._session.repairs.holes()}

    def start(self) -> None:
        """Begin; it goes on until `stop` was called as often. Raises SnapshotError as `reserve`."""
        self.reserve()
        self._users += 1
        if self._users > 1:
            return
        if self._session.config.heal:
            self._tasks.append(asyncio.create_task(self._heal(), name="fastbars healing"))
        if self._state is not None:
            self._tasks.append(asyncio.create_task(self._save(self._state.path), name="fastbars snapshots"))

    async def stop(self) -> None:
        """End, and take a last snapshot."""
        self._users -= 1
        if self._users > 0:
            return
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if self._writing is not None:
            tasks.append(self._writing)  # it goes on, and two must not write the same file
        if tasks:
            await asyncio.wait(tasks)
        await self._client.close()
        if self._state is not None:
            await self._save_once(self._state.path)
        self.release()

    def reserve(self) -> None:
        """Keep the state file for this session, before it connects.

        Raises:
            SnapshotError: another stream or process has it, or had it since this one was made.
        """
        if self._state is not None:
            self._state.keep()

    def release(self) -> None:
        """Give the state file up, unless it is in use: the connection could not be opened."""
        if self._state is not None and self._users == 0:
            self._state.release()

    def _restore(self, path: Path) -> None:
        content = snapshots.read(path)
        if content is None:
            return
        try:
            self._session.load(content, wall_ns())
        except (ValueError, LookupError, TypeError) as error:
            raise snapshots.set_aside(path, str(error)) from error
        log.info("snapshot_restored", exchange=self._session.exchange.name, path=str(path))

    async def _heal(self) -> None:
        while True:
            try:
                await self._healer.run()
            except Exception:  # noqa: BLE001 a task's top: it logs, and bars stay what they are
                log.exception("healing_failed", exchange=self._session.exchange.name)
                await asyncio.sleep(self._session.config.state_interval)

    async def _save(self, path: Path) -> None:
        while True:
            await asyncio.sleep(self._session.config.state_interval)
            await self._save_once(path)

    async def _save_once(self, path: Path) -> None:
        content = self._session.dump()
        if content is None:
            return
        # The copy was made here, between two wakeups; checksum and disk have time.
        self._writing = asyncio.create_task(self._write(path, content), name="fastbars snapshot")
        await asyncio.shield(self._writing)

    async def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        try:
            await asyncio.to_thread(_write, path, content)
        except OSError as error:
            log.error("snapshot_not_written", exchange=self._session.exchange.name, path=str(path), error=str(error))

    def _exchange_time_ns(self) -> int:
        now_ns = self._session.now_ns(steady_ns())
        return wall_ns() if now_ns is None else now_ns


def _write(path: Path, content: Mapping[str, Any]) -> None:
    snapshots.write(path, snapshots.pack(content))
