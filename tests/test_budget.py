"""REST budgets: who shares what an exchange allows one address."""

from __future__ import annotations

from fastbars import BinanceWebSocketAdapter, StreamConfig
from fastbars.live.healing.budget import Budget, shared_budget


def budget_of(market: str, **settings: str) -> Budget:
    adapter = BinanceWebSocketAdapter(StreamConfig(**settings), market=market)  # type: ignore[arg-type]
    assert adapter.upkeep is not None
    adapter.session.on_taken = None  # nothing else refers to it: the budget lives as long as who uses it
    return adapter.upkeep._healer._budget


def test_usd_and_coin_margined_futures_share_one_budget_and_spot_has_its_own() -> None:
    usdm, coinm, spot, us = map(budget_of, ("usdm", "coinm", "spot", "us"))
    assert usdm is coinm
    assert usdm is budget_of("coinm", api_key="k")  # other endpoints, counted together too
    assert len({id(one) for one in (usdm, spot, us)}) == 3
    assert usdm._per_second == 0.7 * 2400 / 60
    assert spot._per_second == 0.7 * 6000 / 60


def test_another_host_has_a_budget_of_its_own_whatever_its_password() -> None:
    own = shared_budget("binance futures", 2400.0)
    elsewhere = shared_budget("binance futures", 2400.0, "http://user:a@127.0.0.1:1")
    assert elsewhere is not own
    assert elsewhere is shared_budget("binance futures", 2400.0, "http://user:b@127.0.0.1:1/path")


def test_what_one_market_has_spent_the_other_waits_for() -> None:
    usdm, coinm = budget_of("usdm"), budget_of("coinm")
    for _ in range(3):
        usdm.spend(200.0)  # the part that may be spent at once is 600
    assert coinm.spend(28.0) > 0.5
