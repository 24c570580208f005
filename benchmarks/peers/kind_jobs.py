"""Bars that end by their trades, by each library that has them; worker.py imports it where the library is.

A job gets the columns of one symbol, with about a hundred trades a bar. It returns (make, work): `make` prepares what
is not timed, and `work` takes it and returns how many bars came of it. Prices and sizes are given in the form that the
library wants: scaled integers, floats, or its own objects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Columns = dict[str, Any]
Job = tuple[Callable[[], Any], Callable[[Any], int]]

# The same bars for each library, about a hundred trades long.
VOLUME, RENKO, CUSUM, MINUTE = 500, "0.34", "0.3", 60


def fastbars(columns: Columns, spec: str) -> Job:
    import fastbars

    def work(_: Any) -> int:
        return len(
            fastbars.aggregate(
                columns["time_ns"], columns["price"], columns["size"], bars=spec, side=columns["side"],
                trade_id=columns["first_id"], price_scale=2, size_scale=5,
            )
        )  # fmt: skip

    return lambda: None, work


def finmlkit(columns: Columns, kind: str) -> Job:
    from finmlkit.bar.data_model import TradesData
    from finmlkit.bar.kit import CUSUMBarKit, TimeBarKit, VolumeBarKit
    from pandas import Timedelta

    price = columns["price"] / 100
    trades = TradesData(
        columns["time_ns"], price, columns["size"] / 1e5, columns["first_id"], side=columns["side"].astype(np.int8),
        timestamp_unit="ns",
    )  # fmt: skip
    # Its filter is one of logarithms, with a threshold for each trade.
    sigma = np.log1p(float(CUSUM) / price)

    def make() -> Any:
        if kind == "volume":
            return VolumeBarKit(trades, VOLUME)
        if kind == "cusum":
            return CUSUMBarKit(trades, sigma, 0.0, 1.0)
        return TimeBarKit(trades, Timedelta(seconds=MINUTE))

    def work(kit: Any) -> int:
        bars = kit.build_ohlcv()
        kit.build_directional_features()  # what the takers bought
        if kind == "footprint":
            kit.build_footprints(0.1)
        return len(bars)

    return make, work


def nautilus(columns: Columns, kind: str) -> Job:
    from nautilus_trader.data.aggregation import RenkoBarAggregator, VolumeBarAggregator
    from nautilus_trader.model.data import BarType, TradeTick
    from nautilus_trader.model.enums import AggressorSide
    from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, Venue
    from nautilus_trader.model.instruments import CurrencyPair
    from nautilus_trader.model.objects import Currency, Price, Quantity

    own = InstrumentId(Symbol("S0"), Venue("BENCH"))
    ticks = [
        TradeTick(
            own, Price(price / 100, 2), Quantity(size / 1e5, 5),
            AggressorSide.BUYER if side > 0 else AggressorSide.SELLER, TradeId(str(number)), ns, ns,
        )
        for price, size, side, number, ns in zip(
            *(columns[name].tolist() for name in ("price", "size", "side", "first_id", "time_ns")), strict=True
        )
    ]  # fmt: skip
    instrument = CurrencyPair(
        instrument_id=own, raw_symbol=Symbol("S0"), base_currency=Currency.from_str("BTC"),
        quote_currency=Currency.from_str("USDT"), price_precision=2, size_precision=5,
        price_increment=Price.from_str("0.01"), size_increment=Quantity.from_str("0.00001"), ts_event=0, ts_init=0,
    )  # fmt: skip

    def make() -> Any:
        bars: list[Any] = []
        if kind == "volume":
            bar_type = BarType.from_str(f"S0.BENCH-{VOLUME}-VOLUME-LAST-INTERNAL")
            return VolumeBarAggregator(instrument, bar_type, bars.append), bars
        bar_type = BarType.from_str(f"S0.BENCH-{round(float(RENKO) * 100)}-RENKO-LAST-INTERNAL")  # in ticks
        return RenkoBarAggregator(instrument, bar_type, bars.append), bars

    def work(made: Any) -> int:
        aggregator, bars = made
        for tick in ticks:
            aggregator.handle_trade_tick(tick)
        return len(bars)

    return make, work


JOBS: dict[str, Callable[[Columns], Job]] = {
    "fastbars_volume": lambda columns: fastbars(columns, f"volume:{VOLUME}"),
    "fastbars_renko": lambda columns: fastbars(columns, f"renko:{RENKO}"),
    "fastbars_cusum": lambda columns: fastbars(columns, f"cusum:{CUSUM}"),
    "fastbars_footprint": lambda columns: fastbars(columns, "1m+footprint:0.1"),
    "fastbars_minute": lambda columns: fastbars(columns, "1m"),
    "finmlkit_volume": lambda columns: finmlkit(columns, "volume"),
    "finmlkit_cusum": lambda columns: finmlkit(columns, "cusum"),
    "finmlkit_footprint": lambda columns: finmlkit(columns, "footprint"),
    "nautilus_volume": lambda columns: nautilus(columns, "volume"),
    "nautilus_renko": lambda columns: nautilus(columns, "renko"),
}
