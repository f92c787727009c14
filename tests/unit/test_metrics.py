from __future__ import annotations

import asyncio
import logging
import re
import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

import streamcore.metrics.exporter as exporter
from streamcore import Checkpointing, StreamEnvironment
from streamcore.connectors.file_sink import FileSink
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import MachineError
from streamcore.job.status import CheckpointStats, JobStatus
from streamcore.metrics import metrics_server
from streamcore.runtime.counters import Counters
from streamcore.runtime.spec import JobSpec, VertexSpec


def scrape(url):
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
        text = answer.read().decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def named(samples, name):
    return {key[1:]: value for key, value in samples.items() if key[0] == name}


@pytest.fixture
def status():
    vertices = (VertexSpec(0, "source", (), 1, 128, splits=()), VertexSpec(1, 'say "hi"', (), 2, 128))
    status = JobStatus(JobSpec("rates", vertices, ()), state="restarting", epoch=7, restarts=2)
    status.checkpoints, status.checkpoint_failures = 5, 1
    status.counters = {
        (0, 0): Counters(records_in=10, records_out=9, bad_records=1, running_s=5.0, idle_s=2.0, backpressured_s=0.5),
        (1, 0): Counters(
            records_in=4,
            queued=3,
            feedback_queued=8,
            late_records=6,
            bad_times=2,
            watermark_ms=-1500,
            watermark_lag_s=3.5,
            time_idle=True,
            drift_s=0.25,
            held_s=7.0,
            waiting_for=("Kafka",),
        ),
        (1, 1): Counters(records_in=5),
    }
    for _ in range(989):
        status.counters[1, 0].latency.add(0.001)
    for _ in range(9):
        status.counters[1, 0].latency.add(0.025)
    for _ in range(2):
        status.counters[1, 0].latency.add(4.0)
    return status


def observed(server, status, look):
    """What `look` sees while `server` observes the status; the server is stopped afterwards."""

    async def main():
        watching = asyncio.ensure_future(server(status))
        try:
            await asyncio.sleep(0)
            return await asyncio.to_thread(look)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    return asyncio.run(main())


def test_every_number_of_the_status_is_rendered(status):
    status.last_checkpoint = CheckpointStats(12, 0.25, 2048, 0.125, 0.0625, 512)
    server = metrics_server(0)
    samples = observed(server, status, lambda: scrape(server.url))

    def of(operator, vertex, subtask):
        return (("job", "rates"), ("operator", operator), ("subtask", subtask), ("vertex", vertex))

    source, first, second = of("source", "0", "0"), of('say "hi"', "1", "0"), of('say "hi"', "1", "1")
    assert named(samples, "streamcore_records_in_total") == {source: 10, first: 4, second: 5}
    assert named(samples, "streamcore_records_out_total")[source] == 9
    assert named(samples, "streamcore_bad_records_total")[source] == 1
    assert named(samples, "streamcore_busy_seconds_total")[source] == 2.5
    assert named(samples, "streamcore_idle_seconds_total")[source] == 2.0
    assert named(samples, "streamcore_backpressured_seconds_total")[source] == 0.5
    assert named(samples, "streamcore_late_records_total")[first] == 6
    assert named(samples, "streamcore_queued_records")[first] == 3
    assert named(samples, "streamcore_feedback_queued_records")[first] == 8
    assert named(samples, "streamcore_bad_times_total") == {source: 0, first: 2, second: 0}
    assert named(samples, "streamcore_watermark_seconds") == {first: -1.5}  # the others have no event time
    assert named(samples, "streamcore_watermark_lag_seconds") == {first: 3.5}
    assert named(samples, "streamcore_alignment_drift_seconds") == {first: 0.25}
    assert named(samples, "streamcore_time_idle") == {source: 0, first: 1, second: 0}
    assert named(samples, "streamcore_waiting_for_service") == {source: 0, first: 1, second: 0}
    assert named(samples, "streamcore_held_seconds_total")[first] == 7
    of_job = {name: value for (name, *labels), value in samples.items() if labels == [("job", "rates")]}
    assert of_job == {
        "streamcore_up": 0,
        "streamcore_epoch": 7,
        "streamcore_restarts_total": 2,
        "streamcore_checkpoints_completed_total": 5,
        "streamcore_checkpoint_failures_total": 1,
        "streamcore_last_checkpoint_id": 12,
        "streamcore_last_checkpoint_duration_seconds": 0.25,
        "streamcore_last_checkpoint_size_bytes": 2048,
        "streamcore_last_checkpoint_alignment_seconds": 0.125,
        "streamcore_last_checkpoint_pause_seconds": 0.0625,
        "streamcore_last_checkpoint_in_flight_bytes": 512,
    }
    assert named(samples, "streamcore_state_info") == {(("job", "rates"), ("state", "restarting")): 1}


