"""What every sink must keep to: each bar once in what readers see, and of its rows the best.

`History` draws rows as streams of several hosts issue them, in batches as workers write them: with revisions, bars
that are retracted and come back, symbols in other scripts, and sums of 38 digits; batches are written twice, and
the hosts' are mixed. Whatever the order, `best()` says what must be read back.

    python tests/sink_law.py URL BARS FILE

writes a history until it is killed, as a stream does whose delivery log is FILE.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from fastbars import BarStatus, OHLCVBar
from fastbars.bars import CloseReason
from fastbars.sinks import Rows, open_sink
from fastbars.sinks.rows import COLUMNS, KEY, best_of
from fastbars.times import EPOCH

NAMES = tuple(column.name for column in COLUMNS)
SYMBOLS = (
    "BTCUSDT", "币安人生USDT", "BTC-USD_UMCBL.x y", "xyz:AAPL", "a|b%c*d>e", "'; drop table bars; --", "🚀/USD",
    'quote"back\\slash',
)  # fmt: skip
SPECS = ("1s", "1m", "volume:50@1d", "tick:5")
SOURCES = ("host-a", "host-b", "hôst c.example:1")
_START = EPOCH + timedelta(days=19_943, microseconds=123_457)
_LARGEST_SUM = Decimal(2**127 - 1).scaleb(-18)
_EARLY, _LATE = datetime.fromisoformat("1970-01-01T00:00:00Z"), datetime.fromisoformat("2199-12-31T23:59:59.999999Z")


class History:
    """The rows of some hosts.

    Args:
        seed: of what is drawn.
        bars: how many each host issues.
        sources: the hosts.
    """

    def __init__(self, seed: int, bars: int, sources: Iterable[str] = SOURCES) -> None:
        self._random = Random(seed)
        own = [self._bar(number) for number in range(bars)]
        self.by_source = {source: [*self._issued(own)] for source in sources}

    def batches(self, most: int = 400) -> list[Rows]:
        """All rows in batches, some of them twice, those of the hosts mixed, and not in the order issued."""
        batches = []
        for source, bars in self.by_source.items():
            shuffled = self._random.sample(bars, len(bars))
            for at in range(0, len(shuffled), most):
                batches.append(rows_of(shuffled[at : at + most], source))
        batches += self._random.sample(batches, len(batches) // 2)
        self._random.shuffle(batches)
        return batches

    def best(self) -> list[dict[str, Any]]:
        """What readers must see."""
        rows = [rows_of(bars, source) for source, bars in self.by_source.items()]
        return best_of(dict(zip(NAMES, record, strict=True)) for batch in rows for record in batch.records)

    def _bar(self, number: int) -> OHLCVBar:
        random = self._random
        spec = SPECS[number % len(SPECS)]
        begins = _START + timedelta(seconds=number) if number > 1 else (_EARLY, _LATE)[number]
        prices = sorted(Decimal(random.randrange(10**18)).scaleb(-random.randrange(19)) for _ in range(4))
        return OHLCVBar(
            exchange=random.choice(("binance", "okx")), market="spot", symbol=random.choice(SYMBOLS), spec=spec,
            open_time=begins, close_time=begins + timedelta(microseconds=random.randrange(1, 10**6)), open=prices[1],
            high=prices[3], low=-prices[0] if number % 7 == 0 else prices[0], close=prices[2], volume=_LARGEST_SUM,
            quote_volume=Decimal(random.randrange(2**127)).scaleb(-random.randrange(37)), trade_count=5,
            taker_buy_volume=Decimal(1).scaleb(-18), taker_buy_quote_volume=Decimal(0),
            first_trade_id=2**63 - 10 + number % 5, last_trade_id=2**63 - 1, status=BarStatus.COMPLETE,
            close_reason=CloseReason.TRADE, missing_count=0, buy_count=3, sell_count=2, first_trade_time=begins,
            last_trade_time=begins, largest_trade=Decimal("1E+5"), inverse=number % 5 == 0,
            index=number if "@" in spec else None,
        )  # fmt: skip

    def _issued(self, bars: list[OHLCVBar]) -> Iterable[OHLCVBar]:
        # As a stream would: each bar in some revisions, of which the last is the best of them or is not.
        random = self._random
        for bar in bars:
            if random.random() < 0.1:
                continue  # this host was not there
            for revision in range(random.choice((1, 1, 2, 3))):
                status = random.choice((*BarStatus,))
                if bar.spec == "tick:5" and status is BarStatus.REPORTED:
                    status = BarStatus.GAP
                changed = replace(
                    bar, status=status, revision=revision, trade_count=random.randrange(1, 9), buy_count=None,
                    close_time=bar.close_time, missing_count=random.choice((None, 0, 4)),
                )  # fmt: skip
                if bar.spec == "1s" and status is BarStatus.GAP:
                    changed = replace(
                        changed, open=None, high=None, low=None, close=None, trade_count=0, first_trade_id=None,
                        last_trade_id=None, first_trade_time=None, last_trade_time=None, largest_trade=None,
                    )  # fmt: skip
                yield changed


def rows_of(bars: list[OHLCVBar], source: str) -> Rows:
    """A batch, each bar issued a minute after its end or, where there is no such time, at it."""
    return Rows(bars, source, [min(bar.close_time, _LATE - timedelta(minutes=1)) for bar in bars])


def by_key(records: Iterable[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Records by what tells bars apart; no bar may be there twice."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        key = tuple(record[name] for name in KEY)
        assert key not in found, f"twice: {key}"
        found[key] = {name: record[name] for name in NAMES}
    return found


def judge(read: Iterable[dict[str, Any]], expected: Iterable[dict[str, Any]]) -> None:
    """What was read back is what must be there, to the digit."""
    found, wanted = by_key(read), by_key(expected)
    missing, unwanted = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    assert (len(missing), len(unwanted)) == (0, 0), f"missing: {[*missing][:3]}, unwanted: {[*unwanted][:3]}"
    for key, record in wanted.items():
        assert found[key] == record, key
        for name, value in record.items():
            assert type(found[key][name]) is type(value) or isinstance(value, str), name


def history_of_child(bars: int) -> tuple[History, list[Rows]]:
    """What a child writes that is killed, and in which batches."""
    history = History(3, bars)
    return history, history.batches(100)


async def write_until_killed(url: str, bars: int, file: Path) -> None:
    """Write a history from where its log says that it was confirmed."""
    _, batches = history_of_child(bars)
    sink = open_sink(url)
    await sink.open()
    print("open", flush=True)
    log = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    at = len(os.read(log, 1_000_000))
    for batch in batches[at:]:
        await sink.write(batch)
        await sink.flush()
        os.write(log, b".")
    await sink.close()
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(write_until_killed(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
