"""PastKeeper: brings the history of a stream's symbols, each up to where its live bars begin.

    want --> lanes are opened, before the symbols are subscribed to
               `--> job of trades --too many trades, or they cannot be had--> jobs of candles --> lanes are joined
                      |  ^                                                                         ^
                      |  `-- a live bar came, or 0.5 to 15 s are over                               |
                      `-- waits; what fails for good is reported, and its lanes joined without -----+

Some jobs run at a time; one that has run for a while, or waits, lets the others go on, so that no symbol is held up by
another. Requests wait behind those of healing. Units: seconds for timers, int64 nanoseconds for exchange time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from fastbars.clocks import steady_ns, steady_s, wall_ns
from fastbars.errors import HistoryError, RestError
from fastbars.live.healing.pages import HealingStats, PageClient
from fastbars.live.past.candles import CandleClient
from fastbars.live.past.jobs import CandleJob, Job, PathJob, TooManyTradesError, TradesJob, Waits
from fastbars.live.past.plan import Plan
from fastbars.live.past.spans import Reach
from fastbars.live.past.trades import PastTrades
from fastbars.live.rest import RestClient
from fastbars.live.session import Session
from fastbars.live.shared import SHARED
from fastbars.live.stats import HistoryStats
from fastbars.log import log
from fastbars.specs import BarSpec
from fastbars.ticks import to_nanoseconds

_AT_ONCE = 4
_LOOK_S = 0.1  # between two looks at whether a live bar came
_FULL_S = 0.02  # between two looks at whether a slow consumer has room again
_PAGES = 20  # of one job before the others have their turn
_SOON_S = 0.5
_LATER_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # before the exchange is asked again for what it did not have
_AGAIN_S = (1.0, 5.0, 15.0)  # after a failure
_HEALS_S = 30.0  # healing may take so long before the past is asked instead
_PROGRESS_S = 10.0


@dataclass(slots=True, eq=False)
class _Turn:
    # A job, and how often in a row it failed, or waited for the exchange.
    job: Job
    failures: int = 0
    waits: int = 0
    due_s: float = 0.0


@dataclass(slots=True)
class _Parked:
    # Jobs that do not run: waiting for a live bar, or until a time.
    live: list[_Turn] = field(default_factory=list)
    later: list[_Turn] = field(default_factory=list)


class PastKeeper:
    """Brings the past of one session.

    Args:
        session: whose past it is.
        plan: where it comes from.
        reach: how far back it goes.
        get: fetches URLs; None: a client of its own.
        is_healing: whether holes of a symbol are being healed: that goes first.
        on_failure: called with a HistoryError for each symbol whose history cannot be had.

    Attributes:
        stats: what was done.
    """

    def __init__(
        self,
        session: Session,
        plan: Plan,
        reach: Reach,
        *,
        get: RestClient | None = None,
        is_healing: Callable[[str], bool] = lambda _: False,
        on_failure: Callable[[HistoryError], object] | None = None,
    ) -> None:
        self.stats = HistoryStats()
        self._session = session
        self._plan = plan
        self._reach = reach
        self._is_healing = is_healing
        self._on_failure = on_failure
        self._jobs: dict[str, list[Job]] = {}  # of each symbol that is wanted
        self._queue: deque[_Turn] = deque()
        self._parked = _Parked()
        self._running = 0
        self._task: asyncio.Task[None] | None = None
        config = session.config
        self._get = RestClient(ssl=config.ssl, proxy=config.proxy) if get is None else get
        self._clients = _clients_of(session, plan, self._get, self._now_ns)

    def want(self, symbols: Sequence[str]) -> None:
        """Open the lanes of symbols that are about to be subscribed to. Idempotent.

        One that was wanted before, or by an earlier process, goes on where it was.

        Raises:
            ValueError, SpecError: as Reach.since; then none was opened.
        """
        now_ns, specs = self._now_ns(), self._plan.specs
        since = {spec: self._reach.since(spec, now_ns) for spec in specs}
        added = [symbol for symbol in dict.fromkeys(symbols) if symbol not in self._jobs]
        self._jobs |= {symbol: [] for symbol in added}
        for symbol in added:
            begins = {spec: self._session.past.open(symbol, str(spec), since[spec]) for spec in specs}
            # Path-driven bars cannot be continued from the middle.
            for spec, begins_ns in list(begins.items()):
                if not spec.is_timed and begins_ns != since[spec]:
                    self._session.past.join(symbol, str(spec))
                    del begins[spec]
            self._jobs[symbol] = self._jobs_of(symbol, begins)
            self._queue.extend(map(_Turn, self._jobs[symbol]))
        self._count_open()

    def forget(self, symbols: Sequence[str]) -> None:
        """Symbols are not subscribed to, or no longer: what is held of them is issued."""
        for symbol in symbols:
            for job in self._jobs.pop(symbol, ()):
                job.is_dropped = True
            self._session.past.end(symbol, wall_ns())

    def start(self) -> None:
        """Begin to bring what is wanted."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"fastbars history {self._session.exchange.name}")

    async def stop(self) -> None:
        """End; what was not brought is not joined. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._get.close()

    def snapshot(self) -> HistoryStats:
        """The counters, as they are now."""
        self._count_open()
        trades, candles = self._clients
        requests = (0 if trades is None else trades.stats.requests) + (0 if candles is None else candles.stats.requests)
        return replace(self.stats, requests=requests, held=self._session.past.seam.held, failed=dict(self.stats.failed))

    # Jobs.

    def _jobs_of(self, symbol: str, begins: dict[BarSpec, int]) -> list[Job]:
        # Those that a symbol begins with.
        plan, jobs = self._plan, list[Job]()
        timed = [spec for spec in begins if spec.is_timed]
        paths = [spec for spec in begins if not spec.is_timed]
        most_pages = plan.most_pages(len(self._jobs))
        by_trades = [spec for spec in timed if plan.wants_trades and (most_pages or spec not in plan.parts)]
        for group in _groups(by_trades, begins, self._now_ns(), as_one=plan.is_forced):
            limit = most_pages if all(spec in plan.parts for spec in group) else float("inf")
            past = self._past_trades(symbol, {spec: begins[spec] for spec in group})
            jobs.append(TradesJob(self._session.past, symbol, past, group, limit, self._now_ns, self._session.repairs))
        for spec in timed:
            if spec not in by_trades:
                jobs.append(self._candle_job(symbol, spec))
        if paths:
            past = self._past_trades(symbol, {spec: begins[spec] for spec in paths})
            jobs.append(PathJob(self._session.past, symbol, past, paths, partial(self._first_id, symbol, paths)))
        return jobs

    def _past_trades(self, symbol: str, since_ns: dict[BarSpec, int]) -> PastTrades:
        trades, session = self._clients[0], self._session
        assert trades is not None
        assert self._plan.trades is not None
        return PastTrades(
            session.exchange, session.channel, symbol, since_ns, self._plan.trades, trades.client,
            empty=session.config.empty,
        )  # fmt: skip

    def _candle_job(self, symbol: str, spec: BarSpec) -> CandleJob:
        client = self._clients[1]
        assert client is not None
        exchange = self._session.exchange
        return CandleJob(
            self._session.past, client, symbol, spec, self._plan.parts[spec],
            inverse=exchange.contract_size(symbol) is not None, fills=self._session.config.empty == "fill",
            now_ns=self._now_ns,
        )  # fmt: skip

    def _first_id(self, symbol: str, paths: Sequence[BarSpec]) -> int | None:
        buffer = self._session.intake.buffer
        if buffer is None:
            return None
        for spec in paths:
            held = self._session.past.seam.first_held((symbol, str(spec)))
            bar = held if held is not None else buffer.current(symbol, str(spec))
            if bar is not None and bar.first_trade_id is not None:
                return bar.first_trade_id
        return None

    def _now_ns(self) -> int:
        now_ns = self._session.now_ns(steady_ns())
        return wall_ns() if now_ns is None else now_ns

    # Running them.

    async def _run(self) -> None:
        workers: set[asyncio.Task[None]] = set()
        progress_s = steady_s()
        try:
            while True:
                self._unpark()
                self._report_abandoned()
                while self._queue and len(workers) < _AT_ONCE:
                    workers.add(asyncio.create_task(self._work(self._queue.popleft()), name="fastbars history job"))
                if steady_s() - progress_s >= _PROGRESS_S and self.stats.lanes_open and workers:
                    progress_s = steady_s()
                    log.info("history_progress", exchange=self._session.exchange.name, **self.stats.progress())
                if workers:
                    done, workers = await asyncio.wait(workers, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                else:
                    await asyncio.sleep(_LOOK_S)
        except Exception as error:  # noqa: BLE001 a task's top: it logs, and live bars go on
            log.exception("history_failed", exchange=self._session.exchange.name)
            for symbol in list(self._jobs):
                self._fail(symbol, self._plan.specs, f"internal error: {error!r}")
        finally:
            for task in workers:
                task.cancel()
            if workers:
                await asyncio.wait(workers)

    def _unpark(self) -> None:
        # Those whose time has come, or whose first live bar.
        seam, now_s, parked = self._session.past.seam, steady_s(), self._parked
        if parked.later:
            due = [turn for turn in parked.later if turn.due_s <= now_s]
            parked.later = [turn for turn in parked.later if turn.due_s > now_s]
            self._queue.extend(due)
        if parked.live:
            fresh = seam.take_fresh()
            ready = [turn for turn in parked.live if turn.job.symbol in fresh or turn.job.is_ready]
            if ready:
                parked.live = [turn for turn in parked.live if turn not in ready]
                self._queue.extend(ready)

    async def _work(self, turn: _Turn) -> None:
        # One job, for some pages.
        job = turn.job
        for _ in range(_PAGES):
            while self._session.delivery.is_full:  # noqa: ASYNC110 nobody signals it
                await asyncio.sleep(_FULL_S)
            if not job.specs:
                return
            if turn.waits < _HEALS_S / _LATER_S[0] and self._heals_first(job):
                self._park(turn, _LATER_S[0])
                turn.waits += 1
                return
            try:
                waits = await job.step()
            except TooManyTradesError as error:
                log.info(
                    "history_from_candles", exchange=self._session.exchange.name, symbol=job.symbol, why=str(error)
                )
                self._fall_back(job, str(error))
                return
            except RestError as error:
                self._failed(turn, error)
                return
            turn.failures = 0
            if waits is Waits.DONE:
                return
            if waits is Waits.LIVE:
                turn.waits = 0
                self._parked.live.append(turn)
                return
            if waits is Waits.SOON:
                self._park(turn, _SOON_S)
                return
            if waits is Waits.LATER:
                self._wait_for_exchange(turn)
                return
        self._queue.append(turn)

    def _heals_first(self, job: Job) -> bool:
        # Where live bars are all that is left to replace.
        seam = self._session.past.seam
        for spec in job.specs:
            lane = job.symbol, str(spec)
            first = seam.first_held(lane)
            if first is None or seam.need(lane).mark_ns < to_nanoseconds(first.open_time):
                return False
        return self._is_healing(job.symbol)

    def _park(self, turn: _Turn, seconds: float) -> None:
        turn.due_s = steady_s() + seconds
        self._parked.later.append(turn)

    def _wait_for_exchange(self, turn: _Turn) -> None:
        # What is held goes on without, if the exchange does not have it after so many questions.
        if turn.waits < len(_LATER_S):
            self._park(turn, _LATER_S[turn.waits])
            turn.waits += 1
            return
        for spec in turn.job.specs:
            log.info("history_ends_early", exchange=self._session.exchange.name, symbol=turn.job.symbol, spec=str(spec))
            self._session.past.join(turn.job.symbol, str(spec))

    def _failed(self, turn: _Turn, error: RestError) -> None:
        if not error.permanent and turn.failures < len(_AGAIN_S):
            self._park(turn, _AGAIN_S[turn.failures])
            turn.failures += 1
            return
        self._fall_back(turn.job, str(error))

    def _fall_back(self, job: Job, why: str) -> None:
        # From trades to candles, where there are any and the user does not insist; else it cannot be had.
        lost: list[BarSpec] = []
        for spec in job.specs:
            if isinstance(job, TradesJob) and spec in self._plan.parts:
                other = self._candle_job(job.symbol, spec)
                self._jobs.setdefault(job.symbol, []).append(other)
                self._queue.append(_Turn(other))
            else:
                lost.append(spec)
        if lost:
            self._fail(job.symbol, lost, why)

    def _fail(self, symbol: str, specs: Sequence[BarSpec], why: str) -> None:
        names = ", ".join(map(str, specs))
        told = f"{self._session.exchange.name} {symbol} {names}: no history, live bars alone: {why}"
        log.warning("no_history", exchange=self._session.exchange.name, symbol=symbol, specs=names, why=why)
        self.stats.failed[symbol] = why
        for spec in specs:
            self._session.past.join(symbol, str(spec))
        self._session.notifier.call(self._on_failure, HistoryError(told, symbol))

    def _report_abandoned(self) -> None:
        abandoned = self._session.past.seam.take_abandoned()
        for symbol, spec in abandoned:
            self._fail(symbol, [BarSpec.parse(spec)], "too many live bars waited for it")

    def _count_open(self) -> None:
        self.stats.lanes_open = len(self._session.past.seam.lanes())
        self.stats.bars = self._session.past.bars


@dataclass(slots=True)
class _Trades:
    # Pages of trades, and what they took.
    client: PageClient
    stats: HealingStats


def _clients_of(
    session: Session, plan: Plan, get: RestClient, now_ns: Callable[[], int]
) -> tuple[_Trades | None, CandleClient | None]:
    config, exchange = session.config, session.exchange
    trades: _Trades | None = None
    candles: CandleClient | None = None
    if plan.trades is not None:
        api = plan.trades.api
        limiter = SHARED.rest_limiter(api.budget_name, api.weight_per_minute, config.rest_url)
        stats = HealingStats()
        client = PageClient(
            exchange.name, plan.trades, get, stats, limiter, api_key=config.api_key, url=config.rest_url,
            patience_s=config.heal_horizon, sleep=asyncio.sleep, goes_first=False,
        )  # fmt: skip
        trades = _Trades(client, stats)
    if plan.candles is not None and plan.parts:
        api = plan.candles.api
        limiter = SHARED.rest_limiter(api.budget_name, api.weight_per_minute, config.rest_url)
        candles = CandleClient(exchange, get, limiter, url=config.rest_url, exchange_time_ns=now_ns)
    return trades, candles


def _groups(specs: Sequence[BarSpec], begins: dict[BarSpec, int], now_ns: int, *, as_one: bool) -> list[list[BarSpec]]:
    # Specs whose histories are about equally long share their trades.
    groups: list[list[BarSpec]] = []
    for spec in sorted(specs, key=lambda spec: -begins[spec]):
        if groups:
            shortest_ns = now_ns - begins[groups[-1][0]]
            if as_one or now_ns - begins[spec] <= 2 * shortest_ns:
                groups[-1].append(spec)
                continue
        groups.append([spec])
    return groups
