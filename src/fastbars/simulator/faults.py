"""Faults on demand: what can go wrong between an exchange and its client, seeded and scriptable.

An injected fault waits until there is something to apply it to: the open connections, or the next `count`
messages, handshakes or requests. `Faults.schedule` draws a script of them from the seed.

Units: seconds.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import NamedTuple

from fastbars.simulator.market import SimulatedTrade
from fastbars.simulator.record import TradeMessage

__all__ = ["Fault", "FaultKind", "Faults", "Frame"]


class FaultKind(StrEnum):
    """The kinds of faults."""

    DROP = "drop"  # a TCP connection, without a close frame
    CUT_OFF = "cut_off"  # the same, in the middle of a message
    CLOSE = "close"  # a connection, with a code
    STALL = "stall"  # a connection is neither written nor read for a while, and stays open
    LAG = "lag"  # what a connection brings, answers too, is late from now on until it ends
    MUTE = "mute"  # of a connection one symbol, or all, bring nothing more until they are subscribed again
    LIFETIME = "lifetime"  # a connection is announced to end, where the exchange does so, and ends after a while
    CLOCK = "clock"  # event times are off by `seconds` from now on
    RENEW_IDS = "renew_ids"  # the trade ids of a symbol begin anew at `first_id`
    REFUSE = "refuse"  # a handshake is answered with an HTTP status
    DELAY = "delay"  # a message arrives after some that follow it
    DUPLICATE = "duplicate"  # a message is sent twice
    REORDER = "reorder"  # two messages are swapped
    DROP_TRADE = "drop_trade"  # one trade is missing
    UNFIT_TRADE = "unfit_trade"  # a trade has a price of more decimals than any bar can hold
    CUT_FRAME = "cut_frame"  # a message is fragmented, and its frames are split over several writes
    GARBAGE = "garbage"  # an extra message that is not JSON
    BINARY = "binary"  # an extra binary message
    OVERSIZE = "oversize"  # an extra, very long message
    HALF_VALID = "half_valid"  # an extra message: the beginning of a real one
    NEVER_ACK = "never_ack"  # a request is neither answered nor executed
    LATE_ACK = "late_ack"  # a request is answered and executed after a while
    LOST_ACK = "lost_ack"  # a request is executed and not answered
    SLOW_ACK = "slow_ack"  # a request is executed at once and answered after a while
    SWAPPED_ACKS = "swapped_acks"  # a request is executed at once and answered behind the next one, or after a while
    SILENT_SUBSCRIPTION = "silent_subscription"  # a request is acknowledged but not executed


# Applied at the next tick of the market: they need no message, handshake or request.
AT_ONCE = (
    FaultKind.DROP,
    FaultKind.CLOSE,
    FaultKind.STALL,
    FaultKind.LAG,
    FaultKind.MUTE,
    FaultKind.LIFETIME,
    FaultKind.CLOCK,
    FaultKind.RENEW_IDS,
)
# Of these, what befalls the exchange and no connection.
OF_THE_EXCHANGE = (FaultKind.CLOCK, FaultKind.RENEW_IDS)
# Applied to outgoing messages; a client survives them without a reconnect.
OF_MESSAGES = (
    FaultKind.DELAY,
    FaultKind.DUPLICATE,
    FaultKind.REORDER,
    FaultKind.DROP_TRADE,
    FaultKind.UNFIT_TRADE,
    FaultKind.CUT_FRAME,
    FaultKind.GARBAGE,
    FaultKind.BINARY,
    FaultKind.OVERSIZE,
    FaultKind.HALF_VALID,
)


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: what goes wrong.
        count: how many connections, handshakes, messages or requests it is applied to; 0: all open connections.
        seconds: how long a stall, a delay, a lag, a late ack or the rest of a lifetime is; how far the clock is off.
        symbol: the one that falls silent, or whose ids begin anew; "": any (of a silence, all of the connection).
        first_id: of the ids that begin anew; None: far above those before.
        code: of a close.
        status: of a refused handshake.
        retry_after_s: sent with it.
        size_bytes: of an oversize message.
    """

    kind: FaultKind
    count: int = 1
    seconds: float = 0.5
    code: int = 1012
    status: int = 429
    retry_after_s: int | None = None
    size_bytes: int = 5 * 2**20
    symbol: str = ""
    first_id: int | None = None


class Frame(NamedTuple):
    """An outgoing message."""

    payload: bytes
    is_binary: bool = False
    is_cut: bool = False
    due_s: float = 0.0  # not before this


