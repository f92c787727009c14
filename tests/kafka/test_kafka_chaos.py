import random

from kafka_chaos import Chaos, Findings


def test_results_are_there_once_through_kills_of_a_worker_the_broker_and_the_coordinator(fresh_broker, tmp_path):
    chaos = Chaos(fresh_broker, tmp_path, records=24_000, rate=2_000, lives_s=(0.5, 2.0))
    chaos.run(random.Random(1), kills=3, victims=["worker", "broker", "coordinator"])
    assert chaos.kills.total() == 3
    assert chaos.findings() == Findings()
