"""Tests of the small parts of a connection's life: states, backoff, circuit breaker, clock, configuration."""

from __future__ import annotations

import logging
import time
from email.utils import formatdate
from itertools import product
from ssl import SSLCertVerificationError, SSLError
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidProxy, InvalidStatus, InvalidURI
from websockets.http11 import Response

from fastbars.bars import BarSpec
from fastbars.callbacks import call
from fastbars.errors import RestError, SpecError, WebSocketError
from fastbars.live.clock import ExchangeClock
from fastbars.live.config import StreamConfig
from fastbars.live.connections.backoff import Backoff, CircuitBreaker, may_retry, retry_after_s
from fastbars.live.connections.states import TRANSITIONS, ConnectionState, check_transition
from fastbars.live.rest import Answer, body_of
from fastbars.log import log

SECOND = 1_000_000_000
D, C, U, R, X = (
    ConnectionState.DISCONNECTED,
    ConnectionState.CONNECTING,
    ConnectionState.CONNECTED,
    ConnectionState.RECONNECTING,
    ConnectionState.CLOSED,
)

# States.


def test_the_legal_transitions_are_these_eleven_and_no_others() -> None:
    legal = {(D, C), (C, U), (C, D), (U, R), (U, D), (R, U), (R, D), (D, X), (C, X), (U, X), (R, X)}
    for old, new in product(ConnectionState, repeat=2):
        if (old, new) in legal:
            check_transition(old, new)
        else:
            with pytest.raises(WebSocketError, match=f"^illegal transition {old} -> {new}$"):
                check_transition(old, new)
    assert {(old, new) for old, news in TRANSITIONS.items() for new in news} == legal


# Backoff.


def test_the_first_attempt_is_immediate_and_then_delays_double_up_to_the_largest() -> None:
    backoff = Backoff(1.0, 16.0, draw=lambda: 1.0)
    assert [backoff.next_delay() for _ in range(8)] == [0, 1, 2, 4, 8, 16, 16, 16]
    assert backoff.attempts == 8


def test_each_delay_is_drawn_between_nothing_and_its_bound() -> None:
    draws = iter([0.5, 0.0, 0.999])
    backoff = Backoff(1.0, 16.0, draw=lambda: next(draws))
    assert [backoff.next_delay() for _ in range(4)] == [0, 0.5, 0, 4 * 0.999]
    own = Backoff(1.0, 4.0)
    delays = [own.next_delay() for _ in range(200)]
    assert all(0 <= delay < 4 for delay in delays)
    assert len(set(delays[10:])) > 100


def test_backoff_starts_over_after_a_reset_and_never_overflows() -> None:
    backoff = Backoff(1.0, 16.0, draw=lambda: 1.0)
    backoff.attempts = 10_000
    assert backoff.next_delay() == 16
    backoff.reset()
    assert [backoff.next_delay(), backoff.next_delay()] == [0, 1]


# Circuit breaker.


def test_the_breaker_trips_at_the_threshold_within_the_window_and_starts_over() -> None:
    breaker = CircuitBreaker(3, 60.0)
    assert [breaker.record(now) for now in (0.0, 30.0, 60.0)] == [False, False, True]
    assert [breaker.record(now) for now in (61.0, 62.0, 63.0)] == [False, False, True]


def test_errors_that_are_spread_thin_never_trip_the_breaker() -> None:
    breaker = CircuitBreaker(3, 60.0)
    assert not any(breaker.record(30.1 * n) for n in range(100))
    assert [breaker.record(5_000.0), breaker.record(5_001.0), breaker.record(5_060.0)] == [False, False, True]


def test_a_threshold_of_one_trips_on_every_error() -> None:
    breaker = CircuitBreaker(1, 60.0)
    assert [breaker.record(0.0), breaker.record(0.0)] == [True, True]


