"""Plan: where the history of each spec comes from, decided from what the exchange declares, before anything is asked.

    path-driven specs   trades alone
    "trades"            trades, or an error at once
    "candles"           candles, or an error at once
    None                trades where they are served by id and few enough, else candles; whichever there is

Few enough: all symbols together would take at most `BUDGET_S` of what the exchange allows; the first page of a symbol
shows how many trades its span has. Units: seconds; weights as the exchange counts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from fastbars.errors import SpecError
from fastbars.exchanges.candles import CandleHistory
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.history import History
from fastbars.live.past.reports import candles_for
from fastbars.live.past.trades import why_not_trades
from fastbars.live.secrets import without_credentials
from fastbars.specs import BarKind, BarSpec

HistoryFrom = Literal["trades", "candles"]
BUDGET_S = 120.0
_FEWEST_PAGES = 8  # finding the beginning takes about as many


class Plan(NamedTuple):
    """Where history comes from.

    Attributes:
        specs: all of them.
        trades: the endpoint of past trades; None: no spec is made of them.
        candles: the endpoint of candles; None: likewise.
        parts: spec -> that of the candles that its bars are made of; those without are made of trades alone.
        wants_trades: trades come first, where they are few enough.
        is_forced: however many they are.
    """

    specs: tuple[BarSpec, ...]
    trades: History | None
    candles: CandleHistory | None
    parts: Mapping[BarSpec, str]
    wants_trades: bool
    is_forced: bool

    def most_pages(self, symbols: int) -> float:
        """How many pages of trades may be asked for, for each symbol; 0: not worth beginning."""
        if self.trades is None:
            return 0.0
        if self.is_forced:
            return float("inf")
        pages = self.trades.api.weight_per_minute * BUDGET_S / 60.0 / self.trades.weight / max(symbols, 1)
        return pages if pages >= _FEWEST_PAGES else 0.0


def make_plan(
    exchange: Exchange,
    channel: str,
    specs: Sequence[BarSpec],
    history_from: str | None,
    *,
    has_key: bool,
    url: str | None = None,
    rest_url: str | None = None,
) -> Plan:
    """Decide it.

    Args:
        url: where the stream comes from, if not from the exchange's own address: then only `rest_url` is asked.

    Raises:
        SpecError: the history of a spec cannot be had; the message says which and why. ValueError: `history_from` is
            no source, or nothing may be asked.
    """
    if history_from is not None and history_from not in get_args(HistoryFrom):
        raise ValueError(f"history_from={history_from!r} must be one of {', '.join(get_args(HistoryFrom))}, or None")
    if url is not None and rest_url is None:
        raise ValueError(
            f"{exchange.name}: the stream comes from {without_credentials(url)}; for history set"
            " StreamConfig.rest_url to the REST API to ask"
        )
    served = exchange.history(channel, has_key=has_key)
    why_no_trades = why_not_trades(served, has_key=has_key)
    candles = exchange.candle_history
    parts: dict[BarSpec, str] = {}
    for spec in specs:
        if spec.modifier == "exact":
            raise SpecError(
                f"{exchange.name}: no history of {spec}: several of its bars can begin with one trade, and could not be"
                " told apart where past and live bars meet"
            )
        part = None if candles is None else candles_for(candles.intervals, spec)
        if part is not None:
            parts[spec] = part
        wants = history_from if spec.is_timed else "trades"
        if wants != "candles" and why_no_trades is None:
            continue
        if wants != "trades" and part is not None:
            continue
        raise SpecError(f"{exchange.name}: no history of {spec}: {_reasons(spec, wants, why_no_trades, candles)}")
    wants_trades = why_no_trades is None and history_from != "candles"
    needs_trades = wants_trades or any(spec.kind is not BarKind.TIME for spec in specs)
    return Plan(
        tuple(specs), served if needs_trades and why_no_trades is None else None,
        None if history_from == "trades" else candles, {} if history_from == "trades" else parts,
        wants_trades, history_from == "trades",
    )  # fmt: skip


def _reasons(spec: BarSpec, wants: str | None, why_no_trades: str | None, candles: CandleHistory | None) -> str:
    reasons = []
    if wants != "candles":
        reasons.append(str(why_no_trades))
    if wants != "trades":
        reasons.append(
            "it serves no candles over REST" if candles is None
            else f"no candles that can be merged into it, those are {', '.join(candles.intervals)}"
        )  # fmt: skip
    if not spec.is_timed:
        reasons.append("path-driven bars come from trades alone")
    return "; ".join(reasons)
