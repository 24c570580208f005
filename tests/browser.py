"""A headless Chromium for tests, started once, and pages of it that note what goes wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
)  # fmt: skip
_START_S = 30.0


def chromium() -> Iterator[str]:
    """Starts it; yields where it is driven. Skips where there is none, except in CI."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None or find_spec("playwright") is None:
        text = 'a browser and what drives it are needed: apt-get install chromium; pip install "fastbars[test]"'
        if os.environ.get("CI") == "1":
            pytest.fail(text)
        pytest.skip(text)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [path, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = Path(folder) / "DevToolsActivePort"
            end = time.monotonic() + _START_S
            while not port.is_file() or "\n" not in port.read_text():
                assert process.poll() is None, "Chromium has ended"
                assert time.monotonic() < end, "Chromium did not start"
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port.read_text().splitlines()[0]}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@asynccontextmanager
async def browsing(address: str, url: str, **options: Any) -> AsyncIterator[Any]:
    """A page at `url`; at the end it has logged no error, raised none, and asked nobody else for anything.

    Args:
        address: of the browser.
        options: of Playwright's `new_context`, such as `viewport` and `color_scheme`.
    """
    from playwright.async_api import async_playwright

    faults: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(address)
        context = await browser.new_context(**options)
        page = await context.new_page()

        def note_console(message: Any) -> None:
            if message.type == "error":
                faults.append(message.text)

        def note_address(asked: Any) -> None:
            if _is_elsewhere(asked.url, url):
                faults.append(asked.url)

        page.on("console", note_console)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", note_address)
        page.on("websocket", note_address)
        try:
            await page.goto(url)
            yield page
        finally:
            await context.close()
            await browser.close()
    await asyncio.sleep(0)
    assert faults == []


def _is_elsewhere(asked: str, url: str) -> bool:
    parts = urlsplit(asked)
    return parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(url).netloc
