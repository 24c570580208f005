"""Closing bars by the clock: on time where no trade comes, and never ahead of what has arrived. Units: seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from fastbars.live.connections.connection import Line, have_been_read
from fastbars.live.session import Session

_INTERVAL_S = 0.05


async def close_by_clock(
    session: Session, lines: Callable[[], Sequence[Line]], paused: Callable[[], bool], feed_up: Callable[[], bool]
) -> None:
    """Close what the exchange's clock says is over, until cancelled.

    Args:
        lines: whose sockets are read before anything is closed.
        paused: nothing is closed while this holds: what is not read may belong into the bars.
        feed_up: whether an empty interval is one without trades.
    """
    while True:
        await asyncio.sleep(_INTERVAL_S)
        if not session.clock_is_due(time.monotonic_ns()):
            continue
        if not await have_been_read(lines()) or paused():
            continue
        session.advance_clock(time.monotonic_ns(), time.time_ns(), feed_up=feed_up() and not session.is_down)
