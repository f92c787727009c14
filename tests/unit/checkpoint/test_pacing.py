"""When the next checkpoint begins: rests after slow ones, and at least `min_pause` after each."""

import pytest

from streamcore import Checkpointing, StreamEnvironment
from streamcore.checkpoint.pacing import earliest_start
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import UsageError
from streamcore.job.config import RunConfig
from streamcore.testing import MemorySink, SimulatedWorld


@pytest.mark.parametrize(
    ("begun", "ended", "min_pause", "earliest"),
    [
        (100, 103, 0, 103),
        (100, 103, 5, 108),
        (100, 110, 0, 110),
        (100, 111, 0, 121),
        (100, 111, 3, 121),
        (0, 11, 60, 71),
    ],
)
def test_a_slow_checkpoint_is_followed_by_a_whole_interval(begun, ended, min_pause, earliest):
    assert earliest_start(begun, ended, 10, min_pause) == earliest


def checkpoints(**options):
    env, sink = StreamEnvironment("paced", batch_size=1), MemorySink()
    env.source(GeneratorSource(lambda start, stop: list(range(start, stop)), count=2000)).key_by(
        lambda n: n % 3
    ).reduce(lambda a, b: a + b).sink(sink)
    config = RunConfig(checkpointing=Checkpointing("simulated://", interval=0.001, **options))
    result = SimulatedWorld(3).run(env.compile(), config)
    assert len(sink.committed) == 2000
    return result.checkpoints


def test_a_minimum_pause_makes_checkpoints_rare():
    assert checkpoints(min_pause=1000.0) == 2  # the first, and the last at the end of the input
    assert checkpoints() > 4


def test_a_pause_below_0_is_refused():
    with pytest.raises(UsageError, match="min_pause is -1 s"):
        Checkpointing("x", min_pause=-1)
