"""Keeping credentials out of what `websockets` logs: each header of the handshake, at DEBUG level."""

from __future__ import annotations

import logging
import re
from urllib.parse import urljoin

from fastbars.redaction import HIDDEN, hidden, host_of, without_credentials, without_path_keys

__all__ = ["hidden", "target_of", "wire_log", "without_credentials"]

_HEADER = re.compile(r"(?im)((?:[a-z-]*(?:authorization|cookie|key|token|secret|sign|passphrase))\s*:\s).*")
_PUBLIC_HEADER = re.compile(r"(?i)sec-websocket-")
# Of a long message the middle is left out, so that a token in it is not found as a whole.
_SESSION = re.compile(r'(?i)("session"\s*:\s*").*')
_REQUEST_LINE = re.compile(r"(?:GET|CONNECT) \S+ HTTP/")


class _CredentialFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        shown = _SESSION.sub(rf"\1{HIDDEN}", without_credentials(text))
        if _REQUEST_LINE.search(shown):
            shown = without_path_keys(shown)
        if not _PUBLIC_HEADER.search(shown):
            shown = _HEADER.sub(rf"\1{HIDDEN}", shown)
        if shown != text:
            record.msg, record.args = shown, ()
        return True


wire_log = logging.getLogger("fastbars.websockets")
wire_log.addFilter(_CredentialFilter())


def target_of(location: str, url: str) -> str:
    """Where a redirect of `url` leads: the host alone, for the rest may carry secrets."""
    try:
        return host_of(urljoin(url, location)) or "nowhere"
    except ValueError:
        return "a malformed address"
