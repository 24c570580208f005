"""Delivery: every issued bar to every consumer, at least once; and what is still to be delivered after a restart.

A stream numbers its bars in the order issued. A consumer has confirmed those below a number of its own:

    callbacks   on_bar, on_bars, on_event: by returning, or raising
    loops       `async for` over a stream: by asking for the next bar, or by leaving `async with` without an exception
    sinks       each (`fastbars.sinks`): by returning from a flush

    issued --written to the delivery log--> handed to a consumer --confirmed--> confirmed
      +--the process was killed--> delivered again by the next one

Each loop is given every bar from where it begins: the first one from the first bar, a later one from the first bar that
no other loop has confirmed. When the last loop is left, its place waits for the next, which begins with what was not
confirmed. So a bar whose loop ended by an exception comes again.

A loop may be over several streams (`venue_streams.py`): it has a place in each, and is given their bars in turn.

A loop may ask for bars in progress too (`open_bars.py`): it is given one where no issued bar waits for it. They are not
numbered, logged or confirmed.

Bars are kept until all have confirmed them, and never dropped: at `most` bars that a loop has not taken, reading is
paused, until half of them are taken. (Half, not one: pausing and resuming cost a system call each, and a consumer that
barely keeps up would cause both for every bar.) Where callbacks take the bars and nobody iterates, the place that waits
for a loop is given up instead.

No consumer of many bars holds the event loop up for longer than SLICE_NS and what it does with A_LOOK of them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self

import orjson

from fastbars.bars import OHLCVBar
from fastbars.clocks import steady_ns
from fastbars.errors import WSConnectionError
from fastbars.live.config import StreamConfig
from fastbars.live.delivery_log import LONGEST_STREAM, MOST_NUMBER, DeliveryLog, Logged, decoded, encoded, positions
from fastbars.live.open_bars import OpenBars
from fastbars.live.past.seam import Seam
from fastbars.live.reissues import EarlierBars
from fastbars.log import SparseLog, log

_MOST_WAITING = 10_000_000
CALLBACKS, LOOPS = "callbacks", "loops"

# Where many bars wait, a consumer gives the event loop its turn after this long.
SLICE_NS = 5_000_000
A_LOOK = 16  # bars: how often it looks at the clock


class Delivery:
    """The bars of one stream on their way to its consumers.

    Args:
        exchange: name, for the log.
        identity: exchange and market of its bars.
        config: bar specs, and how long their bars can still change.

    Attributes:
        next_number: of the bar that is issued next.
        is_held: callbacks are not called yet, as the stream has not begun.
        changes: counts whatever a snapshot would hold differently.
        loops: of the stream; None: nothing iterates over it.
        seam: holds live bars whose past comes first.
        on_issued: called whenever bars were issued, for consumers that take them by themselves.
    """

    def __init__(self, exchange: str, identity: tuple[str, str], config: StreamConfig) -> None:
        self.next_number = 0
        self.is_held = False
        self.changes = 0
        self.loops: BarLoops | None = None
        self.on_issued: list[Callable[[], object]] = []
        earlier = EarlierBars(
            identity, config.specs, config.lateness + config.heal_horizon, repairs=config.repair == "candles"
        )
        self.seam = Seam(earlier, (str(spec) for spec in config.specs if not spec.is_timed))
        self._exchange = exchange
        self._warnings = SparseLog(exchange=exchange)
        self._bars: dict[int, tuple[OHLCVBar, bytes]] = {}  # those that somebody has not confirmed, with their JSON
        self._first = 0  # of those
        self._named: dict[str, int] = {}  # consumer -> number of the first bar that it has not confirmed
        self._restored: dict[str, int] = {}  # the same, of the process before
        self._stream = secrets.token_hex(16)
        self._log: DeliveryLog | None = None
        self._logged = 0  # number of the first bar that neither log nor snapshot has
        self._is_writing = False  # confirmations are about to be written

    def add_consumer(self, name: str) -> int:
        """Add one that confirms by `confirm`; it begins where the consumer of this name has ended, else now.

        Returns:
            The number of the first bar that it has not confirmed.
        """
        at = self._named[name] = self._restored.get(name, self.next_number)
        return at

    @property
    def earlier(self) -> EarlierBars:
        """Bars of earlier processes, and of the past, that may be made again."""
        return self.seam.earlier

    @property
    def has_named_consumers(self) -> bool:
        """Whether there are consumers besides the loops."""
        return bool(self._named)

    # Bars.

    def issue(self, bars: list[OHLCVBar]) -> list[OHLCVBar]:
        """Log live bars and pass them to the loops, once those of the past have been.

        Returns:
            Those that callbacks are to be given: less the ones that wait for their past, or are worse than what an
            earlier process, or the past, has had.
        """
        return self.issue_joined(self.seam.hold(bars))

    def issue_past(self, bars: list[OHLCVBar], now_ns: int) -> list[OHLCVBar]:
        """The same, for bars of the past: those that this process may make again by now continue their revisions."""
        issued = self.issue_joined(bars)
        for bar in issued:
            if self.earlier.may_change(bar, now_ns):
                self.earlier.add(bar)
        return issued

    def issue_joined(self, bars: list[OHLCVBar]) -> list[OHLCVBar]:
        """The same, for live bars that wait for nothing."""
        if not self.earlier.is_empty:
            bars = [judged for bar in bars if (judged := self.earlier.judge(bar)) is not None]
        return self.issue_judged(bars)

    def issue_judged(self, bars: list[OHLCVBar]) -> list[OHLCVBar]:
        """The same, of bars that `earlier` has judged, and returned as they are to be issued."""
        if not bars or not (self._log or self.loops or self.is_held):
            return bars
        first = self.next_number
        keeps = self._log is not None or self.is_held
        texts = [encoded(bar) if keeps else b"" for bar in bars]
        self._bars.update(enumerate(zip(bars, texts, strict=True), first))
        self.next_number += len(bars)
        self.changes += 1
        if self._log is not None:
            self._write_bars()
        if self.loops is not None:
            self.loops.wake()
        elif not self._named:  # nobody confirms
            self._forget()
        for notify in self.on_issued:
            notify()
        return bars

    @property
    def is_full(self) -> bool:
        """Whether as many bars wait for a loop as may."""
        return self.loops is not None and self.loops.is_paused

    def bar(self, number: int) -> OHLCVBar | None:
        """A bar that is not confirmed by all; None: a failed disk kept an earlier process from logging it."""
        kept = self._bars.get(number)
        return None if kept is None else kept[0]

    def waiting(self, name: str) -> list[OHLCVBar]:
        """The bars that a consumer has not confirmed."""
        bars = map(self.bar, range(self._named.get(name, self.next_number), self.next_number))
        return [bar for bar in bars if bar is not None]

    def confirm(self, name: str, end: int) -> None:
        """A consumer has all bars below the number `end`."""
        if name in self._named and self._named[name] < end:
            self._named[name] = end
            self.note_confirmed()

    def note_confirmed(self) -> None:
        """A consumer has confirmed: forget what all have, and write it down before long."""
        self.changes += 1
        self._forget()
        if self._log is None or self._is_writing:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write_confirmed()
            return
        self._is_writing = True  # with all others of this turn
        loop.call_soon(self._write_confirmed)

    @property
    def positions(self) -> dict[str, int]:
        """Consumer -> number of the first bar that it has not confirmed; all loops are one."""
        if self.is_held:
            return dict(self._restored)
        place = None if self.loops is None else self.loops.position
        return self._named if place is None else {**self._named, LOOPS: place}

    def _forget(self) -> None:
        if self.is_held:
            return
        low = min(self.positions.values(), default=self.next_number)
        while self._first < low:
            self._bars.pop(self._first, None)
            self._first += 1

    # The log.

    def open_log(self, path: Path, number: int) -> None:
        """Begin the log that belongs to snapshot `number`. Raises OSError."""
        made = DeliveryLog(path, self._stream, self._exchange) if self._log is None else self._log
        made.begin(number)
        self._log = made
        self._write_bars()

    def close_log(self) -> None:
        """Write no more."""
        self._write_confirmed()
        if self._log is not None:
            self._log.close()
            self._log = None

    @property
    def log_bytes(self) -> int:
        """Size of the log; 0 where there is none."""
        return 0 if self._log is None else self._log.size

    def _write_bars(self) -> None:
        if self._log is None or self._logged == self.next_number:
            return
        first = max(self._logged, self._first)
        texts = [self._text(number) for number in range(first, self.next_number)]
        try:
            self._log.write_bars(first, texts)
        except OSError as error:  # the next snapshot has those that are not confirmed
            self._warnings.warn("delivery_log_not_written", error=str(error))
        self._logged = self.next_number

    def _text(self, number: int) -> bytes:
        bar, text = self._bars[number]
        return text or encoded(bar)

    def _write_confirmed(self) -> None:
        self._is_writing = False
        if self._log is None:
            return
        try:
            self._log.write_confirmed(self.positions)
        except OSError as error:
            self._warnings.warn("delivery_log_not_written", error=str(error))

    # Snapshots.

    def dump(self, number: int, *, is_last: bool = False) -> Callable[[], dict[str, Any]]:
        """What snapshot `number` has of it, for `load`: copied now, put into words when it is called, in any thread.

        Args:
            is_last: no bar is issued behind it, so that none is unknown to those who have lost the logs behind it.
        """
        self._logged = self.next_number
        head = {
            "stream": self._stream,
            "log": number,
            "next": self.next_number,
            "confirmed": dict(self.positions),
            "knows_all": is_last,
        }
        waiting, earlier, past = list(self._bars.items()), self.earlier.dump(), self.seam.dump()

        def content() -> dict[str, Any]:
            lines = (b"[%d,%b]" % (at, text or encoded(bar)) for at, (bar, text) in waiting)
            return {"delivery": head, "waiting": b"[%s]" % b",\n".join(lines), "earlier": earlier(), "past": past()}

        return content

    def load(self, content: Mapping[str, Any]) -> None:
        """Restore what `dump` returned; a content without it changes nothing.

        Raises:
            ValueError: it is something else; nothing has changed.
        """
        if "delivery" not in content:
            return
        stream, _, next_number, confirmed = _head_of(content["delivery"])
        waiting = _waiting_of(content.get("waiting"), next_number)
        for bar in waiting.values():
            self.earlier.check(bar)
        self.seam.load(content.get("past"))
        self.earlier.load(content.get("earlier"))
        self._stream = stream
        self.next_number = self._logged = next_number
        self._restore(waiting, confirmed)

    def join(self, logged: Logged) -> None:
        """Add what the logs say that were written since the snapshot that was loaded.

        Raises:
            ValueError: a bar is of no spec of the stream, or bars are too far apart; it must not be used then.
        """
        if logged.stream is None:
            return
        for bar in logged.bars.values():
            self.earlier.add(bar)
        self.seam.note_issued(logged.bars.values())
        self._stream = logged.stream
        self.next_number = self._logged = max([self.next_number, *(number + 1 for number in logged.bars)])
        waiting = {number: bar for number, (bar, _) in self._bars.items()} | logged.bars
        confirmed = dict(self._restored)
        for name, at in logged.confirmed.items():
            confirmed[name] = max(at, confirmed.get(name, 0))
        self._restore(waiting, confirmed)

    def _restore(self, waiting: Mapping[int, OHLCVBar], confirmed: Mapping[str, int]) -> None:
        # Positions are brought into the range of the bars there are.
        oldest = min(confirmed.values(), default=min(waiting, default=self.next_number))
        kept = {number: (bar, encoded(bar)) for number, bar in sorted(waiting.items()) if number >= oldest}
        self._first = next(iter(kept), self.next_number)
        if self.next_number - self._first > _MOST_WAITING:
            raise ValueError(f"its bars {self._first} to {self.next_number} are too many to wait")
        self._bars = kept
        self._restored = {name: self._within(at) for name, at in confirmed.items()}
        for name in self._named:
            self._named[name] = self._restored.get(name, self._first)

    def _within(self, number: int) -> int:
        return max(self._first, min(number, self.next_number))

    @property
    def restored_place(self) -> int:
        """Where loops begin after a restart."""
        return self._restored.get(LOOPS, self._first)

    def hold(self) -> None:
        """Call no callback until `release`."""
        self.is_held = True

    def release(self) -> None:
        """The stream begins, and its consumers are known: what nobody waits for is forgotten."""
        self.is_held = False
        self._forget()


def log_of(content: Mapping[str, Any] | None) -> tuple[str | None, int]:
    """The id of the stream of a snapshot, and the number of the first log behind it; (None, 0) without one.

    Raises:
        ValueError: the snapshot does not say it.
    """
    return (None, 0) if content is None else _head_of(content.get("delivery"))[:2]


def knows_all(content: Mapping[str, Any]) -> bool:
    """Whether all bars issued since the snapshot are known: they are in its logs, or there were none."""
    head = content.get("delivery")
    return isinstance(head, dict) and head.get("knows_all") is True


def _head_of(head: object) -> tuple[str, int, int, dict[str, int]]:
    if not isinstance(head, dict):
        raise ValueError("it does not say what was delivered")
    stream, log_number, next_number = head.get("stream"), head.get("log"), head.get("next")
    if type(stream) is not str or not 0 < len(stream) <= LONGEST_STREAM:
        raise ValueError(f"its stream is {stream!a:.100}")
    if type(log_number) is not int or not 0 <= log_number <= MOST_NUMBER:
        raise ValueError(f"its log is {log_number!a:.100}")
    if type(next_number) is not int or not 0 <= next_number <= MOST_NUMBER:
        raise ValueError(f"its next bar is {next_number!a:.100}")
    return stream, log_number, next_number, positions(head.get("confirmed"))


def _waiting_of(part: object, next_number: int) -> dict[int, OHLCVBar]:
    listed = orjson.loads(part) if isinstance(part, bytes) else None
    if not isinstance(listed, list):
        raise ValueError("it does not list the bars that wait")
    waiting: dict[int, OHLCVBar] = {}
    for one in listed:
        number = one[0] if isinstance(one, list) and len(one) == 2 else None
        if type(number) is not int or not next(reversed(waiting), -1) < number < next_number:
            raise ValueError(f"a bar that waits has the number {number!a:.100}")
        waiting[number] = decoded(one[1])
    return waiting


# Loops.


@dataclass(slots=True, eq=False)
class Place:
    """How far one loop is.

    Attributes:
        next: number of the bar that it is given next.
        confirmed: it has confirmed those below.
        ready: set when there may be more for it.
        is_closed: it was left while others went on.
        was_told: the failure of the stream was raised in it, or need not be.
        open_bars: the bars in progress that it is given as well; None: it is given none.
    """

    next: int
    confirmed: int
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    is_closed: bool = False
    was_told: bool = False
    open_bars: OpenBars | None = None


class BarLoops:
    """The loops over one stream.

    Args:
        delivery: where the bars are.
        most: bars that may wait for one of them before reading is paused; those of the same wakeup still come.
        pause: pauses the producer (True) or resumes it (False).

    Attributes:
        is_paused: the producer is.
    """

    def __init__(self, delivery: Delivery, most: int, pause: Callable[[bool], object]) -> None:
        self.delivery = delivery
        self._most = most
        self._pause = pause
        self._places: list[Place] = []
        start = delivery.restored_place
        self._vacant: Place | None = Place(start, start)  # for the next loop, while there is none
        self._is_open = False
        self.is_paused = False
        self._has_ended = False
        self._failure: WSConnectionError | None = None
        self._has_raised = False
        delivery.loops = self

    @property
    def position(self) -> int | None:
        """Number of the first bar that a loop has not confirmed; None where none is awaited."""
        places = self._all()
        return min(place.confirmed for place in places) if places else None

    def begin(self, open_bars: OpenBars | None = None) -> BarLoop:
        """A new loop over this stream alone; see the module's first lines for where it begins.

        Args:
            open_bars: the bars in progress, of which it is given those that have changed; None: it is given none.
        """
        ready = asyncio.Event()
        return BarLoop([(self, self.join(ready, open_bars))], ready)

    def join(self, ready: asyncio.Event, open_bars: OpenBars | None = None) -> Place:
        """The place of a new loop, which waits for `ready`; else as `begin`."""
        place = self._vacant
        if place is not None:
            place.next = place.confirmed
            place.ready = ready
            self._vacant = None
        else:
            start = max((one.confirmed for one in self._places), default=self.delivery.next_number)
            place = Place(start, start, ready, was_told=self._has_raised)
        place.open_bars = open_bars
        self._places.append(place)
        return place

    def confirm(self, place: Place) -> None:
        """A loop has confirmed what it was given."""
        if place.confirmed != place.next:
            place.confirmed = place.next
            self.delivery.note_confirmed()

    def confirm_all(self) -> None:
        """All loops have, those that were left too."""
        for place in self._all():
            self.confirm(place)

    def leave(self, place: Place) -> None:
        """A loop asks no more."""
        if place not in self._places:
            return
        self._places.remove(place)
        if not self._places:
            self._vacant = place
            return
        place.is_closed = True
        place.ready.set()
        self.delivery.note_confirmed()
        self._resume()

    def open(self) -> None:
        """The stream is entered: the producer may be paused from now on, and no sooner.

        What it brings while it is entered are the answers to its requests as well, and nobody can iterate yet.
        """
        self._is_open = True
        if self._places or not self.delivery.has_named_consumers:
            self.wake()

    def wake(self) -> None:
        """Bars were issued; pauses the producer where too many wait."""
        for place in self._places:
            place.ready.set()
        if self.is_paused or not self._is_open or self._waiting() < self._most:
            return
        if not self._places and self.delivery.has_named_consumers:
            log.info("bars_not_iterated", waiting=self._waiting())
            self._vacant = None
            self.delivery.note_confirmed()
            return
        self.is_paused = True
        self._pause(True)

    def end(self, failure: WSConnectionError | None = None) -> None:
        """No bar follows; `failure`, where given, is raised once in each loop, after the last bar."""
        self._has_ended = True
        if failure is not None:
            self._failure = failure
        for place in self._places:
            place.ready.set()

    def take(self, place: Place) -> OHLCVBar | None:
        """The next bar of a loop, where one waits."""
        while place.next < self.delivery.next_number and not place.is_closed:
            bar = self.delivery.bar(place.next)
            place.next += 1
            self._resume()
            if bar is not None:
                return bar
        return None

    def is_over(self, place: Place) -> bool:
        """Whether no bar of a loop follows those that wait."""
        return place.is_closed or self._has_ended

    def failure_of(self, place: Place) -> WSConnectionError | None:
        """What is to be raised in a loop behind the last bar; None: nothing, or it was already."""
        return None if place.is_closed or place.was_told else self._failure

    def note_raised(self, place: Place) -> None:
        """It was raised there."""
        place.was_told = self._has_raised = True

    def _all(self) -> list[Place]:
        return self._places if self._vacant is None else [*self._places, self._vacant]

    def _waiting(self) -> int:
        places = self._all()
        return self.delivery.next_number - min(place.next for place in places) if places else 0

    def _resume(self) -> None:
        if self.is_paused and self._waiting() <= self._most // 2:
            self.is_paused = False
            self._pause(False)


async def _set_within(ready: asyncio.Event, seconds: float | None) -> None:
    # Waits until it is set; it sets itself after so long.
    timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, ready.set)
    try:
        await ready.wait()
    finally:
        if timer is not None:
            timer.cancel()


class BarLoop(AsyncIterator[OHLCVBar]):
    """The iterator of one loop, over one stream or several; asking it for the next bar confirms the last one.

    Of several streams each is given its turn: one that has many bars keeps none of another waiting for more than one.
    Of those that fail the others go on; where all have failed, that is raised, once.

    A loop that is no longer referenced, as one that was left by `break`, holds nothing up.

    Args:
        parts: its place in each stream.
        ready: set when there may be more for it; that of the places.
    """

    def __init__(self, parts: Iterable[tuple[BarLoops, Place]], ready: asyncio.Event) -> None:
        self._parts = deque(parts)
        self._ready = ready
        self._has_begun = False
        self._taken = 0
        self._turn_ns = 0  # when the event loop had its turn, at the latest

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> OHLCVBar:
        if not self._has_begun:
            # Loops that begin in one turn of the event loop all begin before any of them confirms something.
            self._has_begun = True
            await asyncio.sleep(0)
        self.confirm()
        self._taken += 1
        if not self._taken % A_LOOK and steady_ns() - self._turn_ns >= SLICE_NS:
            await asyncio.sleep(0)  # or a loop whose body awaits nothing would hold everything up until no bar waits
            self._turn_ns = steady_ns()
        while (bar := self._take()) is None:
            going = [place.open_bars for loops, place in self._parts if not loops.is_over(place)]
            if not going:
                self._end()
            self._ready.clear()
            await _set_within(self._ready, min((each.wait_s for each in going if each is not None), default=None))
        return bar

    def confirm(self) -> None:
        """Confirm the bar that it gave last."""
        for loops, place in self._parts:
            loops.confirm(place)

    def leave(self) -> None:
        """Ask no more. Idempotent."""
        for loops, place in self._parts:
            loops.leave(place)

    def __del__(self) -> None:
        self.leave()

    def _take(self) -> OHLCVBar | None:
        parts = self._parts
        for _ in range(len(parts)):
            loops, place = parts[0]
            parts.rotate(-1)
            if (bar := loops.take(place)) is not None:
                return bar
        for _ in range(len(parts)):
            loops, place = parts[0]
            parts.rotate(-1)
            if place.open_bars is not None and not loops.is_over(place) and (bars := place.open_bars.take()):
                return bars[0]
        return None

    def _end(self) -> NoReturn:
        failures = [loops.failure_of(place) for loops, place in self._parts]
        told = [failure for failure in failures if failure is not None]
        if not told or len(told) < len(failures):
            raise StopAsyncIteration
        for loops, place in self._parts:
            loops.note_raised(place)
        if len(told) == 1:
            raise told[0]
        raise WSConnectionError("; ".join(map(str, told))) from told[0]


class OwnLoop:
    """The loop that `anext(stream)` has; its place is free once another loop begins.

    Args:
        begin: begins one.
    """

    def __init__(self, begin: Callable[[], BarLoop]) -> None:
        self._begin = begin
        self._loop: BarLoop | None = None

    async def take(self) -> OHLCVBar:
        """The next bar. Raises StopAsyncIteration, WSConnectionError."""
        if self._loop is None:
            self._loop = self._begin()
        return await anext(self._loop)

    def end(self) -> None:
        """What it gave last is confirmed, and not given again."""
        if self._loop is not None:
            self._loop.confirm()
            self._loop.leave()
            self._loop = None
