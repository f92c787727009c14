"""Checkpoints that are given up sooner than they can be completed come to nothing, but the job goes on."""

import pytest

from streamcore import Checkpointing
from streamcore.job.config import RunConfig
from streamcore.testing import MemorySink, SimulatedWorld
from tests.simulation.fleet.plan import TOPOLOGIES
from tests.simulation.fleet.topology import Shape

SHAPE = Shape(parallelism=3, batch_size=2, credits=3, two_stage=False, rate=3000.0)


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda topology: topology.name)
def test_the_job_ends(topology):
    sinks = {}
    job = topology.compile(lambda name: sinks.setdefault(name, MemorySink()), SHAPE)
    hurry = Checkpointing("simulated://", interval=0.0002, timeout=0.0008, tolerable_failures=1_000_000, unaligned=True)
    result = SimulatedWorld(1).run(job, RunConfig(checkpointing=hurry), max_steps=60_000)
    assert result is not None
    rows = {row for sink in sinks.values() for row in sink.committed}
    assert rows == set(topology.expected())
