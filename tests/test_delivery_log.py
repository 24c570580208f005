"""The delivery log: what a kill or a power failure leaves of it, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from fastbars import BarBuffer, OHLCVBar
from fastbars.errors import SnapshotError
from fastbars.live.delivery_log import DeliveryLog, decoded, encoded, log_path, read_logs

SECOND_NS = 1_000_000_000
T0 = 1_700_000_000 * SECOND_NS
STREAM, EXCHANGE = "5f3c", "binance spot"


def some_bars(count: int) -> list[OHLCVBar]:
    buffer = BarBuffer("1s", ids="contiguous", exchange="binance", market="spot", negative_prices=True)
    bars: list[OHLCVBar] = []
    for n in range(count + 1):
        price = ("-0.000000000000000001", "9.223372036854775807", "1")[n % 3]
        bars += buffer.add("BTCé,\"'", T0 + n * SECOND_NS, price, "1", "buy", n + n // 5)
    return bars


def written(folder: Path, bars: list[OHLCVBar]) -> tuple[Path, bytes]:
    path = folder / "state"
    log = DeliveryLog(path, STREAM, EXCHANGE)
    log.begin(0)
    for place in range(0, len(bars), 2):
        log.write_bars(place, [encoded(bar) for bar in bars[place : place + 2]])
        log.write_confirmed({"callbacks": place})
    log.close()
    return path, log_path(path, 0).read_bytes()


def test_a_bar_comes_back_from_its_line_as_it_was() -> None:
    for bar in some_bars(9):
        made = decoded(orjson.loads(encoded(bar)))
        assert made == bar
        assert made.inverse == bar.inverse


def test_a_log_that_is_cut_anywhere_has_the_bars_before_the_cut(tmp_path: Path) -> None:
    bars = some_bars(6)
    path, data = written(tmp_path, bars)
    found = []
    for cut in [*range(0, len(data), 11), len(data)]:
        log_path(path, 0).write_bytes(data[:cut])
        logged = read_logs(path, 0, None, EXCHANGE)
        assert list(logged.bars.values()) == bars[: len(logged.bars)]
        found.append(len(logged.bars))
    assert all(0 <= behind - before <= 2 for before, behind in pairwise(found))
    assert (found[0], found[-1]) == (0, 6)


def test_zeros_in_the_place_of_what_a_power_failure_kept_from_the_disk_are_a_cut(tmp_path: Path) -> None:
    bars = some_bars(6)
    path, data = written(tmp_path, bars)
    for kept in range(0, len(data), 13):
        log_path(path, 0).write_bytes(data[:kept])
        expected = read_logs(path, 0, None, EXCHANGE)
        log_path(path, 0).write_bytes(data[:kept] + bytes(len(data) - kept))
        assert read_logs(path, 0, None, EXCHANGE) == expected


def test_a_log_that_is_damaged_before_its_end_is_refused(tmp_path: Path) -> None:
    path, data = written(tmp_path, some_bars(6))
    at = data.index(b"COMPLETE")
    log_path(path, 0).write_bytes(data[:at] + b"X" + data[at + 1 :])
    with pytest.raises(SnapshotError, match="delivery log refused: damaged at byte"):
        read_logs(path, 0, None, EXCHANGE)


def test_a_log_of_another_exchange_or_market_is_refused(tmp_path: Path) -> None:
    path, _ = written(tmp_path, some_bars(2))
    with pytest.raises(SnapshotError, match="its exchange is 'binance spot', not 'binance us'"):
        read_logs(path, 0, None, "binance us")
