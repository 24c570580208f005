"""What the fuzzer runs, run once over its seeds; and that it would notice."""

from __future__ import annotations

import logging

import pytest
from fuzz import targets
from fuzz.seeds import seeds, simulated

from declared import FIELDS, MESSAGES
from fastbars.kernel import scaled
from fastbars.wire.scanner import TradeScanner
from test_scanner import Scan

# The targets are silent, which is for the fuzzer alone: other tests read the log.
logging.getLogger("fastbars").setLevel(logging.NOTSET)


@pytest.mark.parametrize("target", ["numbers", "scanner", "walker", "snapshot", "recording", "tape", "csv", "rest"])
def test_a_target_finds_nothing_in_its_seeds(target: str) -> None:
    mine = [seed for name, seed in seeds() if name == target]
    assert len(mine) >= 8
    for seed in mine:
        getattr(targets, target)(seed)


@pytest.mark.parametrize("kind", [kind for kind in MESSAGES if kind not in ("seconds", "binance aggTrade")])
def test_the_simulated_messages_among_the_seeds_are_trades(kind: str) -> None:
    messages = list(simulated(kind.split(maxsplit=1)[0]))
    assert len(messages) == 16
    scan = Scan(FIELDS[kind])
    assert all(scan.take(message)[0] for message in messages)


def test_a_wrong_number_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaled, "parse", lambda _text: (1, 0))
    targets.numbers(b"1")
    with pytest.raises(AssertionError):
        targets.numbers(b"1.5")


def test_a_wrong_trade_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    message = MESSAGES["binance trade"]
    monkeypatch.setattr(targets, "read", lambda _fields, _payload: ([], None))
    with pytest.raises(AssertionError):
        targets.scanner(b"\0" + message)


def test_a_lost_frame_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "as_websockets", lambda _stream: ([], None))
    with pytest.raises(AssertionError):
        targets.walker(b"\0\0\0\0\x81\x02hi")


def test_the_scanner_of_a_target_is_the_compiled_one() -> None:
    targets.scanner(b"\0" + MESSAGES["binance trade"])
    assert all(isinstance(scan.scanner, TradeScanner) for pair in targets._scanners.values() for scan in pair)