def test_a_breaker_that_tripped_is_on_trial_with_the_next_connection_and_closes_with_valid_data() -> None:
    breaker = CircuitBreaker(3, 60.0)
    assert [breaker.record(now) for now in (0.0, 1.0, 2.0)] == [False, False, True]
    assert breaker.trips_in_row == 1
    breaker.succeeded()  # what comes before the connection is new proves nothing
    states: list[str] = [breaker.state]
    breaker.connected()
    states.append(breaker.state)
    assert breaker.record(3.0)  # one error is enough now
    states.append(breaker.state)
    breaker.connected()
    breaker.succeeded()
    states.append(breaker.state)
    breaker.connected()
    states.append(breaker.state)
    assert states == ["open", "half open", "open", "closed", "closed"]
    assert breaker.trips_in_row == 2
    assert [breaker.record(now) for now in (4.0, 5.0, 6.0)] == [False, False, True]
    assert breaker.trips_in_row == 3


def test_trips_that_are_a_window_apart_do_not_follow_each_other() -> None:
    breaker = CircuitBreaker(1, 60.0)
    rows = []
    for now in (0.0, 60.0, 121.0):
        breaker.record(now)
        rows.append(breaker.trips_in_row)
        breaker.connected()
        breaker.succeeded()
    assert rows == [1, 2, 1]


# Whether to try again, and when.


def refused_with(status: int, **headers: str) -> InvalidStatus:
    fields = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return InvalidStatus(Response(status, "", fields))


def test_what_can_never_work_is_not_tried_again_and_all_else_is() -> None:
    for error in (InvalidURI("ftp://x", "no"), InvalidProxy("x", "no"), SSLCertVerificationError("no"), ValueError()):
        assert not may_retry(error)
    for again in (
        OSError(),
        ConnectionRefusedError(),
        SSLError(),
        TimeoutError(),
        refused_with(429),
        refused_with(500),
    ):
        assert may_retry(again)


def test_a_rest_request_is_sent_again_unless_the_request_or_its_address_is_wrong() -> None:
    assert [status for status in (301, 400, 401, 403, 404, 451) if may_retry(status)] == []
    assert [status for status in (408, 418, 425, 429, 500, 502, 503, 504) if not may_retry(status)] == []


def test_an_answer_other_than_200_is_an_error_that_says_whether_and_when_to_ask_again() -> None:
    assert body_of(Answer(200, None, b"[]"), "GET https://venue/trades") == b"[]"
    found = []
    for answer in (Answer(429, 7.0, b"slow down"), Answer(404, None, b"no")):
        with pytest.raises(RestError) as refused:
            body_of(answer, "GET https://venue/trades")
        found.append((str(refused.value), refused.value.permanent, refused.value.retry_after_s))
    assert found == [
        ("GET https://venue/trades: HTTP 429 b'slow down'", False, 7.0),
        ("GET https://venue/trades: HTTP 404 b'no'", True, None),
    ]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (refused_with(429, Retry_After="17"), 17.0),
        (refused_with(418, Retry_After=" 120 "), 120.0),
        (refused_with(503, Retry_After="3"), 3.0),
        (refused_with(429), 60.0),
        (refused_with(418), 60.0),
        (refused_with(403), 60.0),
        (refused_with(403, Retry_After="soon"), 60.0),
        (refused_with(503), 0.0),
        (refused_with(500, Retry_After="9"), 0.0),
        (refused_with(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), 0.0),
        (OSError(), 0.0),
    ],
)
def test_how_long_the_exchange_wants_to_be_left_alone(error: Exception, seconds: float) -> None:
    assert retry_after_s(error, ban_s=60.0) == seconds


def test_a_retry_after_may_be_a_date() -> None:
    date = formatdate(time.time() + 100, usegmt=True)
    assert 98 < retry_after_s(refused_with(418, Retry_After=date), 60.0) <= 100


# Clock.


