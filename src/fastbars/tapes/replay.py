"""Replaying recorded messages through the code that live data takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from fastbars.bars import OHLCVBar
from fastbars.errors import TapeError
from fastbars.exchanges import find_exchange
from fastbars.live.config import StreamConfig
from fastbars.live.session import Callbacks, Session
from fastbars.specs import BarSpec, Origin
from fastbars.tapes.reader import read_tapes

_MESSAGES_A_BATCH = 4096


class Replay:
    """The bars of recorded tapes, as an iterator; made by `replay`.

    Attributes:
        session: its counters say what the tape held.
    """

    def __init__(self, paths: Sequence[str | Path], session: Session) -> None:
        self.session = session
        self._paths = paths

    def __iter__(self) -> Iterator[OHLCVBar]:
        records = read_tapes(self._paths)
        failure: TapeError | None = None
        while failure is None:
            payloads: list[bytes] = []
            received_ns = 0
            try:
                for record in islice(records, _MESSAGES_A_BATCH):
                    payloads.append(record.payload)
                    received_ns = record.receive_time_ns or 0
            except TapeError as error:
                failure = error
            if not payloads:
                break
            yield from self.session.receive(payloads, received_ns).bars
        yield from self.session.flush(0)
        if failure is not None:
            raise failure


def replay(
    paths: str | Path | Sequence[str | Path],
    exchange: str,
    bars: str | int | BarSpec | Sequence[str | int | BarSpec] = "1m",
    *,
    market: str = "spot",
    channel: str | None = None,
    timezone: str | None = None,
    origin: Origin | None = None,
    callbacks: Callbacks | None = None,
) -> Replay:
    """The bars of recorded raw messages: several tapes are one stream, in the order given.

    Bars close by trades only; what is open at the end comes out last (PARTIAL, `end`).

    Args:
        paths: files of recorded messages; plain, gzip or zstd.
        exchange, market: whose messages they are.
        bars: bar specs.
        channel: trade channel that bars are made from; that of the first trade if None.
        timezone, origin: of day and longer bars that do not name their own (see `BarSpec.parse`).
        callbacks: whom to tell of ticks, exchange bars and the rest.

    Raises:
        UnknownExchangeError, SpecError, SubscriptionError: at once.
        TapeError: while iterating, after the bars of everything before the fault.
    """
    settings = StreamConfig(bars=bars, timezone=timezone, origin=origin, close_by="trades")
    session = Session(find_exchange(exchange, market), settings, callbacks, channel=channel)
    return Replay([paths] if isinstance(paths, str | Path) else paths, session)
