"""Rate limits: what passes in any window, and who shares what an exchange allows one address."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, strategies as st

from fastbars import BinanceWebSocketAdapter, StreamConfig
from fastbars.live import shared
from fastbars.live.connections.limits import RateLimiter, rest_limit
from fastbars.live.shared import SHARED


class Clock:
    """A clock that only waiting moves on."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def limiter_of(market: str, **settings: str) -> RateLimiter:
    adapter = BinanceWebSocketAdapter(StreamConfig(**settings), market=market)  # type: ignore[arg-type]
    pages = adapter.upkeep._healer._pages
    assert pages is not None
    return pages._client._limiter


def test_usd_and_coin_margined_futures_share_one_limit_and_spot_has_its_own() -> None:
    usdm, coinm, spot, us = map(limiter_of, ("usdm", "coinm", "spot", "us"))
    assert usdm is coinm
    assert usdm is limiter_of("coinm", api_key="k")  # other endpoints, counted together too
    assert len({id(one) for one in (usdm, spot, us)}) == 3
    assert usdm is SHARED.rest_limiter("binance futures", 2400.0)
    assert spot is SHARED.rest_limiter("https://api.binance.com", 6000.0)


def test_another_host_has_a_limit_of_its_own_whatever_its_password() -> None:
    own = SHARED.rest_limiter("binance futures", 2400.0)
    elsewhere = SHARED.rest_limiter("binance futures", 2400.0, "http://user:a@127.0.0.1:1")
    assert elsewhere is not own
    assert elsewhere is SHARED.rest_limiter("binance futures", 2400.0, "http://user:b@127.0.0.1:1/path")


async def test_what_one_market_has_used_the_other_waits_for() -> None:
    usdm, coinm = limiter_of("usdm"), limiter_of("coinm")
    assert await usdm.wait(570.0) < 0.1  # what may be used at once
    assert 14.0 < coinm.delay_s(1.0) <= 15.05


def test_no_minute_takes_more_than_95_percent_of_what_the_exchange_allows() -> None:
    most, window_s = rest_limit(6000.0)
    assert (most, window_s) == (1425.0, 15.0)
    assert most * 60.0 / window_s == 0.95 * 6000.0


@given(st.lists(st.sampled_from((1.0, 5.0, 20.0, 25.0, 400.0)), min_size=1, max_size=60), st.integers(20, 300))
def test_no_window_holds_more_weight_than_allowed_and_nothing_overtakes(weights: Sequence[float], most: int) -> None:
    clock = Clock()
    limiter = RateLimiter(float(most), 5.0, now=clock.now, sleep=clock.sleep)
    passed: list[tuple[float, float]] = []

    async def run() -> None:
        for weight in weights:
            expected_s = limiter.delay_s(weight)
            assert abs(await limiter.wait(weight) - expected_s) < 1e-6
            passed.append((clock.now_s, min(weight, most)))

    asyncio.run(run())
    assert [at_s for at_s, _ in passed] == sorted(at_s for at_s, _ in passed)
    for start_s, _ in passed:
        assert sum(weight for at_s, weight in passed if start_s <= at_s < start_s + 5.0) <= most
    # And no slower than that: what waited, waited for a window that was full.
    for number, (at_s, weight) in enumerate(passed[1:], 1):
        if at_s > passed[number - 1][0]:
            full = sum(other for other_s, other in passed[:number] if other_s > at_s - 5.05 - 1e-6)
            assert full + weight > most


def test_what_a_process_shares_stands_in_one_module() -> None:
    live = Path(shared.__file__).parent
    made = re.compile(r"^\w+(?:: [^=]+)? = (?:\{\}|\[\]|(?:\w*dict|\w*Dictionary|set|list|deque|\w*Cache)\()", re.M)
    found = {path.name: made.findall(path.read_text(encoding="utf-8")) for path in live.rglob("*.py")}
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert isinstance(SHARED, shared.Shared)


async def test_a_wait_that_is_held_meanwhile_lasts_as_much_longer() -> None:
    clock = Clock()
    limiter = RateLimiter(1.0, now=clock.now, sleep=clock.sleep)
    await limiter.wait()
    limiter.hold(3.0)
    assert await limiter.wait() == 3.0
    assert abs(await limiter.wait() - 1.05) < 1e-9