def test_the_documented_names_are_the_rendered_ones(status):
    status.last_checkpoint = CheckpointStats(1, 0.0, 0, 0.0, 0.0)
    server = metrics_server(0)
    samples = observed(server, status, lambda: scrape(server.url))
    documented = set(re.findall(r"^    (streamcore_\w+)", exporter.__doc__, re.MULTILINE))
    assert {key[0] for key in samples} == documented


def test_latencies_are_a_summary_of_the_subtasks_that_had_markers(status):
    server = metrics_server(0)
    samples = observed(server, status, lambda: scrape(server.url))
    of = (("job", "rates"), ("operator", 'say "hi"'), ("subtask", "0"), ("vertex", "1"))
    quantiles = {
        dict(labels)["quantile"]: value for labels, value in named(samples, "streamcore_latency_seconds").items()
    }
    assert quantiles == {
        "0.5": pytest.approx(0.001, rel=0.05),
        "0.99": pytest.approx(0.025, rel=0.05),
        "0.999": pytest.approx(4.0, rel=0.05),
    }
    assert named(samples, "streamcore_latency_seconds_count") == {of: 1000}
    assert named(samples, "streamcore_latency_seconds_sum") == {of: pytest.approx(989 * 0.001 + 9 * 0.025 + 8)}


def test_there_is_no_last_checkpoint_before_the_first(status):
    server = metrics_server(0)
    samples = observed(server, status, lambda: scrape(server.url))
    assert not [key for key in samples if key[0].startswith("streamcore_last_checkpoint")]
    assert samples["streamcore_checkpoints_completed_total", ("job", "rates")] == 5


def test_a_scrape_before_the_job_has_nothing_of_a_job():
    server = metrics_server(0)
    try:
        assert scrape(server.url) == {}
    finally:
        server.close()


def test_a_running_job_can_be_scraped(tmp_path):
    server, scrapes = metrics_server(0), []

    async def look_and_end(status):
        while not (status.last_checkpoint and status.records_read):
            await asyncio.sleep(0.05)
        scrapes.append(await asyncio.to_thread(scrape, server.url))
        limit.append(0)

    limit: list[int] = []

    def make(start, stop):
        if limit:
            raise InterruptedError("seen enough")
        return [{"x": x} for x in range(start, stop)]

    env = StreamEnvironment("live", checkpoint=Checkpointing(str(tmp_path / "ck"), interval=0.1))
    env.config.restart = NoMore()
    env.source(GeneratorSource(make, rate=2000.0)).sink(FileSink(tmp_path / "out"))
    with pytest.raises(Exception, match="seen enough"):
        env.execute((server, look_and_end))
    (samples,) = scrapes
    assert samples["streamcore_up", ("job", "live")] == 1
    assert samples["streamcore_last_checkpoint_id", ("job", "live")] >= 1
    assert samples["streamcore_last_checkpoint_size_bytes", ("job", "live")] > 0
    ((labels, records),) = named(samples, "streamcore_records_in_total").items()
    assert dict(labels)["operator"].startswith("GeneratorSource")
    assert records > 0
    with pytest.raises(urllib.error.URLError):  # the server ended with the job
        scrape(server.url)


class NoMore:
    """Gives up at the first failure."""

    def delay_s(self, now_s):
        return None


def test_a_port_in_use_is_named_before_anything_runs():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(MachineError, match=f"^port {port} on 127.0.0.1 is in use") as caught:
            metrics_server(port)
    assert "--metrics-port" in caught.value.hint
    assert caught.value.exit_code == 5


def test_a_foreign_address_is_a_machine_error():
    with pytest.raises(MachineError, match=r"can't serve metrics on 192\.0\.2\.1, port 0"):
        metrics_server(0, host="192.0.2.1")


def test_the_port_is_free_again_after_the_job(status):
    first = metrics_server(0)
    observed(first, status, lambda: None)
    second = metrics_server(first.port)
    second.close()
    second.close()
    assert second.port == first.port


def test_a_free_port_is_logged(caplog, monkeypatch):
    logger = logging.getLogger("streamcore")
    monkeypatch.setattr(logger, "propagate", True)
    with caplog.at_level(logging.INFO, "streamcore"):
        server = metrics_server(0)
    server.close()
    assert server.port > 0
    assert f"metrics at http://127.0.0.1:{server.port}/metrics" in caplog.text
