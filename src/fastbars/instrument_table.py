"""`fastbars.instruments`: what an exchange lists, as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from typing import Any, overload

from fastbars.exchanges import find_exchange
from fastbars.exchanges.declaration import Exchange
from fastbars.exchanges.instruments import Instrument, Where
from fastbars.live.config import StreamConfig
from fastbars.live.instrument_source import InstrumentSource
from fastbars.times import to_nanoseconds

INSTRUMENT_FIELDS = (*(field.name for field in fields(Instrument)), "alias")
_DECIMALS = ("price_tick", "size_step", "contract_size", "quote_volume")
_TIMES = ("expiry", "listed_at")


class InstrumentTable:  # not a Sequence: polars would take it for a list of objects, and pass its columns by
    """Instruments, as a sequence of them and as an Arrow table; `table["BTC/USDT"]` is one by its symbol or alias.

    Args:
        instruments: in the order of the table.
    """

    def __init__(self, instruments: Iterable[Instrument] = ()) -> None:
        self._items = tuple(instruments)
        self._names: dict[str, list[Instrument]] = {}
        for one in self._items:
            if one.alias is not None:
                self._names.setdefault(one.alias, []).append(one)
        # A symbol is its own identity, whatever the alias of another one is.
        self._names |= {one.symbol: [one] for one in self._items}

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._items)

    def __contains__(self, one: object) -> bool:
        return one in self._names if isinstance(one, str) else one in self._items

    @overload
    def __getitem__(self, key: int | str) -> Instrument: ...
    @overload
    def __getitem__(self, key: slice) -> InstrumentTable: ...
    def __getitem__(self, key: int | str | slice) -> Instrument | InstrumentTable:
        """By place, or by symbol or alias. Raises IndexError; KeyError: it is not there, or an alias of several."""
        if isinstance(key, slice):
            return InstrumentTable(self._items[key])
        if not isinstance(key, str):
            return self._items[key]
        found = self._names.get(key, [])
        if not found:
            raise KeyError(f"no instrument has the symbol or alias {key!r}")
        if len(found) > 1:
            raise KeyError(f"{key!r} is the alias of {', '.join(one.symbol for one in found)}")
        return found[0]

    @property
    def symbols(self) -> list[str]:
        """The symbols, for `stream`."""
        return [one.symbol for one in self._items]

    def where(self, chosen: Where) -> InstrumentTable:
        """Those that `fastbars.where(...)` chooses."""
        return InstrumentTable(filter(chosen.takes, self._items))

    def sorted(self, key: str | Callable[[Instrument], Any] = "symbol", *, descending: bool = False) -> InstrumentTable:
        """In the order of a field, or of what a function returns; instruments without a value come last."""
        value = (lambda one: getattr(one, key)) if isinstance(key, str) else key
        if isinstance(key, str) and key not in INSTRUMENT_FIELDS:
            raise KeyError(f"an instrument has no {key!r}; it has {', '.join(INSTRUMENT_FIELDS)}")
        pairs = [(value(one), one) for one in self._items]
        known = [pair for pair in pairs if pair[0] is not None]
        known.sort(key=lambda pair: pair[0], reverse=descending)
        return InstrumentTable(one for _, one in [*known, *(pair for pair in pairs if pair[0] is None)])

    def to_dicts(self, *, json: bool = False) -> list[dict[str, Any]]:
        """Each instrument as a dictionary of its fields and its alias; `json`: decimals and times as text."""
        return [one.to_dict(json=json) for one in self._items]

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The instruments as an Arrow table, for polars, pandas, pyarrow, DuckDB (needs the extra `arrow`).

        The columns are INSTRUMENT_FIELDS: decimals as decimal128 of one scale a column, the largest that a value needs,
        and times as timestamps (ns, UTC).

        Raises:
            PrecisionError: a column needs more than 38 digits.
        """
        from fastbars.columnar.arrow import objects_to_stream  # noqa: PLC0415 loaded for those who use it

        columns: dict[str, tuple[str, list[Any]]] = {}
        for name in INSTRUMENT_FIELDS:
            values = [getattr(one, name) for one in self._items]
            if name in _TIMES:
                columns[name] = "time", [None if value is None else to_nanoseconds(value) for value in values]
            else:
                kind = "decimal" if name in _DECIMALS else "boolean" if name == "inverse" else "text"
                columns[name] = kind, values
        return objects_to_stream(columns, len(self._items))

    def __repr__(self) -> str:
        shown = ", ".join(self.symbols[:5]) + (", ..." if len(self) > 5 else "")
        return f"InstrumentTable({len(self)} instruments{': ' if self._items else ''}{shown})"


async def instruments(
    exchange: str | Exchange,
    where: Where | None = None,
    *,
    market: str | None = None,
    volume: bool = False,
    rest_url: str | None = None,
    config: StreamConfig | None = None,
) -> InstrumentTable:
    """All instruments that an exchange lists, or those that `fastbars.where(...)` chooses, in order of their symbols.

        table = await fastbars.instruments("binance", market="usdm")
        table = fastbars.run(fastbars.instruments("binance", market="usdm"))     # without an event loop

    An answer is kept for half a minute, and shared with the streams of the process.

    Args:
        exchange, market: as in `stream`.
        where: a choice; by default all are in the table, halted and delisted ones too.
        volume: ask what was traded in the last 24 hours, too; a `where` with `min_volume` does.
        rest_url: ask here instead of the exchange's own address.
        config: how REST is reached: `rest_url`, `ssl`, `proxy`.

    Raises:
        UnknownExchangeError, TypeError: at once, as `stream`. RestError: the exchange lists no instruments (Interactive
            Brokers), or gave no answer that could be read.
    """
    if not isinstance(where, Where | None):
        raise TypeError(f"instruments: where must be fastbars.where(...), got {where!r:.80}")
    settings = config or StreamConfig()
    if rest_url is not None:
        settings = replace(settings, rest_url=rest_url)
    source = InstrumentSource(find_exchange(exchange, market), settings)
    found = await source.instruments(volume=volume or (where is not None and where.needs_volume))
    return InstrumentTable(
        sorted((one for one in found if where is None or where.takes(one)), key=lambda one: one.symbol)
    )
