"""Warnings that come in floods: few lines, and each says how many there were."""

from __future__ import annotations

import logging

import pytest

from fastbars.log import SparseLog


def test_the_1st_2nd_4th_and_8th_of_a_kind_are_logged_and_say_which_they_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warnings = SparseLog(exchange="venue")
    with caplog.at_level(logging.WARNING):
        for number in range(1, 10):
            warnings.warn("refused", number=number)
        warnings.warn("other", number=0)
    assert [record.getMessage() for record in caplog.records] == [
        f"refused exchange='venue' seen={number} number={number}" for number in (1, 2, 4, 8)
    ] + ["other exchange='venue' seen=1 number=0"]


def test_kinds_are_counted_apart_for_each_that_they_are_of(caplog: pytest.LogCaptureFixture) -> None:
    warnings = SparseLog()
    with caplog.at_level(logging.WARNING):
        for symbol in ("A", "B", "A", "A", "B"):
            warnings.warn("hole", of=symbol, symbol=symbol)
    assert [record.getMessage() for record in caplog.records] == [
        "hole seen=1 symbol='A'", "hole seen=1 symbol='B'", "hole seen=2 symbol='A'", "hole seen=2 symbol='B'",
    ]  # fmt: skip


def test_what_is_said_once_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    warnings = SparseLog(exchange="venue")
    with caplog.at_level(logging.WARNING):
        for symbol in ("A", "B", "C"):
            warnings.warn_once("never_subscribed", symbol=symbol)
    assert [record.getMessage() for record in caplog.records] == ["never_subscribed exchange='venue' seen=1 symbol='A'"]
