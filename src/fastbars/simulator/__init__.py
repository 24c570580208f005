"""The simulator: an embedded exchange that speaks Binance's dialect over real WebSockets on this machine.

It trades a synthetic market, the same for the same seed, or serves recorded tapes.
"""

from __future__ import annotations

from fastbars.simulator.server import SimulatedExchange, SimulatorStats

__all__ = ["SimulatedExchange", "SimulatorStats"]
