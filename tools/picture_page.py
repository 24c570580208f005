"""Takes the pictures of the page for the documentation: docs/pictures/page-*.png.

    python tools/picture_page.py

Needs Chromium and Playwright. The embedded exchange breaks its connections; a picture is taken while a gap is open,
and one behind it, when it is healed.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, async_playwright

from fastbars.bar_stream import BarStream
from fastbars.live.config import StreamConfig
from fastbars.live.stats import StreamStats
from fastbars.service.http import WebServer
from fastbars.service.page import Page
from fastbars.simulator import Fault, FaultKind, Faults, SimulatedExchange
from fastbars.streams import stream

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT", "ADAUSDT"]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
DESKTOP: Any = {"width": 1120, "height": 660}
PHONE: Any = {"width": 390, "height": 844}
STATUSES = "[...document.querySelectorAll('#recent tbody em')].map((one) => one.textContent)"
# The table is only read here, so that it is out of the picture.
OPEN_TABLE = """() => {
    const table = document.getElementById("recent");
    table.open = true;
    table.style.cssText = "position: fixed; top: 200vh";
}"""


class View:
    """The stream that the page shows."""

    source = "host-a"

    def __init__(self) -> None:
        self.streams: dict[str, BarStream] = {}

    def stats(self) -> StreamStats | None:
        """Of the one stream."""
        return next((one.stats() for one in self.streams.values()), None)


async def main() -> None:
    """Take all pictures."""
    faults = Faults()
    view = View()
    page = Page(view)
    server = WebServer(page.routes())
    async with SimulatedExchange(symbols=SYMBOLS, rate=150, seed=11, past_s=60, faults=faults) as exchange:
        config = StreamConfig(rest_url=exchange.rest_url, reconnect_delay=2.5, reconnect_max_delay=2.5)
        async with stream("binance", SYMBOLS, ["1s", "5s", "1m", "tick:20@1m"], url=exchange.url, config=config,
                          verify=True) as bars:  # fmt: skip
            view.streams["binance"] = bars
            await server.start()

            async def follow() -> None:
                async for bar in bars:
                    page.add(bar)

            following = asyncio.create_task(follow())
            try:
                async with async_playwright() as playwright:
                    path = shutil.which("chromium")
                    browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
                    await take(browser, server.url, faults)
                    await browser.close()
            finally:
                following.cancel()
                await asyncio.wait([following])
                await server.stop()


async def take(browser: Browser, url: str, faults: Faults) -> None:
    """Each picture in its turn."""
    context = await browser.new_context(viewport=DESKTOP, color_scheme="light")
    page = await context.new_page()
    await page.goto(url)
    await page.evaluate(OPEN_TABLE)
    await page.wait_for_function(f"() => {STATUSES}.length >= 45", timeout=90_000)
    for kind in (Fault(FaultKind.DROP), Fault(FaultKind.REFUSE, count=2, status=503)):
        faults.inject(kind)
    await page.wait_for_function(f"() => {STATUSES}.filter((one) => one === 'GAP').length >= 2", timeout=60_000)
    await save(page, "page-gap")
    await page.wait_for_function(f"() => {STATUSES}.includes('HEALED') && !{STATUSES}.includes('GAP')", timeout=60_000)
    await page.wait_for_timeout(6_000)
    await page.focus("#chart")
    for _ in range(9):
        await page.keyboard.press("ArrowLeft")
    await page.evaluate("document.activeElement.blur()")
    await save(page, "page-light")
    dark = await browser.new_context(viewport=DESKTOP, color_scheme="dark")
    other = await dark.new_page()
    await other.goto(f"{url}/#binance/spot/BTCUSDT/tick%3A20%401m")
    await other.wait_for_timeout(4_000)
    await save(other, "page-dark")
    phone = await browser.new_context(viewport=PHONE, color_scheme="light", device_scale_factor=1.5)
    small = await phone.new_page()
    await small.goto(url)
    await small.wait_for_timeout(3_000)
    await save(small, "page-phone")


async def save(page: Any, name: str) -> None:
    """Write a picture into the documentation."""
    path = PICTURES / f"{name}.png"
    await page.screenshot(path=path)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    asyncio.run(main())
