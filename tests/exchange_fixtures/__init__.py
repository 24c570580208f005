"""What each exchange's messages look like and mean: fixtures for the contract that all exchanges share, a file each.

The formats are those of the official documentation (`docs` of each exchange); the values are made up. A file has
`FIXTURES`: name of the market -> its fixtures; one that is added here is found.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from fastbars.testing import ExchangeFixtures

FIXTURES: dict[str, ExchangeFixtures] = {
    name: fixtures
    for module in iter_modules(__path__)
    if module.name != "values"
    for name, fixtures in import_module(f"{__name__}.{module.name}").FIXTURES.items()
}
