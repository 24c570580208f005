"""The simulator: embedded exchanges that speak the dialects of real ones over WebSockets on this machine.

They trade a synthetic market, the same for the same seed, or serve recorded tapes; faults are injected on demand.
"""

from __future__ import annotations

from fastbars.simulator.faults import Fault, FaultKind, Faults
from fastbars.simulator.record import SimulatorStats
from fastbars.simulator.server import SimulatedExchange

__all__ = ["Fault", "FaultKind", "Faults", "SimulatedExchange", "SimulatorStats"]
