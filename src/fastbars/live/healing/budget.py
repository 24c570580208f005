"""Budgets: what an exchange's REST API allows one address in a minute, shared by all who ask it from this process.

Units: weights as the exchange counts them, seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit
from weakref import WeakValueDictionary


class Budget:
    """Weights a minute, of which a part may be spent at once: no minute takes more than 95 % of what is allowed."""

    def __init__(self, weight_per_minute: float, now: Callable[[], float]) -> None:
        self._most = 0.25 * weight_per_minute
        self._per_second = 0.7 * weight_per_minute / 60
        self._now = now
        self._left = self._most
        self._since = now()

    def spend(self, weight: float) -> float:
        """Take `weight`; returns the seconds to wait before it may be used."""
        now = self._now()
        self._left = min(self._most, self._left + (now - self._since) * self._per_second) - weight
        self._since = now
        return max(0.0, -self._left / self._per_second)


# By name and weights: everyone in this process who asks an exchange shares what it allows.
_BUDGETS: WeakValueDictionary[tuple[str, float], Budget] = WeakValueDictionary()


def shared_budget(name: str, weight_per_minute: float, rest_url: str | None = None) -> Budget:
    """The one budget of this process for an exchange's REST API.

    Args:
        name: as declared; markets that the exchange counts together declare the same.
        weight_per_minute: what it allows.
        rest_url: where it is asked, if not at the exchange's own address: that host counts by itself.
    """
    if rest_url is not None:
        name += f" at {urlsplit(rest_url).netloc.rpartition('@')[2]}"
    key = (name, weight_per_minute)
    budget = _BUDGETS.get(key)
    if budget is None:
        budget = _BUDGETS[key] = Budget(weight_per_minute, time.monotonic)
    return budget
