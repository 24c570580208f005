"""`fastbars status URL`: the counters of a running service as a table."""

from __future__ import annotations

import argparse
import http.client
import os
import urllib.error
import urllib.request
from typing import Any

import orjson

from fastbars.cli.console import Console
from fastbars.cli.text import printable
from fastbars.errors import FastbarsError
from fastbars.redaction import keep_secret, without_credentials

__all__ = ["show_status"]

_TIMEOUT_S = 10.0
_MOST_BYTES = 8 << 20


def show_status(options: argparse.Namespace, _: Console) -> int:
    """Print it. Returns 1 where the service is not ready. Raises FastbarsError: it does not answer."""
    content = _fetched(options.url.rstrip("/") + "/stats", options.token_env)
    print(printable_table(content))
    return 1 if content.get("reasons") else 0


def printable_table(content: dict[str, Any]) -> str:
    """The counters as text: a line a venue, a line a sink, and why it is not ready."""
    venues: dict[str, Any] = content.get("venues") or {}
    rows = [["venue", "state", "symbols", "trades", "bars", "late", "refused", "healed", "holes", "connects"]]
    for name, own in venues.items():
        buffer = own["buffer"]
        rows.append([
            name, "failed" if own["failure"] else own["state"], content["subscribed"].get(name, 0), buffer["trades"],
            buffer["bars"], buffer["late"], buffer["refused"], buffer["healed"], content["holes"].get(name, 0),
            own["connections"],
        ])  # fmt: skip
    text = _aligned(rows)
    sinks: dict[str, Any] = content.get("sinks") or {}
    if sinks:
        rows = [["sink", "state", "waiting", "confirmed", "failures", "behind"]]
        for name, own in sinks.items():
            rows.append([
                name, own["state"], own["waiting"], own["confirmed"], own["failures"], f"{own['lag_s']:.1f} s",
            ])  # fmt: skip
        text += "\n\n" + _aligned(rows)
    for name, reason in content.get("reasons", {}).items():
        text += f"\n\n{name}: {reason}"
    return "\n".join(printable(line) for line in text.splitlines())


def _aligned(rows: list[list[Any]]) -> str:
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    numbers = [all(isinstance(row[place], int) for row in rows[1:]) for place in range(len(widths))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in texts
    )


def _fetched(url: str, token_env: str | None) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise FastbarsError(f"{url!r:.200} is no address of a service: http://HOST:PORT")
    request = urllib.request.Request(url)  # noqa: S310 checked above
    if token_env is not None:
        token = os.environ.get(token_env)
        if not token:
            raise FastbarsError(f"the environment has no {token_env}")
        keep_secret(token)
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 likewise
            body = answer.read(_MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        hint = ": give the name of the variable with its token, --token-env NAME" if error.code == 401 else ""
        raise FastbarsError(f"{without_credentials(url)}: HTTP {error.code}{hint}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise FastbarsError(f"{without_credentials(url)}: {getattr(error, 'reason', error)}") from error
    try:
        content = orjson.loads(body)
        if len(body) > _MOST_BYTES or not isinstance(content, dict):
            raise ValueError
    except ValueError:
        raise FastbarsError(f"{without_credentials(url)}: the answer is not that of a service of fastbars") from None
    return content
