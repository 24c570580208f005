"""The declaration of an exchange, and the checks on it.

An exchange's file says where to connect, how to subscribe and what a message means: data and pure functions, without
sockets, timers, scales or batches. Units: durations in seconds; those of messages are given in `exchanges/messages.py`.
"""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, Literal, Self, get_args
from urllib.parse import urlsplit

import orjson

from fastbars.errors import SubscriptionError
from fastbars.exchanges.candles import CandleHistory
from fastbars.exchanges.history import History
from fastbars.exchanges.listing import Listing
from fastbars.exchanges.messages import NOTHING, Message, RefusedTrade, Stream
from fastbars.exchanges.naming import Alias, SymbolRules, read_alias
from fastbars.exchanges.reader import TradeReader
from fastbars.exchanges.rest_api import RestApi
from fastbars.id_policy import IdPolicy, Ids
from fastbars.wire.fields import TradeFields

_MOST_DELTAS = 20_000  # symbols of one session


def by_channel(streams: Iterable[Stream]) -> dict[str, list[str]]:
    """Channel -> its symbols, for exchanges whose requests name one channel each."""
    symbols: dict[str, list[str]] = {}
    for symbol, channel in streams:
        symbols.setdefault(channel, []).append(symbol)
    return symbols


class Deltas:
    """The latest value of each field, for messages that carry only what has changed."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[str, Any]] = {}

    def merge(self, key: str, changed: Mapping[str, Any], *, anew: bool = False) -> dict[str, Any]:
        """Update the fields of a key and return them all; `anew` drops the earlier ones first."""
        fields = self._fields.pop(key, {})
        self._fields[key] = fields
        if len(self._fields) > _MOST_DELTAS:  # a hostile server may invent names; the latest are kept
            del self._fields[next(iter(self._fields))]
        if anew:
            fields.clear()
        fields.update(changed)
        return fields


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True, slots=True)
class Limits:
    """The exchange's rate limits and quotas. None: no such limit is documented.

    Attributes:
        streams_per_connection: most streams on one connection.
        streams_per_request: most streams in one call of `subscribe` or `unsubscribe`. (Such a call may produce several
            frames, each of which counts as a request.)
        requests_per_second: most frames that the client may send a second, application pings included.
        requests_shared: whether `requests_per_second` is shared by all connections from one IP address.
        request_bytes: largest frame that the client may send.
        requests_per_hour: most subscribe and unsubscribe frames an hour on one connection.
        connects: (count, seconds): most new connections from one IP address in that time.
        connections: most open connections from one IP address.
        streams: most streams on all connections from one IP address together.
        lifetime_s: age at which the exchange closes a connection.
        subscription_lifetime_s: age at which a subscription expires unless it is renewed.
        exclusive: keys of `Exchange.channels` of which a connection can hold one per symbol, such as Kraken's "ohlc_*".
            The others are subscribed on other connections.

    Raises:
        ValueError: a value that no exchange can have.
    """

    streams_per_connection: int
    streams_per_request: int
    requests_per_second: float
    request_bytes: int | None = None
    requests_per_hour: int | None = None
    connects: tuple[int, float] | None = None
    connections: int | None = None
    streams: int | None = None
    lifetime_s: float | None = None
    subscription_lifetime_s: float | None = None
    requests_shared: bool = False
    exclusive: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if each.name == "requests_shared":
                fits, expected = isinstance(value, bool), "True or False"
            elif each.name == "exclusive":
                fits = isinstance(value, tuple) and all(map(_is_text, value))
                expected = "a tuple of keys of the channels"
            elif each.name == "connects":
                pair = isinstance(value, tuple) and len(value) == 2 and all(map(_is_positive, value))
                fits, expected = value is None or pair, "(how many, in how many seconds) or None"
            else:
                is_optional = each.default is None
                fits = _is_positive(value) or (is_optional and value is None)
                expected = "a positive number" + is_optional * " or None"
            if not fits:
                raise ValueError(f"Limits.{each.name} must be {expected}, got {value!r:.100}")
        if self.streams_per_request > self.streams_per_connection:
            raise ValueError(
                f"Limits.streams_per_request is {self.streams_per_request}, more than the"
                f" {self.streams_per_connection} of streams_per_connection"
            )


@dataclass(frozen=True, slots=True)
class Keepalive:
    """How a connection is kept alive, and when it counts as dead. (Protocol pings are sent on every connection anyway.)

    Attributes:
        payload: the application ping that the client must send, as a text frame; None: none is required.
        interval_s: interval between two of them.
        silence_s: a connection on which nothing is received for so long is dead. Allow some slack beyond the interval
            of what the exchange promises to send: protocol pings, heartbeats, or answers to `payload`. None: unknown.

    Raises:
        ValueError: values that contradict each other.
    """

    payload: bytes | None = None
    interval_s: float = 0.0
    silence_s: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.payload, bytes | None):
            raise ValueError(f"Keepalive.payload must be bytes or None, got {self.payload!r:.100}")
        if not (self.interval_s == 0 if self.payload is None else _is_positive(self.interval_s)):
            raise ValueError(
                "Keepalive.interval_s must be a positive number with a payload, and 0 without one,"
                f" got {self.interval_s!r:.100}"
            )
        if not (self.silence_s is None or _is_positive(self.silence_s)):
            raise ValueError(f"Keepalive.silence_s must be a positive number or None, got {self.silence_s!r:.100}")


PROTOCOL_PINGS_ONLY = Keepalive()


def _is_mapping(value: object, kind: type = object) -> bool:
    return isinstance(value, Mapping) and all(_is_text(key) and isinstance(value[key], kind) for key in value)


def _is_mapping_to_lists(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        _is_text(key) and isinstance(listed, Sequence) and not isinstance(listed, str | bytes)
        for key, listed in value.items()
    )


def _is_histories(value: object) -> bool:
    return _is_mapping_to_lists(value) and all(
        isinstance(one, History)
        for served in value.values()  # type: ignore[attr-defined]
        for one in served
    )


def _is_channels(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        _is_text(channel) and (ids is None or ids in get_args(Ids)) for channel, ids in value.items()
    )


# Attribute of a declaration -> (check of its value, description of what is expected).
_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_text, "text such as 'binance usdm'"),
    "docs": (lambda value: isinstance(value, str), "text"),
    "routes": (_is_mapping_to_lists, "a mapping of URLs to the list of channels that each serves"),
    "channels": (
        _is_channels,
        f"a mapping of channels to what their trade ids prove: None, {', '.join(map(repr, get_args(Ids)))}",
    ),
    "default_channel": (_is_text, "text, one of the trade channels"),
    "limits": (lambda value: isinstance(value, Limits), "Limits(...)"),
    "keepalive": (lambda value: isinstance(value, Keepalive), "Keepalive(...)"),
    "greeting": (
        lambda value: isinstance(value, tuple) and all(isinstance(frame, bytes) for frame in value),
        "a tuple of frames, each bytes",
    ),
    "acks": (lambda value: value in ("request", "streams", "none"), "'request', 'streams' or 'none'"),
    "candle_open": (lambda value: value in ("first trade", "previous close"), "'first trade' or 'previous close'"),
    "acks_prove": (lambda value: isinstance(value, bool), "True or False"),
    "sends_recent_trades": (lambda value: isinstance(value, bool), "True or False"),
    "negative_prices": (lambda value: isinstance(value, bool), "True or False"),
    "first_ids": (
        lambda value: _is_mapping(value, int) and all(one >= 0 for one in value.values()),
        "a mapping of trade channels to ids",
    ),
    "candles": (lambda value: _is_mapping(value, str), "a mapping of bar specs to channels"),
    "histories": (_is_histories, "a mapping of trade channels to lists of History"),
    "candle_history": (lambda value: value is None or isinstance(value, CandleHistory), "CandleHistory(...), or None"),
    "symbols": (lambda value: isinstance(value, SymbolRules), "SymbolRules(...)"),
    "listing": (lambda value: value is None or isinstance(value, Listing), "Listing(...), or None"),
    "regions": (
        lambda value: _is_mapping(value, Mapping) and all(_is_mapping(hosts, str) for hosts in value.values()),
        "a mapping of regions to mappings of hosts to other hosts",
    ),
}
# The only public attribute that may hold a value of this type: under another name it is a typing mistake.
_MEANT = {
    Limits: "limits", Keepalive: "keepalive", SymbolRules: "symbols", Listing: "listing",
    CandleHistory: "candle_history",
}  # fmt: skip
_REQUIRED = ("name", "channels", "default_channel", "limits", "routes")


def _check(owner: str, name: str, value: object) -> None:
    fits, expected = _EXPECTED[name]
    if not fits(value):
        raise TypeError(f"{owner}.{name} must be {expected}, got {value!r:.100}")


class _Declaration(ABCMeta):
    """Checks declarations: each attribute when its class is created, all of them when an instance is.

    A mistake should be reported by the line that makes it, so what can be known is checked with the class. A class need
    not have everything: attributes may be set by `__init__`, be fields of a dataclass, or come from a subclass.
    """

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> None:
        super().__init__(name, bases, namespace, **options)
        declared = [base for base in cls.__mro__ if isinstance(base, _Declaration)][:-1]  # the last is Exchange itself
        for attribute in _EXPECTED.keys() & namespace.keys():
            value = namespace[attribute]
            if _is_value(value):
                _check(name, attribute, value)
        for attribute, value in namespace.items():
            meant = _MEANT.get(type(value))
            if meant is not None and attribute not in _EXPECTED and not attribute.startswith("_"):
                raise TypeError(
                    f"{name}.{attribute} is not an attribute of an exchange; {type(value).__name__} is for {meant}"
                )
        annotated = {one for base in declared for one in inspect.get_annotations(base)}
        initialised = any("__init__" in vars(base) or "__getattr__" in vars(base) for base in declared)
        # Only a class that is concrete, and whose instances get nothing more, can be said to lack something.
        if declared and not inspect.isabstract(cls) and not initialised:
            for message in _missing(cls, [one for one in _REQUIRED if one not in annotated], cls):
                raise TypeError(message)
            routes = {"routes"} if hasattr(cls, "routes") else set()
            # A contradiction between two attributes is known only where the class itself has all of them.
            own = _EXPECTED.keys() - {"routes"} | routes
            if all(hasattr(cls, attribute) and _is_value(getattr(cls, attribute)) for attribute in own):
                for message in _contradictions(cls):
                    raise ValueError(f"{name}.{message}")

    def __call__(cls, *args: Any, **options: Any) -> Any:
        exchange = super().__call__(*args, **options)
        for message in _missing(cls, _EXPECTED, exchange):
            raise TypeError(message)
        for attribute in _EXPECTED:
            if hasattr(exchange, attribute):
                _check(cls.__name__, attribute, getattr(exchange, attribute))
        for message in _contradictions(exchange):
            raise ValueError(f"{cls.__name__}.{message}")
        _ = exchange.trade_readers  # raises where `fields` returns something else
        return exchange


def _is_value(value: object) -> bool:
    # Properties, slots and fields of dataclasses have values on instances only.
    return not hasattr(value, "__get__") and not isinstance(value, dataclasses.Field)


def _key_of(channel: str, channels: Iterable[str]) -> str | None:
    # The key that a channel falls under: itself, or a prefix that ends with "*" and has something in its place.
    names = list(channels)
    if channel in names and not channel.endswith("*"):
        return channel
    for name in names:
        if name.endswith("*") and channel.startswith(name[:-1]) and channel[len(name) - 1 :] not in ("", "*"):
            return name
    return None


def _contradictions(exchange: Any) -> Iterator[str]:
    # Attributes of a class or instance that are valid each, but contradict each other.
    channels = list(exchange.channels)
    trade_channels = [channel for channel, ids in exchange.channels.items() if ids is not None]
    if exchange.default_channel not in trade_channels:
        default = exchange.default_channel
        yield f"default_channel is {default!r}, which is not a trade channel; those are {trade_channels}"
    for channel in trade_channels:
        if channel.endswith("*"):
            yield f"channels has {channel!r} with ids; a trade channel must be named in full"
    for attribute in ("histories", "first_ids"):
        for channel in getattr(exchange, attribute):
            if channel not in trade_channels:
                yield f"{attribute} has {channel!r}, which is not a trade channel; those are {trade_channels}"
    for attribute, named in (
        ("limits.exclusive", exchange.limits.exclusive),
        ("routes", [channel for served in getattr(exchange, "routes", {}).values() for channel in served]),
    ):
        for channel in named:
            if channel not in channels:
                yield f"{attribute} has {channel!r}, which is not one of the channels {channels}"
    for spec, channel in exchange.candles.items():
        if _key_of(channel, channels) is None:
            yield f"candles has {channel!r} for {spec!r}, which is not one of the channels {channels}"


def _missing(cls: type, attributes: Iterable[str], place: object) -> Iterator[str]:
    # An exchange that overrides `url` or `urls` needs no routes.
    overrides_url = cls.url is not Exchange.url or cls.urls is not Exchange.urls  # type: ignore[attr-defined]
    for attribute in attributes:
        if not hasattr(place, attribute) and not (attribute == "routes" and overrides_url):
            yield f"{cls.__name__}.{attribute} is missing; it must be {_EXPECTED[attribute][1]}"


def _read(
    readers: Sequence[TradeReader],
    parse: Callable[[Any], Iterable[Message]],
    message: Any,
    *,
    refuses: bool = False,
) -> Sequence[Message]:
    refused: list[RefusedTrade] | None = [] if refuses else None
    for reader in readers:
        trades = reader.read(message, refused)
        if trades is not None:
            return [*trades, *refused] if refused else trades or NOTHING
    return list(parse(message))


_SAID = {"spot": "spot pair", "perpetual": "perpetual", "future": "future"}


def _moved(listing: Listing, moved: Callable[[RestApi], RestApi]) -> Listing:
    volumes = listing.volumes
    return replace(
        listing, api=moved(listing.api), volumes=None if volumes is None else replace(volumes, api=moved(volumes.api))
    )


class Exchange(ABC, metaclass=_Declaration):
    """One market of an exchange, declared.

    Attributes:
        name: the exchange, a space and the market, such as "binance usdm": bars, errors and logs name both. Without a
            space it is the exchange alone.
        docs: URL of the exchange's documentation.
        routes: URL -> the keys of `channels` that it serves, in order of preference.
        channels: every channel that can be subscribed to -> what its trade ids prove; None: it carries no trades. A key
            that ends with "*" stands for all channels that begin with the rest ("kline_*").
        default_channel: the trade channel that bars are made from by default.
        symbols: how symbols are written, and the names under which the data of some of them arrives.
        limits: rate limits and quotas.
        keepalive: how a connection is kept alive.
        greeting: frames that the client sends first on each connection, before any subscription. They count against the
            limits; an ack of them belongs to no request.
        acks: what an ack names: "request" (its id, perhaps with streams), "streams" (only these), or "none": there are
            no acks, and a request counts as granted once it is sent.
        acks_prove: an ack says that trades will come. False: any name is acknowledged, so that only a trade does.
        sends_recent_trades: on subscribing the latest trades come first, all of them from some trade on.
        candle_open: the open of the exchange's candles. "previous close" counts for high and low too, so that such a
            candle differs from a bar whose first trade has another price.
        negative_prices: prices may be zero or negative (spreads, oil); otherwise such a price is refused as garbage.
        first_ids: trade channel -> the id of a symbol's first trade, where that is known: a bar that begins with it is
            whole, though the stream began inside it.
        candles: bar spec -> channel of the exchange's own candles; only those with the same intervals as our bars.
        histories: trade channel -> REST endpoints of its past trades, in order of preference; holes in other channels
            cannot be healed.
        candle_history: REST endpoint of the exchange's own candles; None: there is none.
        regions: region -> host in the URLs above -> host that serves that region instead; others serve all regions.
        listing: REST endpoint of the instruments, against which symbols are checked; None: there is none.

    Raises:
        TypeError: an attribute is missing or of the wrong kind; when the class is created if it has the attribute, else
            when an instance is. ValueError: attributes that contradict each other, such as a default channel without
            trades.
    """

    name: str
    channels: Mapping[str, Ids | None]
    default_channel: str
    limits: Limits
    routes: Mapping[str, Sequence[str]]
    symbols: SymbolRules = SymbolRules()
    docs: str = ""
    keepalive: Keepalive = PROTOCOL_PINGS_ONLY
    greeting: tuple[bytes, ...] = ()
    acks: Literal["request", "streams", "none"] = "request"
    acks_prove: bool = True
    sends_recent_trades: bool = False
    candle_open: Literal["first trade", "previous close"] = "first trade"
    negative_prices: bool = False
    first_ids: Mapping[str, int] = MappingProxyType({})
    candles: Mapping[str, str] = MappingProxyType({})
    histories: Mapping[str, Sequence[History]] = MappingProxyType({})
    candle_history: CandleHistory | None = None
    listing: Listing | None = None
    regions: Mapping[str, Mapping[str, str]] = MappingProxyType({})

    @property
    def identity(self) -> tuple[str, str]:
        """The exchange and the market as bars name them. They are the first word of `name` and the rest."""
        exchange, _, market = self.name.partition(" ")
        return exchange, market

    def url(self, channels: Iterable[str]) -> str:
        """The URL that serves these channels. Raises SubscriptionError if no single connection serves all of them."""
        return self.urls(channels)[0]

    def urls(self, channels: Iterable[str]) -> list[str]:
        """All URLs that serve these channels, in order of preference; redundant lines use several."""
        asked = {self.declared(channel) for channel in channels} or {self.default_channel}
        urls = [url for url, served in self.routes.items() if asked <= set(served)]
        if not urls:
            raise SubscriptionError(
                f"{self.name}: no single connection serves {sorted(asked)}; routes are {self.routes}"
            )
        return urls

    def in_region(self, region: str, name: str) -> Self:
        """A copy with the hosts of one of its `regions` and another name. Raises KeyError for an unknown region."""
        hosts = self.regions[region]

        def moved(url: str) -> str:
            parts = urlsplit(url)
            there = hosts.get(parts.hostname or "")
            return url if there is None else url.replace(f"//{parts.hostname}", f"//{there}", 1)

        def moved_api(api: RestApi) -> RestApi:
            return replace(api, url=moved(api.url), budget="")  # a region has its own servers, and so its own limits

        regional = copy(self)
        changed: dict[str, object] = {
            "name": name,
            "routes": {moved(url): channels for url, channels in self.routes.items()},
            "histories": {
                channel: tuple(replace(one, api=moved_api(one.api)) for one in served)
                for channel, served in self.histories.items()
            },
            "candle_history": None
            if self.candle_history is None
            else replace(self.candle_history, api=moved_api(self.candle_history.api)),
            "listing": None if self.listing is None else _moved(self.listing, moved_api),
        }
        for attribute, value in changed.items():
            object.__setattr__(regional, attribute, value)  # a declaration may be frozen; this is its own copy
        return regional

    @abstractmethod
    def subscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        """The text frames that subscribe to these (symbol, channel) pairs, at most `streams_per_request`.

        Every frame carries `request_id`, where the exchange's requests have ids.
        """

    @abstractmethod
    def unsubscribe(self, streams: Sequence[Stream], request_id: int) -> list[bytes]:
        """The text frames that unsubscribe from these (symbol, channel) pairs."""

    @abstractmethod
    def parse(self, message: Any) -> Iterable[Message]:
        """The meaning of a decoded message, in order; empty if its kind is unknown.

        Called for every message except trades of channels that have `fields`. Trades that it returns must be in time
        order, whatever order the exchange sends them in.

        Raises:
            ParseError, LookupError, TypeError, ValueError, AttributeError: a message of a known kind is malformed.
        """

    def parser(self) -> Callable[[Any], Iterable[Message]]:
        """The `parse` of one session; override it where messages carry only changes, so that state must be kept."""
        return self.parse

    def read(self, message: Any) -> Sequence[Message]:
        """The meaning of one decoded message: trades as `fields` declares them, all others as `parse` reads them.

        Raises:
            the same as `parse`.
        """
        return _read(self.trade_readers, self.parse, message)

    def reader(self) -> Callable[[Any], Sequence[Message]]:
        """The `read` of one session, with the state of its `parser`; a trade that cannot be read is a RefusedTrade."""
        return partial(_read, self.trade_readers, self.parser(), refuses=True)

    @cached_property
    def trade_readers(self) -> tuple[TradeReader, ...]:
        """The readers of the channels that have `fields`."""
        readers = []
        for channel in self.trade_channels:
            fields = self.fields(channel)
            if not isinstance(fields, TradeFields | None):
                raise TypeError(
                    f"{type(self).__name__}.fields must return TradeFields(...) or None, got {fields!r:.100}"
                )
            if fields is not None:
                readers.append(TradeReader(channel, fields))
        return tuple(readers)

    def login(self, token: str) -> list[bytes]:  # noqa: ARG002
        """The text frames that answer a `TokenWanted`; none if the exchange has no session tokens."""
        return []

    def asked_first(self, url: str, rest_url: str | None) -> list[str]:  # noqa: ARG002
        """REST URLs to be fetched (GET) before each connection to `url`; usually none.

        Args:
            rest_url: as in StreamConfig.
        """
        return []

    def event_time_ns(self, message: Any) -> int | None:
        """When the exchange sent this message, ns; None if unknown.

        By default it is read where `fields` of the default channel says; override it if other messages differ.
        """
        for reader in self.trade_readers:
            if reader.channel == self.default_channel:
                return reader.event_time_ns(message)
        return None

    def fields(self, channel: str) -> TradeFields | None:  # noqa: ARG002
        """Where the trades of a channel are in its messages, for scanner and reader; None: `parse` reads them."""
        return None

    def loads(self, payload: bytes) -> Any:
        """Decode a payload. Prices, sizes and ids must not become floats. Raises ValueError: it is not JSON."""
        return orjson.loads(payload)

    def contract_size(self, symbol: str) -> Decimal | None:  # noqa: ARG002
        """Quote units per contract on an inverse market; None on all others."""
        return None

    def exact_symbols(self, symbols: Iterable[str]) -> list[str]:
        """Normalise symbols to this exchange's spelling, without duplicates.

        Raises:
            TypeError: one string instead of a list, or a symbol that is not a string.
            SubscriptionError: a name that this exchange cannot have, or two symbols whose data arrives under one name.
        """
        if isinstance(symbols, str | bytes) or not isinstance(symbols, Iterable):
            raise TypeError(f"symbols must be a list of strings, not {symbols!r:.80}")
        exact = list(dict.fromkeys(map(self.exact_symbol, symbols)))
        self.symbols.check_apart(exact, self.name)
        return exact

    def exact_symbol(self, symbol: str) -> str:
        """A symbol as this exchange writes it, given that or its alias, such as "BTC/USDT:USDT".

        Raises:
            TypeError: it is not a string. SubscriptionError: this exchange cannot have a symbol of that name.
        """
        try:
            return self.symbols.exact(symbol, self.name)
        except SubscriptionError:
            alias = read_alias(symbol)
            if alias is None:
                raise
            if self.symbols.case == "upper":
                alias = read_alias(str(alias).upper()) or alias
            native = self.native_name(alias)
            if native is not None:
                return self.symbols.exact(native, self.name)
            others = [str(other) for other in alias.others if self.native_name(other) is not None]
            if not others:
                raise
            meant = ", ".join(map(repr, others))
            raise SubscriptionError(
                f"{self.name}: {str(alias)!r} names a {_SAID[alias.kind]}, which this market does not have;"
                f" it could have {meant}",
                (str(symbol),),
            ) from None

    def native_name(self, alias: Alias) -> str | None:  # noqa: ARG002
        """This exchange's own name for an alias, by rule; None: it has no such instrument, or no rule tells."""
        return None

    def streams_in(self, url: str) -> list[Stream]:  # noqa: ARG002
        """The streams that a URL itself subscribes to, on exchanges where it can."""
        return []

    def ids(self, channel: str) -> Ids:
        """The kind of trade ids of a trade channel, as declared in `channels`. Raises SubscriptionError for others."""
        ids = self.channels.get(channel)
        if ids is None:
            raise SubscriptionError(f"{self.name}: {channel!r} is not a trade channel; those are {self.trade_channels}")
        return ids

    def id_policy(self, channel: str) -> IdPolicy:
        """What the trade ids of a trade channel can prove."""
        return IdPolicy.of(self.ids(channel))

    def history(self, channel: str, *, has_key: bool) -> History | None:
        """The REST history that heals a channel: the first that needs no API key, or whose key is given."""
        served = self.histories.get(channel, ())
        usable = [one for one in served if has_key or one.key_header is None]
        return next(iter((*usable, *served)), None)

    @property
    def trade_channels(self) -> list[str]:
        """The channels that carry trades."""
        return [name for name, ids in self.channels.items() if ids is not None]

    def declared(self, channel: str) -> str:
        """The key of `channels` that a channel falls under. Raises SubscriptionError where there is none."""
        name = _key_of(channel, self.channels)
        if name is None:
            raise SubscriptionError(f"{self.name}: unknown channel {channel!r}; known are {list(self.channels)}")
        return name

    def exclusive_place(self, stream: Stream) -> tuple[str, str] | None:
        """(symbol, key of `channels`) that a connection can hold only once, if the stream is of such a channel."""
        if not self.limits.exclusive:
            return None
        key = self.declared(stream[1])
        return (stream[0], key) if key in self.limits.exclusive else None

    def check_channel(self, channel: str) -> None:
        """Raise SubscriptionError if this exchange has no such channel."""
        self.declared(channel)
