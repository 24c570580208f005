"""StreamConfig: every setting of a live connection. Units: seconds, unless a name says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from ssl import SSLContext
from typing import Any, Literal, get_args

from fastbars.buffer import Empty
from fastbars.kernel.arbiter import MOST_LINES
from fastbars.redaction import is_secret_name, keep_address_secret, keep_secret
from fastbars.specs import BarSpec, Origin, parse_specs

Repair = Literal["none", "candles"]


def _positive(default: Any) -> Any:
    return field(default=default, metadata={"sign": "positive"})


def _not_negative(default: Any) -> Any:
    return field(default=default, metadata={"sign": "not negative"})


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How a stream connects, watches its connection, and closes bars.

    Attributes:
        bar_resolution: seconds a bar, used where `bars` is not given.
        heartbeat_interval: seconds between protocol pings.
        heartbeat_timeout: seconds without data from the exchange after which the connection is dropped.
        reconnect_attempts: failed attempts in a row before giving up; None: never.
        reconnect_delay: first delay after the immediate attempt; it doubles each time, with full jitter.
        reconnect_max_delay: largest delay. Delays start over after a connection that brought data and was up this long.
        ban_delay: delay after HTTP 403, 418 or 429 without a Retry-After header.
        application_ping_interval: seconds between the pings that some exchanges want as messages; None: as declared.
        connection_lifetime: age at which the exchange ends a connection; it is replaced before. None: as declared.
        handover_overlap: seconds that a connection and its successor both run; 0: one ends before the next begins.
        handover_timeout: seconds for the successor to deliver data, where the old connection does.
        stale_interval: seconds between checks for symbols, or connections, that have fallen silent.
        stale_after: seconds of silence that are always harmless.
        stale_factor: beyond that, silence of this many times the usual gap between trades counts.
        never_heard_after: seconds in which a subscription should bring something; one that brings nothing is renewed
            once and reported, then reported again less and less often; None: four times `stale_after`.
        check_symbols: ask the exchange's REST API, where it lists its instruments, before a subscription: symbols that
            are unknown, halted or delisted are refused. Where a stream is given a `url` of its own, only `rest_url`
            is asked.
        listing_interval: seconds between two looks at the exchange's list of instruments, by a stream that was given
            `fastbars.where(...)` instead of names; sooner where an answer could not be had, or was doubtful.
        streams_per_connection: streams that one connection carries at most; None: as many as the exchange allows.
        lines: connections that carry the same trades; of each trade the first arrival counts.
        line_wait: seconds that a trade waits for those before it, which another line may still bring.
        circuit_breaker_threshold: bad messages within `circuit_breaker_window` that make it reconnect.
        bars: bar specs, such as ("1m", "tick:1000").
        timezone, origin: of day and longer bars that do not name their own (see `BarSpec.parse`).
        grace: how long watermark and clock wait after a bar's close_time; "auto": as long as 99.9 % of the venue's
            trades need, as measured, at least 0.05 and at most 10 s; 1 s until a thousand wakeups were measured.
        lateness: how long after its close_time, in event time, a bar can still be amended.
        heal: fetch missing trades from the exchange's REST API, where it serves them.
        backfill: where trades are healed, the beginning of a bar that the stream began inside is fetched too, for bars
            up to this many seconds long; 0: never. Bars longer than `heal_horizon` are not completed.
        recut_trades: most trades of a symbol and anchored spec that are kept to cut bars again behind a hole.
        heal_horizon: age, in seconds of event time, up to which a hole's bars are kept and healed.
        repair: "candles": a time bar that stays GAP or PARTIAL is issued again as REPORTED, from the exchange's own
            candle over REST, where that is served (see "Repair by candles" in docs/semantics.md), and a bar in progress
            is shown with its beginning; "none": it stays.
        api_key: for REST APIs that require one (Binance futures, Binance.US); sent as a header, never logged.
        session_token: of exchanges that require one on the stream itself (Interactive Brokers: the `session` that the
            gateway's `/tickle` answers with); never logged.
        rest_url: ask here instead of the exchange's own REST address. Where a stream is given a `url` of its own,
            nothing is asked without it.
        empty: "skip": intervals without trades have no bar; "fill": they have a flat one at the last close where the
            feed was up. While it is down they are GAP bars without prices, either way.
        state: file that the state is saved to, and restored from at the next start; None: none.
        state_interval: seconds between two snapshots.
        close_by: "clock": trades, watermark and clock close bars; "trades": trades alone, as in a replay;
            healing and snapshots go on either way.
        connect_timeout: seconds for the opening handshake.
        ack_timeout: seconds for the exchange to confirm a subscription.
        queue_size: bars that may wait for a slow consumer before the socket is no longer read.
        max_message_bytes: a longer message closes the connection (code 1009).
        coalesce: pause after each read of the socket, in seconds, so that the next read brings more messages: less CPU
            for as much added delay; 0: none. Use whole milliseconds; 0.001 is a good value.
        ssl: for wss; None: certificates are verified against those that the system trusts.
        proxy: address of an HTTP or SOCKS proxy; True: as the environment or system is configured; None: none.
        connect_options: passed to `websockets.connect` as they are: `additional_headers`, `local_addr`, ...
    """

    bar_resolution: int = _positive(60)
    heartbeat_interval: float = _positive(30.0)
    heartbeat_timeout: float = _positive(60.0)
    reconnect_attempts: int | None = _not_negative(None)
    reconnect_delay: float = _positive(1.0)
    reconnect_max_delay: float = 16.0
    ban_delay: float = _not_negative(60.0)
    application_ping_interval: float | None = _positive(None)
    connection_lifetime: float | None = _positive(None)
    handover_overlap: float = _not_negative(5.0)
    handover_timeout: float = _positive(30.0)
    stale_interval: float = _positive(1.0)
    stale_after: float = _positive(30.0)
    stale_factor: float = _positive(20.0)
    never_heard_after: float | None = _positive(None)
    check_symbols: bool = True
    listing_interval: float = _positive(300.0)
    streams_per_connection: int | None = _positive(None)
    lines: int = 1
    line_wait: float = _not_negative(0.25)
    circuit_breaker_threshold: int = _positive(10)
    circuit_breaker_window: float = _positive(60.0)
    bars: str | int | BarSpec | Sequence[str | int | BarSpec] | None = None
    timezone: str | None = None
    origin: Origin | None = None
    grace: float | Literal["auto"] = _not_negative(1.0)
    lateness: float = _not_negative(60.0)
    heal: bool = True
    backfill: float = _not_negative(60.0)
    heal_horizon: float = _positive(3600.0)
    recut_trades: int = _positive(200_000)
    repair: Repair = "none"
    api_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    rest_url: str | None = field(default=None, repr=False)
    empty: Empty = "skip"
    state: str | Path | None = None
    state_interval: float = _positive(5.0)
    close_by: Literal["clock", "trades"] = "clock"
    connect_timeout: float = _positive(10.0)
    ack_timeout: float = _positive(10.0)
    queue_size: int = _positive(10_000)
    max_message_bytes: int = _positive(4 * 2**20)
    coalesce: float = _not_negative(0.0)
    ssl: SSLContext | None = field(default=None, repr=False)
    proxy: str | Literal[True] | None = field(default=True, repr=False)  # it may hold a password, and the next too
    connect_options: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        keep_secret(self.api_key, self.session_token)
        for address in (self.proxy, self.rest_url):
            keep_address_secret(address)
        headers = self.connect_options.get("additional_headers") or {}
        for name, value in headers.items() if isinstance(headers, Mapping) else headers:
            if is_secret_name(str(name)):
                keep_secret(value)
        if isinstance(self.grace, str) and self.grace != "auto":
            raise ValueError(f"grace must be seconds or 'auto', got {self.grace!r}")
        for knob in fields(self):
            value, sign = getattr(self, knob.name), knob.metadata.get("sign")
            if sign is None or (value is None and knob.default is None) or (knob.name == "grace" and value == "auto"):
                continue
            if sign == "positive" and value <= 0:
                raise ValueError(f"{knob.name} must be positive, got {value}")
            if value < 0:
                raise ValueError(f"{knob.name} must not be negative, got {value}")
        if not 1 <= self.lines <= MOST_LINES:
            raise ValueError(f"lines must be 1 to {MOST_LINES}, got {self.lines}")
        if self.reconnect_max_delay < self.reconnect_delay:
            raise ValueError(
                f"reconnect_max_delay ({self.reconnect_max_delay}) must be >= reconnect_delay ({self.reconnect_delay})"
            )
        if self.close_by not in ("clock", "trades"):
            raise ValueError(f"close_by must be 'clock' or 'trades', got {self.close_by!r}")
        if self.repair not in get_args(Repair):
            raise ValueError(f"repair must be one of {', '.join(get_args(Repair))}, got {self.repair!r}")
        if isinstance(self.state, Path):  # as text, so that a recording can hold it
            object.__setattr__(self, "state", str(self.state))
        if self.empty not in get_args(Empty):
            raise ValueError(f"empty must be one of {', '.join(get_args(Empty))}, got {self.empty!r}")
        if self.session_token is not None and not (isinstance(self.session_token, str) and self.session_token):
            raise ValueError("session_token must be a non-empty string or None")  # never shown
        self.specs  # noqa: B018 a bad spec is refused at once

    @property
    def specs(self) -> tuple[BarSpec, ...]:
        """The bar specs in force."""
        bars = self.bar_resolution if self.bars is None else self.bars
        return parse_specs(bars, timezone=self.timezone, origin=self.origin)
