"""StreamConfig: every knob of a live connection. Units: seconds, unless a name says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fastbars.specs import BarSpec, Origin, parse_specs


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How a stream connects, watches its connection, and closes bars.

    Attributes:
        bar_resolution: seconds a bar, used where `bars` is not given.
        heartbeat_interval: seconds between protocol pings.
        heartbeat_timeout: seconds without a byte from the exchange after which the connection is given up.
        reconnect_attempts: failed attempts in a row before giving up; None: never.
        reconnect_delay: first delay after the immediate attempt; it doubles each time, with full jitter.
        reconnect_max_delay: largest delay.
        circuit_breaker_threshold: bad messages within `circuit_breaker_window` that make it reconnect.
        bars: bar specs, such as ("1m", "tick:1000").
        timezone, origin: of day and longer bars that do not name their own (see `BarSpec.parse`).
        grace: how long watermark and clock wait behind a bar's close_time.
        lateness: how long after its close_time, in event time, a bar can still be amended.
        close_by: "clock": trades, watermark and clock close bars; "trades": trades alone, as in a replay.
        connect_timeout: seconds for the opening handshake.
        ack_timeout: seconds for the exchange to confirm a subscription.
        queue_size: bars that may wait for a slow consumer before the socket is no longer read.
        max_message_bytes: a longer message closes the connection (code 1009).
        connect_options: passed to `websockets.connect` as they are: `ssl`, `proxy`, `additional_headers`, ...
    """

    bar_resolution: int = 60
    heartbeat_interval: float = 30.0
    heartbeat_timeout: float = 60.0
    reconnect_attempts: int | None = None
    reconnect_delay: float = 1.0
    reconnect_max_delay: float = 16.0
    circuit_breaker_threshold: int = 10
    circuit_breaker_window: float = 60.0
    bars: str | int | BarSpec | Sequence[str | int | BarSpec] | None = None
    timezone: str | None = None
    origin: Origin | None = None
    grace: float = 1.0
    lateness: float = 60.0
    close_by: Literal["clock", "trades"] = "clock"
    connect_timeout: float = 10.0
    ack_timeout: float = 10.0
    queue_size: int = 10_000
    max_message_bytes: int = 4 * 2**20
    connect_options: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in (
            "bar_resolution",
            "heartbeat_interval",
            "heartbeat_timeout",
            "reconnect_delay",
            "circuit_breaker_threshold",
            "circuit_breaker_window",
            "connect_timeout",
            "ack_timeout",
            "queue_size",
            "max_message_bytes",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("grace", "lateness"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.reconnect_attempts is not None and self.reconnect_attempts < 0:
            raise ValueError(f"reconnect_attempts must not be negative, got {self.reconnect_attempts}")
        if self.reconnect_max_delay < self.reconnect_delay:
            raise ValueError(
                f"reconnect_max_delay ({self.reconnect_max_delay}) must be >= reconnect_delay ({self.reconnect_delay})"
            )
        if self.close_by not in ("clock", "trades"):
            raise ValueError(f"close_by must be 'clock' or 'trades', got {self.close_by!r}")
        self.specs  # noqa: B018 a bad spec is an error here and now

    @property
    def specs(self) -> tuple[BarSpec, ...]:
        """The bar specs in force."""
        bars = self.bar_resolution if self.bars is None else self.bars
        return parse_specs(bars, timezone=self.timezone, origin=self.origin)
