"""A function as a sink: it is given each batch as a list of bars, and confirms it by returning."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from fastbars.sinks.declaration import SinkError
from fastbars.sinks.rows import Rows

__all__ = ["FunctionSink"]


class FunctionSink:
    """Calls a function with lists of bars; one that raises is down, and is given the same bars again.

    Args:
        function: plain or async. A plain one holds the event loop up while it runs.
    """

    def __init__(self, function: Callable[[Any], object]) -> None:
        self.name = getattr(function, "__qualname__", type(function).__name__)
        self._function = function

    async def open(self) -> None:
        """Nothing to open."""

    async def write(self, rows: Rows) -> None:
        """Call it. Raises SinkError from what it raises."""
        try:
            result = self._function(list(rows.bars))
            if inspect.isawaitable(result):
                await result
        except SinkError:
            raise
        except Exception as error:
            raise SinkError(f"{self.name} raised {type(error).__name__}: {error}") from error

    async def flush(self) -> None:
        """It has returned."""

    async def close(self) -> None:
        """Nothing to close."""
