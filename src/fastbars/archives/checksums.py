"""Checksums that lie beside files, as Binance publishes them: NAME.CHECKSUM, "<sha256 in hex>  NAME".

Source: https://github.com/binance/binance-public-data
"""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["checksum_fault", "stated_checksum"]

_MOST_BYTES = 4096
_HEX_DIGITS = 64


def stated_checksum(path: Path) -> str | None:
    """The sha256 that the file beside it states, "" where that is none; None: there is no such file."""
    try:
        with path.with_name(f"{path.name}.CHECKSUM").open("rb") as file:
            words = file.read(_MOST_BYTES).decode("utf-8", "replace").split()
    except FileNotFoundError:
        return None
    word = words[0].lower() if words else ""
    return word if len(word) == _HEX_DIGITS and set(word) <= set("0123456789abcdef") else ""


def checksum_fault(path: Path) -> str:
    """What is wrong with a file by its checksum; "": nothing, or there is none. Raises OSError: it cannot be read."""
    stated = stated_checksum(path)
    if stated is None:
        return ""
    if not stated:
        return f"{path.name}.CHECKSUM has no sha256"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return "" if found == stated else f"sha256 is {found}, {path.name}.CHECKSUM says {stated}"
