"""URLs of sinks: what of them is for the server, what is for us, and what may be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from fastbars.sinks.declaration import SinkRefused

__all__ = ["checked_name", "host_names", "is_untrusted", "login_of", "number_of_option", "shown_url", "split_options"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,49}")
_LONGEST = 4_000


def split_options(url: str, defaults: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Take our options out of the query of a URL.

    Args:
        defaults: names and default values of the options.

    Returns:
        The URL without them, and all of them with their values.

    Raises:
        SinkRefused: it is no URL, or an option is given twice.
    """
    if len(url) > _LONGEST:
        raise SinkRefused(f"{shown_url(url[:100])}: a URL of {len(url)} characters; at most {_LONGEST:,}")
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        _ = parts.port if "," not in parts.netloc else None
    except ValueError as error:
        raise SinkRefused(f"{shown_url(url)}: malformed URL: {_shown_reason(error)}") from None
    options, others = dict(defaults), []
    seen = set()
    for name, value in pairs:
        if name in seen:
            raise SinkRefused(f"{shown_url(url)}: {name} is given twice")
        seen.add(name)
        if name in defaults:
            options[name] = value
        else:
            others.append((name, value))
    return urlunsplit(parts._replace(query=urlencode(others, quote_via=quote, safe="/:,"))), options


def shown_url(url: str) -> str:
    """The URL without user, password and query."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}".rstrip("/")


def login_of(url: str) -> tuple[str, str]:
    """User and password, empty where there are none."""
    login = urlsplit(url).netloc.rpartition("@")[0]
    user, _, password = login.partition(":")
    return unquote(user), unquote(password)


def host_names(url: str, port: int) -> list[str]:
    """HOST:PORT of each server that a URL names, separated by commas; `port` where one has none."""
    hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    named = [host for host in hosts if host]
    if not named:
        raise SinkRefused(f"{shown_url(url)} names no server")
    return [host if re.search(r":\d+$", host) else f"{host}:{port}" for host in named]


def checked_name(url: str, option: str, name: str) -> str:
    """A name of a table or the like: letters, digits and _. Raises SinkRefused."""
    if not _NAME.fullmatch(name):
        raise SinkRefused(f"{shown_url(url)}: {option}={name!r:.60} must be letters, digits and _, at most 50")
    return name


def number_of_option(url: str, option: str, value: str, least: float, most: float) -> float:
    """A number within limits. Raises SinkRefused."""
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise SinkRefused(f"{shown_url(url)}: {option}={value!r:.60} must be a number from {least:g} to {most:g}")
    return number


def is_untrusted(error: BaseException) -> bool:
    """Whether it says that the certificate of a server is signed by nobody trusted, or for another name."""
    return "certificate" in (text := str(error).lower()) and "verif" in text


def _shown_reason(error: ValueError) -> str:
    # The text of some errors holds parts of the URL.
    return "port or host" if "ort" in str(error) else "host or query"
