"""Tools for testing topologies: a deterministic simulation of a whole job, and sinks and storage to look into."""

from streamcore.testing.faults import Fault, FaultKind, Faults
from streamcore.testing.memory import MemorySink, MemoryStorage
from streamcore.testing.simulate import SimulatedWorld, SimulationStuckError

__all__ = ["Fault", "FaultKind", "Faults", "MemorySink", "MemoryStorage", "SimulatedWorld", "SimulationStuckError"]
