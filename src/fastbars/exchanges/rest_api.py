"""RestApi: an exchange's REST API, whose rate limit its histories and its listing share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RestApi:
    """A REST API and its rate limit.

    Attributes:
        url: scheme and host.
        weight_per_minute: how much the requests of a minute may weigh, as the exchange counts.
        budget: name of the rate limit, if several markets share one; empty: that of `url`.
    """

    url: str
    weight_per_minute: float
    budget: str = ""

    @property
    def budget_name(self) -> str:
        """Name of the rate limit that its requests count against."""
        return self.budget or self.url
