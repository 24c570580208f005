"""Carriers: which connections carry each symbol, as groups of the kernel.

    symbol -> set of connections -> group        symbols with the same carriers are in one group
    connection -> groups                         those whose set it is in: its event time is their watermark

So a symbol's watermark is the latest event time of the connections that carry it: each delivers in order, the furthest
suffices, and one that stalls holds nothing up. Symbols that are known to be carried by none are in a group that no
event time reaches. Those of which nobody has said who carries them are in group 0, which each connection is taken to
carry; unless all symbols are named that are subscribed to: then those that are not known are not carried yet.

Units: times int64 nanoseconds of the exchange's clock.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable

from fastbars.live.intake import MOST_FEEDS, Intake

_UNKNOWN = 0  # the group of symbols of which nobody has said who carries them
_LOWEST = -(2**63)


class Carriers:
    """The carriers of one session's symbols.

    Args:
        intake: has the feeds of the connections, and the kernel.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._of: dict[str, frozenset[int]] = {}
        self._symbols = Counter[frozenset[int]]()  # how many each set carries
        self._groups: dict[frozenset[int], int] = {}
        self._free: list[int] = []  # groups without symbols, to be used again: a heap
        self._are_named = False

    def of(self, symbol: str) -> frozenset[int] | None:
        """The connections that carry a symbol; None: nobody has said."""
        return self._of.get(symbol)

    def set(self, symbol: str, connections: frozenset[int], *, are_named: bool = False) -> None:
        """From here on these connections carry a symbol, and no others.

        Args:
            are_named: none carries a symbol of which that is not said.
        """
        if are_named and not self._are_named:
            self._are_named = True
            self._follow_all()
        before = self._of.get(symbol)
        if before == connections:
            return
        if len(connections) > MOST_FEEDS:  # of a recording that is not ours
            raise ValueError(f"{symbol} is carried by {len(connections)} connections, more than {MOST_FEEDS}")
        self._of[symbol] = connections
        self._symbols[connections] += 1
        self._move([symbol])
        if before is not None:
            self._leave(before)

    def forget(self) -> None:
        """Nobody knows who carries the symbols: as in the beginning."""
        buffer, kernel = self._intake.buffer, self._intake.kernel
        if buffer is not None and kernel is not None:
            kernel.set_group(range(len(buffer.instruments)), _UNKNOWN)
        self._free = list(range(1, 1 if kernel is None else kernel.groups))
        self._of.clear()
        self._symbols.clear()
        self._groups.clear()
        self._are_named = False
        self._follow_all()

    def place(self, first: int) -> None:
        """Bring symbols that are new to the kernel, from this id on, to the groups of those that carry them."""
        buffer = self._intake.buffer
        if buffer is not None:
            self._move([buffer.instruments.symbol(number) for number in range(first, len(buffer.instruments))])

    def follow(self, number: int) -> None:
        """Tell the feed of a connection which groups it carries."""
        feed = self._intake.feeds.opened.get(number)
        if feed is not None:
            unknown = [] if self._are_named else [_UNKNOWN]
            feed.carry(unknown + sorted(group for own, group in self._groups.items() if number in own))

    def groups_but(self, unread: Collection[int]) -> list[int]:
        """The groups for which time may pass while data of these connections is unread.

        A symbol waits where all that carry it are; where any may carry it, while any is.
        """
        kernel = self._intake.kernel
        if kernel is None:
            return []
        if not unread:
            return list(range(kernel.groups))
        unknown = [_UNKNOWN] if self._are_named else []
        return unknown + sorted(group for own, group in self._groups.items() if not own or not own.issubset(unread))

    def _follow_all(self) -> None:
        for number in list(self._intake.feeds.opened):
            self.follow(number)

    def _move(self, symbols: Iterable[str]) -> None:
        buffer, kernel = self._intake.buffer, self._intake.kernel
        if buffer is None or kernel is None:
            return  # `place` brings them, once there are bars
        for symbol in symbols:
            connections = self._of.get(symbol)
            if connections is not None and symbol in buffer.instruments:
                group = self._groups[connections] if connections in self._groups else self._begin(connections)
                kernel.set_group([buffer.instruments.id(symbol)], group)

    def _begin(self, connections: frozenset[int]) -> int:
        kernel, feeds = self._intake.kernel, self._intake.feeds
        assert kernel is not None
        group = heapq.heappop(self._free) if self._free else kernel.add_group()
        times_ns = [feeds.event_time_of(number) for number in connections]
        kernel.restart_group(group, max((each for each in times_ns if each is not None), default=_LOWEST))
        self._groups[connections] = group
        for number in connections:
            self.follow(number)
        return group

    def _leave(self, connections: frozenset[int]) -> None:
        self._symbols[connections] -= 1
        if self._symbols[connections]:
            return
        del self._symbols[connections]
        group = self._groups.pop(connections, None)
        if group is not None:
            heapq.heappush(self._free, group)
            for number in connections:
                self.follow(number)
