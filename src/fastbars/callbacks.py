"""Calling a user's code so that an error in it is reported and loses nothing of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def call(callback: Callable[[T], object], value: T) -> bool:
    """Call `callback(value)`; an exception is logged with its traceback. True: it returned normally."""
    try:
        callback(value)
    except Exception:  # noqa: BLE001 a user's code may raise anything
        from fastbars.log import log  # noqa: PLC0415 structlog loads when there is something to say

        log.exception("callback_failed", callback=getattr(callback, "__qualname__", repr(callback)))
        return False
    return True
