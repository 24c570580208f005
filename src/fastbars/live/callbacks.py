"""Callbacks: what a session calls of its user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from fastbars.bars import ExchangeBar, OHLCVBar
from fastbars.callbacks import check_callbacks
from fastbars.events import MarketDataEvent
from fastbars.exchanges.messages import RawMessage
from fastbars.ticks import TickData


@dataclass(slots=True)
class Callbacks:
    """Functions that a session calls; one that raises is logged and counted, and nothing is lost.

    Raises:
        TypeError: one is not callable, or an async or generator function.
    """

    on_tick: Callable[[TickData], object] | None = None
    on_bar: Callable[[OHLCVBar], object] | None = None
    on_bars: Callable[[list[OHLCVBar]], object] | None = None
    on_late: Callable[[TickData], object] | None = None
    on_exchange_bar: Callable[[ExchangeBar], object] | None = None
    on_event: Callable[[MarketDataEvent], object] | None = None
    on_message: Callable[[RawMessage], object] | None = None

    def __post_init__(self) -> None:
        check_callbacks(**{field.name: getattr(self, field.name) for field in fields(self)})
