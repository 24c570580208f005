"""Instrument: what an exchange says of a symbol, and `where`, a choice among them.

Units: prices in quote units, sizes in base units, or in contracts where `contract_size` is not None; times aware UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Literal, get_args

from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.listing import DELISTED, HALTED, NOT_YET, Kind, Listed, Listing
from fastbars.exchanges.naming import Alias
from fastbars.ticks import to_datetime

Status = Literal["trading", "halted", "delisted", "not yet"]

_STATUSES: Mapping[str, Status] = {HALTED: "halted", DELISTED: "delisted", NOT_YET: "not yet"}
_DIGITS = Context(prec=50)  # not the caller's
_MOST_NAMES = 10_000
_LONGEST_PATTERN = 200


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument of an exchange; None: the exchange does not say.

    Attributes:
        exchange, market: as bars name them, such as "binance" and "usdm".
        symbol: as the exchange writes it, and as bars name it.
        kind: "spot", "perpetual", "future" or "option".
        status: "trading", "halted", "delisted" or "not yet".
        exchange_status: the same in the exchange's own word, such as "TRADING" or "BREAK".
        base, quote, settle: its assets, such as "BTC", "USDT"; `settle` of derivatives only.
        price_tick: smallest difference of two prices. None on Hyperliquid, where prices have 5 significant digits.
        size_step: smallest difference of two sizes.
        contract_size: what a size of 1 is: quote units where `inverse`, else base units; None: a base unit.
        inverse: quoted in one asset and settled in the other (BTCUSD_PERP); False: linear; None for spot.
        expiry: when it expires; None where it does not.
        listed_at: when it was, or will be, listed.
        quote_volume: traded in the last 24 hours, in quote units; only where it was asked for. Of linear contracts of
            OKX it is base units at the last price.
    """

    exchange: str
    market: str
    symbol: str
    kind: Kind | None
    status: Status
    exchange_status: str
    base: str | None = None
    quote: str | None = None
    settle: str | None = None
    price_tick: Decimal | None = None
    size_step: Decimal | None = None
    contract_size: Decimal | None = None
    inverse: bool | None = None
    expiry: datetime | None = None
    listed_at: datetime | None = None
    quote_volume: Decimal | None = None

    @property
    def alias(self) -> str | None:
        """The name that it has on all exchanges: BTC/USDT, BTC/USDT:USDT, BTC/USDT:USDT-260925; None: unknown."""
        if self.base is None or self.quote is None or self.kind not in ("spot", "perpetual", "future"):
            return None
        if self.kind == "spot":
            return str(Alias(self.base, self.quote))
        if self.settle is None or (self.kind == "future" and self.expiry is None):
            return None
        return str(Alias(self.base, self.quote, self.settle, None if self.expiry is None else f"{self.expiry:%y%m%d}"))

    def to_dict(self, *, json: bool = False) -> dict[str, Any]:
        """Its fields by name, and its alias; `json`: decimals and times as text."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        values["alias"] = self.alias
        return {name: _json(value) for name, value in values.items()} if json else values


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value


def instruments_of(
    exchange: Exchange, listing: Listing, listed: Iterable[Listed], volumes: Mapping[str, Listed] | None = None
) -> list[Instrument]:
    """What an exchange lists, as instruments.

    Args:
        listing: that answered.
        volumes: name -> what was traded in 24 hours, where it was asked for.
    """
    named, market = exchange.identity
    found = []
    for one in listed:
        stopped = listing.stopped.get(one.status)
        found.append(
            Instrument(
                named, market, one.symbol, one.kind, "trading" if stopped is None else _STATUSES[stopped], one.status,
                one.base, one.quote, one.settle, one.price_tick, one.size_step, one.contract_size, one.inverse,
                None if one.expiry_ns is None else to_datetime(one.expiry_ns),
                None if one.listed_ns is None else to_datetime(one.listed_ns),
                one.quote_volume if volumes is None else _quote_volume(one, listing, volumes),
            )
        )  # fmt: skip
    return found


def _quote_volume(one: Listed, listing: Listing, volumes: Mapping[str, Listed]) -> Decimal | None:
    day = next((volumes[name] for name in listing.names(one.symbol) if name in volumes), None)
    if day is None:
        return None
    if one.inverse:
        return None if None in (day.contracts, one.contract_size) else _product(day.contracts, one.contract_size)
    return day.quote_volume


def _product(one: Decimal | None, other: Decimal | None) -> Decimal:
    assert one is not None
    assert other is not None
    return _DIGITS.multiply(one, other)


@dataclass(frozen=True, slots=True)
class Where:
    """A choice of instruments; made by `where`, which says what its attributes mean."""

    base: frozenset[str] | None = None
    quote: frozenset[str] | None = None
    settle: frozenset[str] | None = None
    kind: frozenset[str] | None = None
    status: frozenset[str] | None = None
    inverse: bool | None = None
    name: str | None = None
    exclude: frozenset[str] = frozenset()
    min_volume: Decimal | None = None

    @property
    def needs_volume(self) -> bool:
        """Whether what was traded must be asked for."""
        return self.min_volume is not None

    def takes(self, one: Instrument) -> bool:
        """Whether it is chosen."""
        return self.takes_kind(one) and self.takes_status(one) and self.takes_volume(one)

    def takes_kind(self, one: Instrument) -> bool:
        """Whether all is as wanted that does not change while it is listed."""
        wanted = (
            (self.base, one.base), (self.quote, one.quote), (self.settle, one.settle), (self.kind, one.kind),
        )  # fmt: skip
        if any(chosen is not None and value not in chosen for chosen, value in wanted):
            return False
        if one.symbol in self.exclude or one.alias in self.exclude:
            return False
        if self.inverse is not None and one.inverse is not self.inverse:
            return False
        return self.name is None or re.fullmatch(self.name, one.symbol) is not None

    def takes_status(self, one: Instrument) -> bool:
        """Whether its status is wanted."""
        return self.status is None or one.status in self.status

    def takes_volume(self, one: Instrument, share: Decimal = Decimal(1)) -> bool:
        """Whether enough of it was traded: this share of `min_volume`; one whose volume is unknown has not enough."""
        if self.min_volume is None:
            return True
        return one.quote_volume is not None and one.quote_volume >= _DIGITS.multiply(self.min_volume, share)

    def __str__(self) -> str:
        parts = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None and value != frozenset():
                shown = "|".join(sorted(value)) if isinstance(value, frozenset) else value
                parts.append(f"{each.name}={shown}")
        return ",".join(parts)


def where(
    *,
    base: str | Sequence[str] | None = None,
    quote: str | Sequence[str] | None = None,
    settle: str | Sequence[str] | None = None,
    kind: str | Sequence[str] | None = None,
    status: str | Sequence[str] | None = "trading",
    inverse: bool | None = None,
    name: str | None = None,
    exclude: Sequence[str] = (),
    min_volume: Decimal | float | str | None = None,
) -> Where:
    """A choice of instruments, for `instruments` and, instead of names, for `stream`.

    What is not given is not looked at; of several values any will do. An instrument of which the exchange does not say
    what is asked for is not chosen.

    Args:
        base, quote, settle: assets, such as quote="USDT" or base=["BTC", "ETH"].
        kind: "spot", "perpetual", "future", "option".
        status: "trading", "halted", "delisted", "not yet"; None: any.
        inverse: True: inverse contracts only; False: linear ones only.
        name: a regular expression that the whole symbol matches.
        exclude: symbols, or their aliases, that are not chosen.
        min_volume: least traded in the last 24 hours, in quote units.

    Raises:
        ValueError: an unknown kind or status, a malformed `name`, or a `min_volume` that is no number from 0 on.
        TypeError: a value of another type.
    """
    if name is not None:
        if not isinstance(name, str):
            raise TypeError(f"where: name must be a regular expression as text, got {name!r:.80}")
        if len(name) > _LONGEST_PATTERN:
            raise ValueError(f"where: name has {len(name)} characters, the limit is {_LONGEST_PATTERN}")
        try:
            re.compile(name)
        except re.error as error:
            raise ValueError(f"where: name={name!r} is not a regular expression: {error}") from None
    if not isinstance(inverse, bool | None):
        raise TypeError(f"where: inverse must be True, False or None, got {inverse!r:.80}")
    return Where(
        _chosen("base", base), _chosen("quote", quote), _chosen("settle", settle),
        _chosen("kind", kind, get_args(Kind)), _chosen("status", status, get_args(Status)), inverse, name,
        _chosen("exclude", exclude) or frozenset(), _volume(min_volume),
    )  # fmt: skip


def _chosen(name: str, value: object, known: Sequence[str] = ()) -> frozenset[str] | None:
    if value is None:
        return None
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Iterable) or isinstance(values, bytes | Mapping):
        raise TypeError(f"where: {name} must be text or a list of texts, got {value!r:.80}")
    chosen = frozenset(values)
    if len(chosen) > _MOST_NAMES:
        raise ValueError(f"where: {name} has {len(chosen)} values, the limit is {_MOST_NAMES}")
    for one in chosen:
        if not isinstance(one, str):
            raise TypeError(f"where: {name} must be text or a list of texts, it has {one!r:.80}")
        if known and one not in known:
            raise ValueError(f"where: {name} is {one!r:.80}, it must be one of {', '.join(known)}")
    return chosen


def _volume(value: object) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Decimal | int | float | str):
        raise TypeError(f"where: min_volume must be a number, got {value!r:.80}")
    try:
        volume = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"where: min_volume={value!r:.80} is not a number") from None
    if not volume.is_finite() or volume < 0:
        raise ValueError(f"where: min_volume must be a number from 0 on, got {value!r:.80}")
    return volume
