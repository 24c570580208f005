"""Keeping credentials out of logs and errors: users and passwords in addresses, keys in queries and headers."""

from __future__ import annotations

import logging
import re
from urllib.parse import urljoin, urlsplit

_HIDDEN = "***"
_USERINFO = re.compile(r"(?<=://)[^/?#\s'\"]*@")
_QUERY = re.compile(r"(?i)([?&][^=&\s]*(?:key|token|secret|sign|passw|auth|session)[^=&\s]*=)[^&\s'\"]*")
_HEADER = re.compile(r"(?im)((?:[a-z-]*(?:authorization|cookie|key|token|secret|sign|passphrase))\s*:\s).*")
_PUBLIC_HEADER = re.compile(r"(?i)sec-websocket-")


def without_credentials(text: str) -> str:
    """The text with users and passwords in addresses, and keys in their queries, replaced by ***."""
    return _QUERY.sub(rf"\1{_HIDDEN}", _USERINFO.sub(f"{_HIDDEN}@", text))


class _CredentialFilter(logging.Filter):
    # `websockets` logs each header of the handshake at DEBUG level.
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        hidden = without_credentials(text)
        if not _PUBLIC_HEADER.search(hidden):
            hidden = _HEADER.sub(rf"\1{_HIDDEN}", hidden)
        if hidden != text:
            record.msg, record.args = hidden, ()
        return True


wire_log = logging.getLogger("fastbars.websockets")
wire_log.addFilter(_CredentialFilter())


def host_of(location: str, url: str) -> str:
    """Where a redirect of `url` leads: the host alone, for the rest may carry secrets."""
    try:
        return urlsplit(urljoin(url, location)).netloc.rpartition("@")[2] or "nowhere"
    except ValueError:
        return "an address that makes no sense"


def hidden(error: BaseException) -> BaseException | None:
    """The error as the cause of another one; None where its own text would show credentials."""
    return error if without_credentials(str(error)) == str(error) else None
