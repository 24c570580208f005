"""Decimal text to an exact number: ours, and the standard library's Decimal."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest

from fastbars.kernel import scaled

pytestmark = pytest.mark.benchmark(timer=time.process_time, group="price text to an exact number")
TEXTS = [f"{whole}.{fraction:08d}" for whole in range(60_000, 61_000) for fraction in (63_000_000, 1, 99_999_999)]


def test_parse(benchmark: Any) -> None:
    benchmark.extra_info["trades"] = len(TEXTS)
    parsed = benchmark.pedantic(lambda: [scaled.parse(text) for text in TEXTS], rounds=15, iterations=5)
    assert [scaled.to_decimal(*number) for number in parsed] == [Decimal(text) for text in TEXTS]


def test_decimal(benchmark: Any) -> None:
    benchmark.extra_info.update(trades=len(TEXTS), reference=True)
    benchmark.pedantic(lambda: [Decimal(text) for text in TEXTS], rounds=15, iterations=5)
