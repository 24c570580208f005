"""The service: streams as configured, kept alive until it is told to stop.

    starting --entered--> running --all venues failed for good--> starting again, later and later
       |  +--no network, host or list: again, later and later
       +--a symbol or a sink is refused: it ends with that error

A stream runs once, so that each attempt makes another; `state` carries everything over. A reload adds and removes
symbols of the stream that runs; whatever else has changed needs a restart, and says so.

Units: seconds on a steady clock.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import uniform
from typing import Any

import msgspec

from fastbars.bar_stream import BarStream
from fastbars.bars import OHLCVBar
from fastbars.errors import FastbarsError, RestError, SubscriptionError, WSConnectionError
from fastbars.live.stats import StreamStats
from fastbars.log import log
from fastbars.service.config import Config, ConfigError, read_config
from fastbars.service.http import Route, WebServer
from fastbars.service.notify import Notifier
from fastbars.streams import stream
from fastbars.venue_streams import VenueStreams

__all__ = ["Service", "open_streams"]

_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 60.0
_RESTARTABLE = (WSConnectionError, RestError, OSError)


def open_streams(config: Config) -> VenueStreams:
    """The streams of a configuration; nothing is connected yet.

    Raises:
        FastbarsError, ValueError, TypeError, OSError: as `fastbars.stream`.
    """
    made = stream(
        {name: config.symbols(name) for name in config.venues},
        bars=config.bars,
        config={name: config.stream_config(name) for name in config.venues},
        channel={name: venue.channel for name, venue in config.venues.items() if venue.channel is not None},
        url={name: venue.url for name, venue in config.venues.items() if venue.url is not None},
        verify=config.verify,
        record=config.record,
        history=config.history,
        history_from=config.history_from,
        sinks={name: sink.url for name, sink in config.sinks.items()},
        source=config.source,
    )
    assert isinstance(made, VenueStreams)
    return made


class Service:
    """Runs what a configuration says.

    Args:
        config: of the service.
        path: the file that `reload` reads again; None: there is none.
        routes: what its web server answers, where it has one; called with this service.
        notifier: tells the manager of the process.

    Attributes:
        config: in force.
        source: name of the stream in what sinks keep.
        on_bar: called with each bar, in order, on the event loop.
    """

    def __init__(
        self,
        config: Config,
        path: Path | None = None,
        routes: Callable[[Service], Sequence[Route]] | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self.config = config
        self.source = config.source or socket.gethostname()
        self.on_bar: list[Callable[[OHLCVBar], object]] = []
        self._path = path
        self._notifier = notifier or Notifier()
        self._bars: VenueStreams | None = None
        self._followed: dict[str, list[str]] = {}  # what the stream that runs was asked for, by venue
        self._was_ready = False
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._web: WebServer | None = None
        if config.web is not None:
            self._web = WebServer(
                [] if routes is None else routes(self), config.web.host, config.web.port, token=config.web.token
            )

    @property
    def streams(self) -> Mapping[str, BarStream]:
        """The stream of each venue; empty while none runs."""
        return {} if self._bars is None else self._bars.venues

    @property
    def web_url(self) -> str | None:
        """Where its web server is found; None where it has none."""
        return None if self._web is None else self._web.url

    def stats(self) -> StreamStats | None:
        """All counters together; None while no stream runs."""
        return None if self._bars is None else self._bars.stats()

    def stop(self) -> None:
        """End `run`, in an orderly way."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            SubscriptionError, SinkRefused: at the start, for what the exchange or a sink refuses.
            FastbarsError: the web server cannot listen. SnapshotError, OSError: of the state file.
        """
        tasks = [asyncio.create_task(self._keep_alive(), name="fastbars watchdog")]
        try:
            if self._web is not None:
                await self._web.start()
            await self._serve()
        finally:
            self._notifier.stopping()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if self._web is not None:
                await self._web.stop()

    async def _serve(self) -> None:
        delay_s = _FIRST_DELAY_S
        while not self._stopping.is_set():
            try:
                if await self._run_once():
                    delay_s = _FIRST_DELAY_S
            except SubscriptionError:
                raise
            except _RESTARTABLE as error:
                if isinstance(error, OSError) and error.filename is not None and not self._was_ready:
                    raise  # a path that is wrong does not come right by waiting
                log.warning("service_waits", error=str(error), seconds=round(delay_s, 1))
                self._notifier.status(f"waiting: {error}"[:200])
            else:
                if self._stopping.is_set():
                    return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), uniform(delay_s / 2, delay_s))  # noqa: S311 no secret
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _run_once(self) -> bool:
        # One stream from its beginning to its end. Returns whether it was entered.
        bars = open_streams(self.config)
        followed = _listed(self.config)
        following: asyncio.Task[None] | None = None
        entering = asyncio.ensure_future(bars.__aenter__())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([entering, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not entering.done():
                entering.cancel()
                await asyncio.wait([entering])
                return False
            await entering
            self._bars, self._followed, self._was_ready = bars, followed, True
            symbols = sum(len(one.subscribed) for one in bars.venues.values())
            log.info("service_ready", venues=list(bars.venues), symbols=symbols, bars=list(self.config.specs))
            self._notifier.ready(f"{symbols} symbols of {len(bars.venues)} venues")
            consuming = asyncio.create_task(self._consume(bars), name="fastbars service")
            following = asyncio.create_task(self._catch_up(bars), name="fastbars catch up")
            await asyncio.wait([consuming, stopping], return_when=asyncio.FIRST_COMPLETED)
            ending = asyncio.create_task(bars.__aexit__(None, None, None))
            await asyncio.wait([ending])
            await asyncio.wait([consuming])
            self._bars = None
            ending.result()
            if not self._stopping.is_set():
                consuming.result()  # why all venues have failed
            return True
        finally:
            self._bars = None
            stopping.cancel()
            if following is not None:
                following.cancel()

    async def _consume(self, bars: VenueStreams) -> None:
        async for bar in bars:
            for callback in self.on_bar:
                try:
                    callback(bar)
                except Exception:  # noqa: BLE001 a page that fails must not stop the bars
                    log.exception("bar_callback_failed", symbol=bar.symbol)

    async def reload(self) -> None:
        """Read the file again: symbols are added and removed. A file that is wrong changes nothing, and is logged."""
        if self._path is None:
            return
        async with self._reloading:
            if self._was_ready:  # before that, READY=1 would say what is not so
                self._notifier.reloading()
            try:
                new = await asyncio.to_thread(read_config, self._path)
            except ConfigError as error:
                log.error("reload_refused", error=str(error))
            else:
                await self._apply(new)
            finally:
                if self._was_ready:
                    symbols = sum(len(one.subscribed) for one in self.streams.values())
                    self._notifier.ready(f"{symbols} symbols of {len(self.streams)} venues")

    async def _apply(self, new: Config) -> None:
        old = self.config
        unchanged = _without_symbols(old) == _without_symbols(new)
        if not unchanged:
            log.warning("reload_needs_restart", keys=_changed(_without_symbols(old), _without_symbols(new)))
        before, after = _listed(old), _listed(new)
        for name in before.keys() & after.keys():
            old.venues[name].symbols = new.venues[name].symbols
        if self._bars is None:  # the stream that is made or entered now begins with them, or catches up
            added, removed = _differences(before, _listed(old))
        else:
            added, removed = await self._follow(self._bars)
        log.info("reloaded", added=added, removed=removed)

    async def _catch_up(self, bars: VenueStreams) -> None:
        # With a reload that came while it was being entered.
        async with self._reloading:
            if self._bars is bars and _differences(self._followed, _listed(self.config)) != ({}, {}):
                added, removed = await self._follow(bars)
                log.info("reloaded", added=added, removed=removed)

    async def _follow(self, bars: VenueStreams) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        # Subscribe to what the configuration lists. Venue by venue, so that one that refuses stops no other; what has
        # failed is tried again by the next reload. Returns what was added and removed.
        added, removed = _differences(self._followed, _listed(self.config))
        for name in self._followed:
            for change, call in ((added, bars.subscribe), (removed, bars.unsubscribe)):
                if name not in change:
                    continue
                try:
                    await call({name: change[name]})
                except (FastbarsError, OSError) as error:
                    log.error("reload_failed", venue=name, error=str(error))
                    held = bars.venues[name].subscribed
                    done = [symbol for symbol in change[name] if (symbol in held) == (change is added)]
                    if isinstance(error, SubscriptionError) and change is added:
                        # Else the next stream, which is made of all of them, would be refused as a whole.
                        venue = self.config.venues[name]
                        refused = set(change[name]) - set(done)
                        venue.symbols = [symbol for symbol in _listed(self.config)[name] if symbol not in refused]
                    change[name] = done
                gone = set(removed.get(name, ())) if change is removed else set()
                new = change[name] if change is added else []
                self._followed[name] = [symbol for symbol in self._followed[name] if symbol not in gone] + new
        return _filled(added), _filled(removed)

    async def _keep_alive(self) -> None:
        seconds = self._notifier.watchdog_s
        while seconds is not None:
            self._notifier.alive()
            await asyncio.sleep(seconds)

    def take_signals(self) -> None:
        """SIGTERM and SIGINT stop it, SIGHUP reloads; where the platform has them."""
        loop = asyncio.get_running_loop()
        reloads: set[asyncio.Task[None]] = set()

        def reload() -> None:
            task = loop.create_task(self.reload(), name="fastbars reload")
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        for name, action in (("SIGTERM", self.stop), ("SIGINT", self.stop), ("SIGHUP", reload)):
            with suppress(NotImplementedError, AttributeError):
                loop.add_signal_handler(getattr(signal, name), action)


def _listed(config: Config) -> dict[str, list[str]]:
    # The symbols of the venues that list them, as the exchange writes them.
    found = {name: config.symbols(name) for name in config.venues}
    return {name: symbols for name, symbols in found.items() if isinstance(symbols, list)}


def _differences(
    before: Mapping[str, list[str]], after: Mapping[str, list[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    # What was added and removed, by venue, of those in both.
    both = [name for name in before if name in after]
    added = {name: [symbol for symbol in after[name] if symbol not in before[name]] for name in both}
    removed = {name: [symbol for symbol in before[name] if symbol not in after[name]] for name in both}
    return _filled(added), _filled(removed)


def _filled(symbols: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: own for name, own in symbols.items() if own}


def _without_symbols(config: Config) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(config)
    for venue in plain["venues"].values():
        if not venue.get("where"):
            venue.pop("symbols", None)
    return plain


def _changed(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    # The keys that differ; not their values, some of which are secret.
    keys: list[str] = []
    for key in sorted(before.keys() | after.keys()):
        one, other = before.get(key), after.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            keys += _changed(one, other, f"{prefix}{key}.")
        elif one != other:
            keys.append(prefix + key)
    return keys
