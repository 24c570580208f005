"""The page in a browser: it shows what was sent, to the digit, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from browser import browsing, chromium
from fastbars.bars import BarStatus, CloseReason, OHLCVBar
from fastbars.live.config import StreamConfig
from fastbars.service.held import wire_bar
from fastbars.service.page import Page
from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange
from fastbars.sinks import SinkState, SinkStats
from fastbars.streams import stream
from test_page import View, bar, serving

pytestmark = pytest.mark.real_clock
HOSTILE = '<img src=x onerror="document.title=1">"&\u202e'


@pytest.fixture(scope="session")
def browser() -> Iterator[str]:
    yield from chromium()


async def rows_of(page: Any) -> list[dict[str, str]]:
    """The rows of the table of latest bars, oldest first."""
    found: list[dict[str, str]] = await page.evaluate(
        """() => [...document.querySelectorAll("#recent tbody tr")].reverse().map((row) => Object.fromEntries([
            ["key", row.dataset.key], ["status", row.querySelector("em").textContent],
            ...[...row.querySelectorAll("td[data-field]")].map((cell) => [cell.dataset.field, cell.textContent])]))"""
    )
    return found


def rows_sent(bars: list[OHLCVBar]) -> list[dict[str, str]]:
    names = ("key", "status", "open", "high", "low", "close", "volume", "trade_count")
    return [
        {name: "–" if content[name] is None else str(content[name]) for name in names}
        for content in map(wire_bar, bars)
    ]


async def proof_of(page: Any) -> dict[str, str]:
    """What is shown of the bar that is pointed at."""
    found: dict[str, str] = await page.evaluate(
        """() => Object.fromEntries([["status", document.getElementById("status").textContent],
            ["meaning", document.getElementById("meaning").textContent],
            ["when", document.getElementById("when").textContent],
            ...[...document.querySelectorAll("#proof dd")].map((own) => [own.dataset.field, own.textContent])])"""
    )
    return found


async def until_is(page: Any, expression: str, **options: Any) -> None:
    await page.wait_for_function(f"() => {expression}", timeout=20_000, **options)


async def test_what_is_shown_is_what_was_sent_to_the_last_digit(browser: str) -> None:
    shown = Page(View())
    statuses = [
        status for status in BarStatus if status not in (BarStatus.RETRACTED, BarStatus.REPORTED)
    ] * 4  # of more digits than a number of JavaScript has
    sent = [
        bar(minute, f"0.{minute}23456789012345678", status=status, missing_count=None)
        for minute, status in enumerate(statuses)
    ]
    sent[3] = bar(3, volume=Decimal(0), open=None, high=None, low=None, close=None, trade_count=0,
                  first_trade_id=None, last_trade_id=None, status=BarStatus.GAP, close_reason=CloseReason.GAP,
                  missing_count=None)  # fmt: skip
    sent[-1] = bar(len(statuses) - 1, "0.98765432109876543210", status=BarStatus.GAP, missing_count=7)
    for one in sent:
        shown.add(one)
    async with serving(shown) as (url, _), browsing(browser, url) as page:
        await page.click("#recent summary")
        await until_is(page, f"document.querySelectorAll('#recent tbody tr').length === {len(sent)}")
        assert await rows_of(page) == rows_sent(sent)
        proof = await proof_of(page)
        assert proof["close"] == "0.98765432109876543210" == await page.text_content("#last")
        assert (proof["status"], proof["meaning"], proof["missing_count"]) == ("GAP", "7 trades are missing", "7")
        first_id = 9_007_199_254_740_993 + len(sent) - 1
        assert (proof["ids"], proof["revision"]) == (f"{first_id} – {first_id}", "0")
        # Pointing at each bar by its keys, back to the one that has no prices.
        await page.focus("#chart")
        for back in range(1, len(sent) - 2):
            await page.keyboard.press("ArrowLeft")
            proof = await proof_of(page)
            assert proof["close"] == (wire_bar(sent[-back])["close"] or "–")
            assert proof["status"] == str(sent[-back].status)
        assert (proof["meaning"], proof["close"], proof["missing_count"]) == ("the feed was down", "–", "not known")
        # Pointing with the mouse.
        box = await page.locator("#chart").bounding_box()
        whens = set()
        for part in (0.4, 0.5, 0.6):
            await page.mouse.move(box["x"] + box["width"] * part, box["y"] + box["height"] / 2)
            whens.add((await proof_of(page))["when"])
        assert len(whens) == 3
        await page.mouse.move(5, 5)
        # A new bar, a later revision, and one that does not exist after all.
        shown.add(bar(len(sent), "7.10"))
        await until_is(page, "document.getElementById('last').textContent === '7.10'")
        shown.add(bar(len(sent), "7.20", revision=1, status=BarStatus.HEALED))
        await until_is(page, "document.getElementById('status').textContent === 'HEALED'")
        assert (await proof_of(page))["close"] == "7.20"
        assert "revision 0: COMPLETE" in await page.text_content("#story")
        shown.add(bar(len(sent), revision=2, status=BarStatus.RETRACTED))
        await until_is(page, "document.getElementById('last').textContent === '0.98765432109876543210'")
        assert await rows_of(page) == rows_sent(sent)


async def test_hostile_names_are_text_and_bars_of_one_second_stand_side_by_side(browser: str) -> None:
    sinks = {HOSTILE: SinkStats(SinkState.DOWN, waiting=5, error=f"refused: {HOSTILE}")}
    async with (
        SimulatedExchange(symbols=["BTCUSDT"], rate=400) as exchange,
        stream("binance", ["BTCUSDT"], ["tick:20"], url=exchange.url) as bars,
    ):

        class Sinks(View):
            def stats(self) -> Any:
                return replace(bars.stats(), sinks=sinks)

        shown = Page(Sinks({HOSTILE: bars}))
        shown.add(bar(0, symbol=HOSTILE, spec="1m"))
        ticks: list[OHLCVBar] = []
        async with (
            serving(shown) as (url, _),
            browsing(browser, url, viewport={"width": 390, "height": 844}, color_scheme="dark") as page,
        ):
            await until_is(page, "document.getElementById('symbol').textContent === 'BTCUSDT'")
            async for one in bars:
                shown.add(one)
                ticks.append(one)
                if len(ticks) == 40:
                    break
            await page.click("#recent summary")
            await until_is(page, "document.querySelectorAll('#recent tbody tr').length === 40")
            assert await rows_of(page) == rows_sent(ticks)
            seconds = {one.open_time.replace(microsecond=0) for one in ticks}
            assert len(seconds) < 10  # several began in one second
            await until_is(page, "document.querySelector('[data-field=rate]').textContent !== '–'")
            assert HOSTILE in await page.text_content("#venues")
            assert f"refused: {HOSTILE}" in await page.text_content("#sinks")
            # A phone: nothing is wider than it, and all of it can be used.
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
            paper = "getComputedStyle(document.body).backgroundColor"
            dark = await page.evaluate(paper)
            await page.click("#theme")
            await until_is(page, f"{paper} === 'rgb(255, 255, 255)'")
            assert dark == "rgb(17, 21, 28)"
            await page.fill("#search", "onerror")
            await until_is(page, "document.querySelectorAll('#found [role=option]').length === 1")
            await page.keyboard.press("Enter")
            await until_is(page, "document.querySelectorAll('#specs button').length === 1")
            await until_is(page, "document.getElementById('last').textContent === '42219.95123'")
            assert await page.text_content("#symbol") == HOSTILE
            assert await page.title() == f"{HOSTILE} 1m – fastbars"
            assert await page.locator("img").count() == 0
            await page.reload()  # its address names it
            await until_is(page, "document.getElementById('last').textContent === '42219.95123'")
            assert await page.get_attribute("html", "data-theme") == "light"


async def test_a_killed_connection_leaves_a_gap_that_heals_before_ones_eyes(browser: str) -> None:
    faults = Faults()
    async with SimulatedExchange(symbols=["BTCUSDT"], rate=100, faults=faults) as exchange:
        config = StreamConfig(rest_url=exchange.rest_url, lateness=60)
        async with stream("binance", ["BTCUSDT"], "1s", url=exchange.url, config=config) as bars:
            shown = Page(View({"binance": bars}))
            latest: dict[Any, OHLCVBar] = {}

            async def follow() -> None:
                async for one in bars:
                    shown.add(one)
                    latest[one.open_time] = one

            async with serving(shown) as (url, _), browsing(browser, url) as page:
                following = asyncio.create_task(follow())
                await page.click("#recent summary")
                status = "[...document.querySelectorAll('#recent tbody em')].map((own) => own.textContent)"
                await until_is(page, f"{status}.filter((own) => own === 'COMPLETE').length >= 2")
                # What was there to be seen, whenever it was.
                await page.evaluate(
                    """() => {
                        window.seen = new Set();
                        const look = () => {
                            document.querySelectorAll("#recent tbody em, #status, #state b").forEach(
                                (own) => window.seen.add(own.textContent));
                            requestAnimationFrame(look);
                        };
                        look();
                    }"""
                )
                faults.inject(FaultKind.DROP)
                faults.inject(Fault(FaultKind.REFUSE, count=2, status=503))
                await until_is(page, f"{status}.includes('GAP')")
                await until_is(page, f"{status}.includes('HEALED') && !{status}.includes('GAP')")
                await until_is(page, "document.querySelector('[data-field=reconnects]').textContent === '1'")
                seen = set(await page.evaluate("[...window.seen]"))
                assert {"GAP", "HEALED", "reconnecting"} <= seen
                following.cancel()
                await asyncio.wait([following])
                await page.wait_for_timeout(100)
                healed = [row for row in await rows_of(page) if row["status"] == "HEALED"]
                truth = rows_sent([one for one in latest.values() if one.status is BarStatus.HEALED])
                assert healed == sorted(truth, key=lambda row: row["key"])
                assert healed