class Faults:
    """Faults waiting to be applied, and counts of those injected and applied.

    Args:
        seed: same seed, same script and same cuts.

    Attributes:
        random: the only source of randomness.
        injected, applied: how many of each kind; a fault of `count` 3 is applied three times.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.injected: Counter[FaultKind] = Counter()
        self.applied: Counter[FaultKind] = Counter()
        self._waiting: dict[FaultKind, deque[Fault]] = {kind: deque() for kind in FaultKind}

    def inject(self, fault: Fault | FaultKind) -> None:
        """Queue a fault; it is applied as soon as there is something to apply it to."""
        fault = fault if isinstance(fault, Fault) else Fault(fault)
        self.injected[fault.kind] += 1
        self._waiting[fault.kind].append(fault)

    def take_one(self, kind: FaultKind) -> Fault | None:
        """One application of the oldest waiting fault of this kind, counted as applied; None: there is none."""
        waiting = self._waiting[kind]
        if not waiting:
            return None
        fault = waiting[0]
        if fault.count <= 1:
            waiting.popleft()
        else:
            waiting[0] = replace(fault, count=fault.count - 1)
        self.applied[kind] += 1
        return fault

    def take_whole(self, kind: FaultKind) -> Fault | None:
        """The oldest waiting fault of this kind with its count. The caller counts how often it applies it."""
        return self._waiting[kind].popleft() if self._waiting[kind] else None

    @property
    def has_message_faults(self) -> bool:
        """Whether any fault of messages is waiting."""
        return any(self._waiting[kind] for kind in OF_MESSAGES)

    def schedule(
        self, duration_s: float, every_s: float, kinds: Sequence[Fault | FaultKind] = tuple(FaultKind)
    ) -> list[tuple[float, Fault]]:
        """Draw a script: (seconds from the start, fault), one about every `every_s`."""
        script: list[tuple[float, Fault]] = []
        at_s = every_s * self.random.uniform(0.5, 1.5)
        while at_s < duration_s:
            drawn = self.random.choice(list(kinds))
            script.append((at_s, drawn if isinstance(drawn, Fault) else Fault(drawn)))
            at_s += every_s * self.random.uniform(0.5, 1.5)
        return script

    def apply_to_messages(
        self,
        messages: Sequence[bytes],
        now_s: float,
        rewrite: Callable[[TradeMessage, Sequence[SimulatedTrade]], bytes],
        note_dropped: Callable[[SimulatedTrade], object],
        spoil: Callable[[TradeMessage], TradeMessage],
    ) -> list[Frame]:
        """Turn messages into the frames that are really sent.

        Args:
            messages: in order.
            now_s: on a steady clock.
            rewrite: writes a message again with fewer trades.
            note_dropped: called with each trade that is removed.
            spoil: writes a message again with a trade in it that no bar can hold.
        """
        # Order matters: a message loses a trade before it is cut, delayed or repeated, so that its copies agree.
        frames: list[Frame] = []
        held: Frame | None = None  # REORDER: sent right after the next one
        for message in messages:
            left = self._without_a_trade(message, rewrite, note_dropped)
            if left is None:
                continue
            if isinstance(left, TradeMessage) and self.take_one(FaultKind.UNFIT_TRADE) is not None:
                left = spoil(left)
            frames += self._noise_before(left)
            delay = self.take_one(FaultKind.DELAY)
            due_s = now_s + delay.seconds if delay is not None else 0.0
            frame = Frame(left, is_cut=self.take_one(FaultKind.CUT_FRAME) is not None, due_s=due_s)
            # The last message has none to be swapped with; the fault waits for the next delivery.
            if held is None and message is not messages[-1] and self.take_one(FaultKind.REORDER) is not None:
                held = frame
                continue
            frames.append(frame)
            if self.take_one(FaultKind.DUPLICATE) is not None:
                frames.append(frame)
            if held is not None:
                frames.append(held)
                held = None
        return frames if held is None else [*frames, held]

    def cut(self, payload: bytes) -> list[bytes]:
        """Cut a payload at random into two to four pieces."""
        at = sorted(self.random.randrange(len(payload) + 1) for _ in range(self.random.randrange(1, 4)))
        return [payload[start:stop] for start, stop in zip([0, *at], [*at, len(payload)], strict=True)]

    def _without_a_trade(
        self,
        message: bytes,
        rewrite: Callable[[TradeMessage, Sequence[SimulatedTrade]], bytes],
        note_dropped: Callable[[SimulatedTrade], object],
    ) -> bytes | None:
        if not isinstance(message, TradeMessage) or self.take_one(FaultKind.DROP_TRADE) is None:
            return message
        trades = list(message.trades)
        if message.stream.channel == "aggTrade":  # one row for all of them
            for trade in trades:
                note_dropped(trade)
            return None
        note_dropped(trades.pop(self.random.randrange(len(trades))))
        if not trades:
            return None
        return TradeMessage.of(rewrite(message, trades), message.stream, trades, message.event_ms)

    def _noise_before(self, message: bytes) -> list[Frame]:
        extra: list[Frame] = []
        if self.take_one(FaultKind.GARBAGE) is not None:
            noise = "".join(chr(self.random.randrange(32, 127)) for _ in range(self.random.randrange(1, 80)))
            extra.append(Frame(f"}}{noise}".encode()))
        if self.take_one(FaultKind.BINARY) is not None:
            extra.append(Frame(self.random.randbytes(self.random.randrange(1, 200)), is_binary=True))
        oversize = self.take_one(FaultKind.OVERSIZE)
        if oversize is not None:
            extra.append(Frame(b'{"filler":"' + b"x" * oversize.size_bytes + b'"}'))
        if len(message) > 1 and self.take_one(FaultKind.HALF_VALID) is not None:
            extra.append(Frame(bytes(message[: self.random.randrange(1, len(message))])))
        return extra
