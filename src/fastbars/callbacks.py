"""User callbacks: checked when they are given, and called so that an error in one is logged and costs no data.

Callbacks are plain functions: they are called in the middle of a wakeup, and nobody would await what they return. One
that cannot work is refused when it is given; one whose result turns out to be a coroutine counts as failed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import CoroutineType
from typing import Any, TypeVar

T = TypeVar("T")


def check_callbacks(**callbacks: Callable[[Any], object] | None) -> None:
    """Raise TypeError, naming the argument, for a callback that cannot work; None means that there is none."""
    for name, callback in callbacks.items():
        if callback is None:
            continue
        if not callable(callback):
            raise TypeError(f"{name} must be a function, got {callback!r:.100}")
        function: Any = callback
        while isinstance(function, functools.partial):
            function = function.func
        if not inspect.isroutine(function) and not inspect.isclass(function):
            function = type(function).__call__
        function = inspect.unwrap(function)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{name} must be a plain function, got the async function {_name(callback)}: nobody would await it;"
                " let it put what it is given into an asyncio.Queue, or create a task"
            )
        if inspect.isgeneratorfunction(function):
            raise TypeError(f"{name} must be a plain function, got the generator {_name(callback)}: it would never run")


def call(callback: Callable[[T], object], value: T) -> bool:
    """Call `callback(value)`; log an exception with its traceback. Returns whether it succeeded."""
    try:
        result = callback(value)
        if isinstance(result, CoroutineType):
            result.close()  # or Python would warn that it was never awaited
            raise TypeError(f"{_name(callback)} returned a coroutine; callbacks must be plain functions")
    except Exception:  # noqa: BLE001 a user's code may raise anything
        from fastbars.log import log  # noqa: PLC0415 structlog is imported only when there is something to log

        log.exception("callback_failed", callback=_name(callback))
        return False
    return True


def _name(callback: object) -> str:
    return str(getattr(callback, "__qualname__", None) or repr(callback))
