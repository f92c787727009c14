"""Tools for testing topologies: a deterministic simulation of a whole job, and sinks and storage to look into."""

from streamcore.testing.memory import MemorySink, MemoryStorage
from streamcore.testing.simulate import SimulatedWorld, SimulationStuckError

__all__ = ["MemorySink", "MemoryStorage", "SimulatedWorld", "SimulationStuckError"]