def test_the_message_that_travelled_fastest_sets_the_clock() -> None:
    clock = ExchangeClock()
    assert clock.now_ns(5) is None
    clock.observe(1_000 * SECOND, 10 * SECOND)
    clock.observe(1_001 * SECOND, 11 * SECOND + 7)  # 7 ns slower
    assert clock.now_ns(12 * SECOND) == 1_002 * SECOND
    clock.observe(1_002 * SECOND, 12 * SECOND - 5)  # 5 ns faster
    assert clock.now_ns(12 * SECOND) == 1_002 * SECOND + 5


def test_the_fastest_message_counts_for_30_to_60_seconds() -> None:
    clock = ExchangeClock()
    for second in range(100):
        delay_ns = 0 if second == 20 else 1_000
        clock.observe(second * SECOND - delay_ns, second * SECOND)
        # seen at 20, in the window of 0 to 30; forgotten when the next window has ended, at 62
        fastest = 20 <= second < 62
        assert clock.now_ns(second * SECOND) == second * SECOND - (0 if fastest else 1_000)


def test_a_clock_of_the_exchange_that_is_set_back_is_followed_within_a_minute() -> None:
    clock = ExchangeClock()
    for second in range(200):
        step_ns = 5 * SECOND if second >= 100 else 0
        clock.observe(second * SECOND - step_ns, second * SECOND)
    assert clock.now_ns(200 * SECOND) == 195 * SECOND


# Configuration.


@pytest.mark.parametrize(
    "name",
    [
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
    ],
)
def test_what_must_be_positive_is_checked_and_named(name: str) -> None:
    for value in (0, -1):
        options: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"^{name} must be positive, got {value}$"):
            StreamConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grace": -0.1}, "grace must not be negative, got -0.1"),
        ({"lateness": -1}, "lateness must not be negative, got -1"),
        ({"reconnect_attempts": -1}, "reconnect_attempts must not be negative, got -1"),
        (
            {"reconnect_delay": 5, "reconnect_max_delay": 4},
            r"reconnect_max_delay \(4\) must be >= reconnect_delay \(5\)",
        ),
        ({"close_by": "wish"}, "close_by must be 'clock' or 'trades', got 'wish'"),
    ],
)
def test_what_makes_no_sense_is_an_error_that_names_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        StreamConfig(**options)


def test_zero_grace_lateness_and_attempts_are_allowed() -> None:
    config = StreamConfig(grace=0, lateness=0, reconnect_attempts=0)
    assert (config.grace, config.lateness, config.reconnect_attempts) == (0, 0, 0)


def test_bars_decide_the_specs_and_else_the_resolution() -> None:
    assert StreamConfig().specs == (BarSpec.parse("1m"),)
    assert StreamConfig(bar_resolution=300).specs == (BarSpec.parse("5m"),)
    assert StreamConfig(bars="1m,tick:9", bar_resolution=5).specs == (BarSpec.parse("1m"), BarSpec.parse("tick:9"))
    with pytest.raises(SpecError, match="bar spec '1x' is not known"):
        StreamConfig(bars="1x")


# Calling a user's code, and the log.


def test_a_callback_that_raises_is_logged_with_its_name_and_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def explode(value: int) -> None:
        raise ZeroDivisionError(f"with {value}")

    heard: list[int] = []
    assert call(heard.append, 3)
    assert not call(explode, 4)
    assert heard == [3]
    (record,) = caplog.records
    assert record.getMessage().startswith("callback_failed callback='test_a_callback_that_raises")
    assert "explode" in record.getMessage()
    assert "ZeroDivisionError: with 4" in caplog.text


def test_events_are_rendered_as_pairs_and_filtered_by_the_level_of_logging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fastbars"):
        log.debug("unheard", n=1)
        log.info("connected", exchange="binance spot", url=None)
        log.warning("alone")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "connected exchange='binance spot' url=None"),
        ("WARNING", "alone"),
    ]
    assert {record.name for record in caplog.records} == {"fastbars"}
