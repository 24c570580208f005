"""Keeping secrets out of texts: credentials in addresses, and every secret that a configuration was given.

Errors about connections and every line of the log pass through here, so no author of a message has to think of it.
"""

from __future__ import annotations

import base64
import re

HIDDEN = "***"

_MOST_KEPT = 1_000
_SHORTEST_KEPT = 6  # shorter ones would match parts of ordinary words
_ADDRESS = re.compile(
    r"(?i)\b((?:wss?|https?|ftp|gopher|socks[45][ah]?|postgres(?:ql)?|clickhouses?|rediss?|nats|tls|kafka)://)([^\s'\"<>]*)"
)
_NAMES = "key|token|secret|sign|pass|pwd|auth|session|cred|jwt|user|login"
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
_QUERY = re.compile(rf"([?&][^=&\s]*(?:{_NAMES})[^=&\s]*=)[^&\s'\"]*", re.IGNORECASE)
_LONG_SEGMENT = 32
_MIXED_SEGMENT = 20  # letters and digits: shorter ones are versions and names of contracts
_SEGMENT_BEHIND_KEY = 6
# A key may follow these in a path. So may names of streams, which contain a character that no key has.
_KEY_FOLLOWS = frozenset({"ws", "private", "listenkey", "userdata", "user-data", "key", "token", "stream"})
_OF_STREAMS = re.compile(r"[@!:,]|%40|%21")
_PUBLIC_SEGMENTS = frozenset({"public", "private", "market", "business", "stream", "linear", "inverse", "option"})

# An ordered set: the secrets that this process was given, the newest last.
_kept: dict[str, None] = {}


def keep_secret(*values: object) -> None:
    """From now on, hide these values in every text that passes through `without_credentials`."""
    from urllib.parse import quote, unquote  # noqa: PLC0415 a seventh of the time that fastbars takes to import

    for given in values:
        value = given.decode("latin-1") if isinstance(given, bytes) else given
        if isinstance(value, str) and len(value) >= _SHORTEST_KEPT:
            for written in (value, quote(value, safe=""), quote(value), unquote(value)):
                _kept.pop(written, None)
                _kept[written] = None
    while len(_kept) > _MOST_KEPT:
        del _kept[next(iter(_kept))]


def keep_address_secret(address: object) -> None:
    """The same for the secrets in an address: its password, and keys in its path and query."""
    if not isinstance(address, str):
        return
    from urllib.parse import parse_qsl, unquote  # noqa: PLC0415 likewise

    authority, path, query = _parts(address.partition("://")[2])
    login = authority.rpartition("@")[0]
    if login:
        keep_secret(login.partition(":")[2])
        keep_secret(base64.b64encode(unquote(login).encode()).decode())
    segments = path.split("/")
    keep_secret(*(each for before, each in zip(["", *segments], segments, strict=False) if _is_key(before, each)))
    keep_secret(*(value for name, value in parse_qsl(query) if _SECRET_NAME.search(name) or _is_key("", value)))


def is_secret_name(name: str) -> bool:
    """Whether a header or query parameter of this name holds a secret."""
    return bool(_SECRET_NAME.search(name)) or name.lower() == "cookie"


def without_credentials(text: str) -> str:
    """The text with users, passwords and keys in addresses, and all secrets that were kept, replaced by ***."""
    text = _QUERY.sub(rf"\1{HIDDEN}", _ADDRESS.sub(_shown_address, text))
    for secret in sorted(_kept, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def without_path_keys(text: str) -> str:
    """The text, a path or a request line, with keys in paths replaced by *** too."""
    return re.sub(r"/[^\s?#]*", lambda path: _shown_path(path[0]), text)


def hidden(error: BaseException) -> BaseException | None:
    """The error, to be the cause of another; None if its text, or that of one of its causes, would show secrets."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        for text in (str(cause), repr(cause)):
            if without_credentials(text) != text:
                return None
        cause = cause.__cause__ or cause.__context__
    return error


def host_of(address: str) -> str:
    """The host of an address, with its port; "" where it has none."""
    from urllib.parse import urlsplit  # noqa: PLC0415 likewise

    try:
        return urlsplit(address).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _parts(rest: str) -> tuple[str, str, str]:
    # Authority, path and query of what follows "://"; a password may contain an @.
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    path, _, query = rest[end:].partition("?")
    return rest[:end], path, query


def _shown_address(match: re.Match[str]) -> str:
    authority, path, query = _parts(match[2])
    login, at, host = authority.rpartition("@")
    shown = match[1] + (f"{HIDDEN}@{host}" if at else login + host) + _shown_path(path)
    if query or match[2].endswith("?"):
        shown += "?" + "&".join(map(_shown_pair, query.split("&")))
    return shown


def _shown_path(path: str) -> str:
    segments = path.split("/")
    return "/".join(
        HIDDEN if _is_key(before, each) else each for before, each in zip(["", *segments], segments, strict=False)
    )


def _shown_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    secret = equals and value and (_SECRET_NAME.search(name) or _is_key("", value))
    return f"{name}={HIDDEN}" if secret else pair


def _is_key(before: str, segment: str) -> bool:
    # Whether a segment of a path may be a key, given the segment before it.
    if not segment or _OF_STREAMS.search(segment):
        return False
    if before.lower() in _KEY_FOLLOWS and len(segment) >= _SEGMENT_BEHIND_KEY:
        return segment.lower() not in _PUBLIC_SEGMENTS
    mixed = any(c.isdigit() for c in segment) and any(c.isalpha() for c in segment)
    return len(segment) >= _LONG_SEGMENT or (len(segment) >= _MIXED_SEGMENT and mixed)
