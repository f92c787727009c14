"""dial: what is measured is what was sent, and the table has every position."""

import json

import numpy as np

from streamcore import StreamEnvironment
from streamcore.apps.dial import sweep as dial
from streamcore.apps.dial.measure import Offered, latency_ms, measured, throughput
from streamcore.apps.dial.topology import APP, build


def test_records_are_due_at_the_rate_whenever_they_are_made():
    offered = Offered(100.0)
    due = np.concatenate([offered(0, 3)["due"], offered(3, 4)["due"], offered(4, 50)["due"]])
    assert np.allclose(np.diff(due), 0.01, atol=1e-6)


def test_all_records_are_taken_and_take_some_time():
    found = measured(StreamEnvironment("dial", batch_size=16), 2_000, 20_000.0).execute_and_collect()
    assert [record.records for record in found] == [2_000]
    assert 0 < found[0].p50_ms <= found[0].p99_ms
    assert found[0].seconds >= 0.09  # 2,000 at 20,000 a second, and no sooner


def test_a_longer_timeout_holds_records_back_longer():
    def environment(timeout_s):
        return lambda: StreamEnvironment("dial", batch_size=16_384, buffer_timeout=timeout_s)

    latency_ms(environment(0.0), 2_000.0, 0.1)  # what is compiled is compiled
    assert latency_ms(environment(0.0), 2_000.0, 0.3)[0] < latency_ms(environment(0.2), 2_000.0, 0.3)[0]


def test_larger_batches_carry_more():
    def environment(batch_size):
        return lambda: StreamEnvironment("dial", batch_size=batch_size)

    assert throughput(environment(1), 0.05) < throughput(environment(4096), 0.05)


def test_the_table_has_a_line_for_each_batch_size(tmp_path, monkeypatch):
    monkeypatch.setattr(dial, "BATCH_SIZES", (8, 512))
    monkeypatch.setattr(dial, "TIMEOUTS_MS", (0, 3))
    env = StreamEnvironment("dial", parallelism=2)
    build(env, output=str(tmp_path), rate=5_000.0, seconds=0.05)
    settings = {"output": str(tmp_path), "rate": 5_000.0, "seconds": 0.05, "turn": True}
    result = env.execute()
    text = APP.describe_result(result, settings)
    assert "of 250 records" in text
    assert [line.split()[0] for line in text.splitlines()[4:6]] == ["8", "512"]
    rows = [json.loads(line) for line in (tmp_path / "dial.jsonl").read_text().splitlines()]
    assert [(row["batch_size"], row["buffer_timeout_ms"]) for row in rows] == [(8, 0), (8, 3), (512, 0), (512, 3)]
    assert all(row["p50_ms"] > 0 and row["records_per_s"] > 0 for row in rows)
    assert "\n" not in APP.describe_result(result, {**settings, "turn": False})
