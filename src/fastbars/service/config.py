"""The configuration of a service: a TOML file, checked as a whole before anything is connected.

    text -> tomllib -> environment -> types (msgspec) -> values (the library's own checks) -> Config

Every error names file, line and key. Every field of `StreamConfig` is a key of [stream], and of the [stream] of a
venue, which goes before it: a new field is a new key. Secrets stand in the environment: "${NAME}" in any text is its
value.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

import msgspec

from fastbars.errors import FastbarsError
from fastbars.exchanges import find_exchange
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.instruments import Where, where
from fastbars.live.config import StreamConfig
from fastbars.live.past.plan import HistoryFrom
from fastbars.redaction import is_secret_name, keep_address_secret, keep_secret, without_credentials
from fastbars.service.toml_lines import Path as KeyPath, line_of, lines_of
from fastbars.sinks import SinkError, open_sink
from fastbars.specs import parse_specs

__all__ = ["KNOBS", "Config", "ConfigError", "LogConfig", "SinkConfig", "Venue", "WebConfig", "read_config"]

_MOST_BYTES = 1 << 20
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# Made by the service itself, or no value of a file.
_NOT_IN_FILES = {"bars", "bar_resolution", "ssl", "origin", "connect_options", "close_by"}


class ConfigError(FastbarsError):
    """The configuration cannot be used; the message names file, line and key."""


def _knobs() -> dict[str, Any]:
    hints = get_type_hints(StreamConfig)
    found = {}
    for knob in fields(StreamConfig):
        if knob.name in _NOT_IN_FILES:
            continue
        hint = hints[knob.name]
        if knob.name == "state":
            hint = str | None
        elif knob.name == "proxy":
            hint = str | bool | None
        assert knob.default is not MISSING or knob.default_factory is not MISSING
        found[knob.name] = hint | None | msgspec.UnsetType
    return found


KNOBS: Mapping[str, Any] = _knobs()
"""The keys of [stream]: fields of `StreamConfig`, and their types."""
_Knobs: Any = msgspec.defstruct(
    "Knobs", [(name, kind, msgspec.UNSET) for name, kind in KNOBS.items()], forbid_unknown_fields=True, kw_only=True
)


class _Filter(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    base: str | list[str] | None = None
    quote: str | list[str] | None = None
    settle: str | list[str] | None = None
    kind: str | list[str] | None = None
    status: str | list[str] | None = "trading"
    inverse: bool | None = None
    name: str | None = None
    exclude: list[str] = []
    min_volume: str | int | float | None = None


class Venue(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """[venues.NAME]: what is streamed of one venue and market, such as "binance:usdm".

    Attributes:
        symbols: as the exchange writes them, or their aliases.
        where: instead of `symbols`: a choice of instruments, by the arguments of `fastbars.where`.
        channel, url: as in `fastbars.stream`.
        stream: settings of this venue alone.
    """

    symbols: list[str] = []
    where: _Filter | None = None
    channel: str | None = None
    url: str | None = None
    stream: _Knobs = msgspec.field(default_factory=_Knobs)


class SinkConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """[sinks.NAME]: `url`, as `fastbars.sinks.open_sink` takes it."""

    url: str


class WebConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """[web]: the web server. `token`: without one it listens on loopback only."""

    host: str = "127.0.0.1"
    port: int = 9100
    token: str | None = None


class LogConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """[log]: "json" lines, or text for a console; from which level on."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a service does; see docs/configuration.md.

    Attributes:
        source: name of this stream in what sinks keep; the host's name if empty.
        bars: bar specs.
        venues: by exchange, or exchange and market.
        stream: every field of `StreamConfig`, for all venues.
        history, history_from, verify, record: as in `fastbars.stream`.
        sinks: where bars are kept, by name.
        web: the web server; None: none.
        log: how events are logged.
    """

    venues: dict[str, Venue]
    bars: str | list[str] = "1m"
    source: str = ""
    stream: _Knobs = msgspec.field(default_factory=_Knobs)
    history: int | str | None = None
    history_from: HistoryFrom | None = None
    verify: bool | float = False
    record: str | None = None
    sinks: dict[str, SinkConfig] = {}
    web: WebConfig | None = None
    log: LogConfig = msgspec.field(default_factory=LogConfig)

    def exchange(self, name: str) -> Exchange:
        """Of a venue."""
        return find_exchange(name)

    def symbols(self, name: str) -> list[str] | Where:
        """What is subscribed to of a venue: names, as its exchange writes them, or a choice."""
        venue = self.venues[name]
        if venue.where is not None:
            given = msgspec.structs.asdict(venue.where)
            return where(**{key: value for key, value in given.items() if value is not None or key == "status"})
        return list(find_exchange(name).exact_symbols(venue.symbols))

    def stream_config(self, name: str) -> StreamConfig:
        """The settings of a venue. Raises ValueError: the message begins with the name of the field."""
        shared, own = _set(self.stream), _set(self.venues[name].stream)
        if shared.get("state"):  # a file belongs to one venue
            path = Path(shared["state"])
            shared["state"] = str(path.with_name(f"{path.stem}.{'-'.join(find_exchange(name).identity)}{path.suffix}"))
        return StreamConfig(bars=self.bars, **(shared | own))

    @property
    def specs(self) -> tuple[str, ...]:
        """Of the bars, as text."""
        return tuple(map(str, parse_specs(self.bars)))


def read_config(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check a configuration file. Nothing is connected, opened or written.

    Args:
        path: of the file, of 1 MB at most.
        environ: what "${NAME}" is looked up in.

    Raises:
        ConfigError: it cannot be read, or is wrong.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from error
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{file}: has more than {_MOST_BYTES:,} bytes")
    try:
        text = content.decode()
        parsed = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}:{content[: error.start].count(b'%c' % 10) + 1}: is not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        line = re.search(r"at line (\d+)", str(error))
        raise ConfigError(f"{file}{':' + line[1] if line else ''}: is not TOML: {error}") from None
    return _Check(file, lines_of(text.replace("\r\n", "\n"))).config(parsed, environ)


class _Check:
    # Raises errors that name where they are.

    def __init__(self, file: Path, lines: dict[KeyPath, int]) -> None:
        self._file = file
        self._lines = lines

    def config(self, parsed: dict[str, Any], environ: Mapping[str, str]) -> Config:
        filled = self._filled(parsed, environ, ())
        # One by one, as errors of msgspec do not say which member of a mapping they are about.
        apart: dict[str, dict[str, Any]] = {}
        for key, kind in (("venues", Venue), ("sinks", SinkConfig)):
            given = filled.get(key, {})
            if not isinstance(given, dict):
                raise self.error((key,), f"expected a table, got {type(given).__name__}")
            apart[key] = {name: self._typed(one, kind, (key, name)) for name, one in given.items()}
        config: Config = self._typed({**filled, "venues": {}, "sinks": {}}, Config, ())
        config = msgspec.structs.replace(config, **apart)
        if not config.venues:
            raise self.error((), "no venue is given: [venues.binance]")
        try:
            parse_specs(config.bars)
        except (FastbarsError, ValueError) as error:
            raise self.error(("bars",), str(error)) from None
        for name, venue in config.venues.items():
            self._venue(config, name, venue)
        identities: dict[tuple[str, str], str] = {}
        for name in config.venues:
            other = identities.setdefault(find_exchange(name).identity, name)
            if other != name:
                raise self.error(("venues", name), f"is the same venue as {other}: list its symbols there")
        for name, sink in config.sinks.items():
            keep_address_secret(sink.url)
            try:
                open_sink(sink.url)
            except SinkError as error:
                raise self.error(("sinks", name, "url"), str(error)) from None
        return config

    def error(self, path: KeyPath, message: str) -> ConfigError:
        shown = ".".join(_quoted(part) for part in path)
        where_it_is = f"{self._file}:{line_of(self._lines, path)}"
        return ConfigError(without_credentials(f"{where_it_is}: {shown + ': ' if shown else ''}{message}"))

    def _venue(self, config: Config, name: str, venue: Venue) -> None:
        path: KeyPath = ("venues", name)
        try:
            exchange = find_exchange(name)
        except (FastbarsError, ValueError) as error:
            raise self.error(path, str(error)) from None
        if bool(venue.symbols) == (venue.where is not None):
            raise self.error(path, "needs either symbols or where")
        try:
            config.symbols(name)
        except (FastbarsError, ValueError, TypeError) as error:
            raise self.error((*path, "where" if venue.where else "symbols"), str(error)) from None
        if venue.channel is not None:
            try:
                exchange.ids(venue.channel)
            except (FastbarsError, ValueError, KeyError) as error:
                raise self.error((*path, "channel"), str(error)) from None
        try:
            config.stream_config(name)
        except (FastbarsError, ValueError, TypeError) as error:
            raise self.error(self._knob(str(error), name), str(error)) from None

    def _knob(self, message: str, name: str) -> KeyPath:
        # Which key of [stream] a message of StreamConfig is about: it begins with it.
        word = re.match(r"\w*", message)
        knob = word[0] if word else ""
        for path in (("venues", name, "stream", knob), ("stream", knob)):
            if path in self._lines:
                return path
        return ("stream",) if ("stream",) in self._lines else ("venues", name)

    def _filled(self, value: Any, environ: Mapping[str, str], path: KeyPath) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(one, environ, (*path, key)) for key, one in value.items()}
        if isinstance(value, list):
            return [self._filled(one, environ, (*path, place)) for place, one in enumerate(value)]
        if not isinstance(value, str):
            return value
        for name in _VARIABLE.findall(value):
            if name not in environ:
                raise self.error(path, f"the environment has no {name}")
            if is_secret_name(name) or is_secret_name(str(path[-1])):
                keep_secret(environ[name])
        return _VARIABLE.sub(lambda match: environ[match[1]], value)

    def _typed(self, value: Any, kind: Any, path: KeyPath) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise self._of_type(error, kind, path) from None

    def _of_type(self, error: msgspec.ValidationError, kind: Any, prefix: KeyPath) -> ConfigError:
        message, _, place = str(error).partition(" - at `$")
        own = _parsed(place.rstrip("`"))
        path = (*prefix, *own)
        unknown = re.fullmatch(r"Object contains unknown field `(.*)`", message)
        if unknown:
            known = _keys_at(kind, own)
            near = difflib.get_close_matches(unknown[1], known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}" if known else ""
            return self.error((*path, unknown[1]), f"no such key{hint}")
        missing = re.fullmatch(r"Object missing required field `(.*)`", message)
        if missing:
            return self.error(path, f"{missing[1]} is missing")
        return self.error(path, message[:1].lower() + message[1:].replace("`", ""))


def _parsed(place: str) -> KeyPath:
    # A path as msgspec writes it: `.stream.lateness`, `.bars[0]`.
    return tuple(int(number) if number else name for number, name in re.findall(r"\[(\d+)\]|\.(\w+)", place))


def _keys_at(kind: Any, path: KeyPath) -> list[str]:
    kinds: dict[Any, Any] = {"stream": _Knobs, "web": WebConfig, "log": LogConfig, "where": _Filter}
    found: Any = kinds.get(path[-1]) if path else kind
    return sorted(found.__struct_fields__)


def _quoted(part: str | int) -> str:
    text = str(part)
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else f'"{text}"'


def _set(knobs: Any) -> dict[str, Any]:
    given = msgspec.structs.asdict(knobs)
    return {name: value for name, value in given.items() if value is not msgspec.UNSET}
