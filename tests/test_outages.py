"""Since when what may have been missed: what begins, ends and is judged, and what is written down of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from fastbars import StreamConfig
from fastbars.bars import OHLCVBar
from fastbars.exchanges import find_exchange
from fastbars.live.callbacks import Callbacks
from fastbars.live.session import Session
from servers import START_NS, trade

SECOND = 1_000_000_000
HYPERLIQUID = find_exchange("hyperliquid")  # its ids are unique, and prove nothing


class Notebook:
    """A recorder that keeps the events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def messages(self, *_: Any) -> None:
        pass

    def event(self, name: str, _time_ns: int, fields: Mapping[str, Any], _body: bytes) -> None:
        self.events.append((name, dict(fields)))


class Fed:
    """A session of an exchange whose ids prove nothing, fed second by second; the clocks agree."""

    def __init__(self) -> None:
        self.notebook: Any = Notebook()
        self.bars: list[OHLCVBar] = []
        config = StreamConfig(bars="1m", grace=1.0, lateness=600)
        self.session = Session(
            HYPERLIQUID, config, Callbacks(on_bar=self.bars.append), channel="trades", record=lambda _: self.notebook
        )
        self.outages = self.session.outages

    def trade(self, second: int, coin: str = "BTC") -> None:
        time_ms = START_NS // 1_000_000 + second * 1_000
        text = (
            f'{{"channel":"trades","data":[{{"coin":"{coin}","side":"B","px":"100","sz":"1","time":{time_ms},'
            f'"hash":"0x0","tid":{second},"users":["0x1","0x2"]}}]}}'
        )
        self.session.receive([text.encode()], self.at(second), second * SECOND)

    def at(self, second: float) -> int:
        return START_NS + round(second * SECOND)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [fields for event, fields in self.notebook.events if event == name]

    def statuses(self) -> list[tuple[str, str]]:
        last = {(bar.symbol, bar.open_time): bar for bar in [*self.bars, *self.session.flush(0)]}
        return [(f"{symbol} {time:%M}", str(bar.status)) for (symbol, time), bar in sorted(last.items())]


def test_before_the_exchange_has_told_the_time_there_is_no_outage() -> None:
    fed = Fed()
    fed.outages.begin(5 * SECOND)
    assert not fed.outages.is_down
    assert fed.outages.until_ns(5 * SECOND) is None
    assert fed.outages.end(6 * SECOND, 0) == (None, None)
    assert fed.notebook.events == []


def test_an_outage_reaches_from_the_last_trade_less_grace_to_its_end_and_grace() -> None:
    fed = Fed()
    for second in (0, 10, 30, 50):
        fed.trade(second)
    down = [fed.outages.is_down]
    fed.outages.begin(58 * SECOND)
    down.append(fed.outages.is_down)
    assert fed.events("feed_down") == [{"time_ns": fed.at(49)}]
    fed.outages.begin(59 * SECOND)  # idempotent
    assert len(fed.events("feed_down")) == 1
    assert fed.outages.end(70 * SECOND, 0) == (fed.at(49), fed.at(71))
    assert [*down, fed.outages.is_down] == [False, True, False]
    assert fed.events("outage") == [{"since_ns": fed.at(49), "until_ns": fed.at(71), "symbols": None}]
    assert fed.events("feed_up") == [{"time_ns": fed.at(71)}]
    assert fed.outages.end(80 * SECOND, 0) == (None, fed.at(80))  # nothing was down
    assert len(fed.events("outage")) == 1


def test_a_suspected_symbol_is_judged_from_when_it_was_suspected_first_and_no_other_is() -> None:
    fed = Fed()
    for second in (0, 10, 70):
        fed.trade(second, "BTC")
        fed.trade(second, "ETH")
    fed.outages.suspect("ETH", fed.at(10))
    fed.outages.suspect("ETH", fed.at(40))
    assert fed.outages.suspect_since == {"ETH": fed.at(10)}
    fed.outages.judge_suspects(["BTC", "ETH"], fed.at(75), 0)
    assert fed.events("outage") == [{"since_ns": fed.at(10), "until_ns": fed.at(75), "symbols": ["ETH"]}]
    fed.outages.trust(["ETH", "BTC"])
    assert fed.outages.suspect_since == {}
    fed.trade(140, "BTC")
    fed.trade(140, "ETH")
    assert fed.statuses() == [
        ("BTC 54", "PARTIAL"), ("BTC 55", "UNVERIFIABLE"), ("BTC 56", "PARTIAL"),
        ("ETH 54", "GAP"), ("ETH 55", "GAP"), ("ETH 56", "PARTIAL"),
    ]  # fmt: skip


def test_symbols_suspected_since_the_same_time_are_judged_together_and_the_oldest_suspicion_first() -> None:
    fed = Fed()
    for coin in ("A", "B", "C"):
        fed.trade(0, coin)
    fed.outages.suspect("A", fed.at(20))
    fed.outages.suspect("B", fed.at(10))
    fed.outages.suspect("C", fed.at(20))
    fed.outages.judge_all(fed.at(30), fed.at(40), 0)
    assert [(event["since_ns"], event["symbols"]) for event in fed.events("outage")] == [
        (fed.at(30), None), (fed.at(10), ["B"]), (fed.at(20), ["A", "C"]),
    ]  # fmt: skip
    fed.outages.trust()
    assert fed.outages.suspect_since == {}


def test_a_symbol_of_which_nothing_came_between_two_outages_is_suspected_since_the_first() -> None:
    fed = Fed()
    fed.trade(0, "BTC")
    fed.trade(0, "ETH")
    fed.outages.begin(10 * SECOND)
    since_ns, _ = fed.outages.end(20 * SECOND, 0)
    fed.trade(30, "BTC")
    fed.outages.begin(40 * SECOND)
    assert fed.outages.suspect_since == {"ETH": since_ns}


@pytest.mark.parametrize("ids", ["contiguous"])
def test_where_ids_prove_what_is_missing_nothing_is_judged(ids: str) -> None:
    spot, notebook = find_exchange("binance"), cast("Any", Notebook())
    assert spot.ids("trade") == ids
    session = Session(spot, StreamConfig(), channel="trade", record=lambda _: notebook)
    session.receive([trade(1, 0)], START_NS, SECOND)
    assert session.outages.judge(START_NS, START_NS + SECOND, 0) == []
    assert notebook.events == []
