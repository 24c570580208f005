"""The dialects by exchange name: every module of this package with a `DIALECT` is one."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from fastbars.errors import UnknownExchangeError
from fastbars.simulator.dialect import Dialect

__all__ = ["dialects", "find_dialect"]


@cache
def dialects() -> dict[str, type[Dialect]]:
    """All dialects, by module name, which is the exchange's name."""
    # Imported on demand rather than at import, as the modules of this package import each other.
    names = sorted(module.name for module in iter_modules([str(Path(__file__).parent)]))
    modules = {name: import_module(f"fastbars.simulator.{name}") for name in names}
    return {name: module.DIALECT for name, module in modules.items() if hasattr(module, "DIALECT")}


def find_dialect(exchange: str) -> type[Dialect]:
    """The dialect of an exchange. Raises UnknownExchangeError, which lists the known ones."""
    dialect = dialects().get(exchange.lower())
    if dialect is None:
        raise UnknownExchangeError(f"simulator: no dialect of {exchange!r}; known are {', '.join(dialects())}")
    return dialect
