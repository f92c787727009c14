"""A Prometheus endpoint with the counters of all workers, made from the job's status when it is scraped.

Of each subtask, with the labels `job`, `vertex` (its number in the plan), `operator` (the names of the chain)
and `subtask`::

    streamcore_records_in_total              records that the chain took in, or that a source read
    streamcore_records_out_total             records that it sent on
    streamcore_bad_records_total             malformed records that were skipped or sent aside
    streamcore_late_records_total            records that came after their window had closed
    streamcore_bad_times_total               records with an event time that can't be, skipped or sent aside
    streamcore_busy_seconds_total            time neither idle nor backpressured
    streamcore_idle_seconds_total            time without input
    streamcore_backpressured_seconds_total   time without room at a receiver
    streamcore_held_seconds_total            time in which alignment kept a source from reading a split
    streamcore_waiting_for_service           1 while a source or sink can't reach the service that it reads or writes
    streamcore_queued_records                records that wait at its forward inputs
    streamcore_feedback_queued_records       records that wait at its back edges
    streamcore_watermark_seconds             event time here, as seconds since 1970: this and the next once there is one
    streamcore_watermark_lag_seconds         how far that is behind the clock
    streamcore_time_idle                     1 while all inputs are idle, so that nobody waits for the event time here
    streamcore_alignment_drift_seconds       of sources in an alignment group: how far the furthest split is ahead of it
    streamcore_latency_seconds               from a source to here; the label `quantile` is 0.5, 0.99 or 0.999
    streamcore_latency_seconds_count         how many latency markers that is of, and the sum of their latencies
    streamcore_latency_seconds_sum

Of the job, with the label `job`::

    streamcore_up                                 1 while records flow, 0 otherwise
    streamcore_state_info                         always 1; its label `state` is the job's state
    streamcore_epoch                              the attempt
    streamcore_restarts_total                     attempts that failed and were followed by another
    streamcore_checkpoints_completed_total
    streamcore_checkpoint_failures_total
    streamcore_last_checkpoint_id                 this one and the next five: once there is a checkpoint
    streamcore_last_checkpoint_duration_seconds   from the trigger to the manifest
    streamcore_last_checkpoint_size_bytes
    streamcore_last_checkpoint_alignment_seconds  the longest wait of a subtask for barriers
    streamcore_last_checkpoint_pause_seconds      the longest that a subtask stood still to capture its state
    streamcore_last_checkpoint_in_flight_bytes    its records on their way: on back edges, or overtaken by barriers

The counters of subtasks start from zero in each attempt, as those of a restarted process do; `rate()` and
`increase()` allow for that. They are as old as the workers' last reports: half a second.

Latencies are measured as in Apache Flink: a source sends a marker with its time from time to time
(`StreamEnvironment(latency_interval=...)`), which waits in buffers and queues like a record; a subtask takes the
difference to its own clock when the marker comes up. So what the operators of that subtask do is not in it, nor is
how late the source was. Percentiles are of all markers of the attempt, and hold to 5 %. Sources have none.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streamcore.errors import MachineError
from streamcore.job.status import JobStatus
from streamcore.runtime.latency import LatencyHistogram

_SUBTASK_LABELS = ("job", "vertex", "operator", "subtask")
_SUBTASK_COUNTERS = {
    "records_in": ("streamcore_records_in", "Records taken in by the chain"),
    "records_out": ("streamcore_records_out", "Records sent on"),
    "bad_records": ("streamcore_bad_records", "Malformed records skipped or sent aside"),
    "late_records": ("streamcore_late_records", "Records that came after their window had closed"),
    "bad_times": ("streamcore_bad_times", "Records with an event time that can't be"),
    "busy_s": ("streamcore_busy_seconds", "Time neither idle nor backpressured"),
    "idle_s": ("streamcore_idle_seconds", "Time without input"),
    "backpressured_s": ("streamcore_backpressured_seconds", "Time without room at a receiver"),
    "held_s": ("streamcore_held_seconds", "Time in which alignment kept a source from reading a split"),
}
_SUBTASK_GAUGES = {
    "waiting": ("streamcore_waiting_for_service", "1 while a service that a source or sink needs can't be reached"),
    "queued": ("streamcore_queued_records", "Records that wait at forward inputs"),
    "feedback_queued": ("streamcore_feedback_queued_records", "Records that wait at back edges"),
    "watermark_s": ("streamcore_watermark_seconds", "Event time, seconds since 1970"),
    "watermark_lag_s": ("streamcore_watermark_lag_seconds", "How far event time is behind the clock"),
    "time_idle": ("streamcore_time_idle", "1 while all inputs are idle"),
    "drift_s": ("streamcore_alignment_drift_seconds", "How far the furthest split is ahead of its alignment group"),
}
_QUANTILES = (0.5, 0.99, 0.999)
_JOB_COUNTERS = {
    "restarts": ("streamcore_restarts", "Attempts that failed and were followed by another"),
    "checkpoints": ("streamcore_checkpoints_completed", "Complete checkpoints"),
    "checkpoint_failures": ("streamcore_checkpoint_failures", "Checkpoints that were given up"),
}
_CHECKPOINT_GAUGES = {
    "checkpoint_id": ("streamcore_last_checkpoint_id", "The newest complete checkpoint"),
    "duration_s": ("streamcore_last_checkpoint_duration_seconds", "From the trigger to the manifest"),
    "size_bytes": ("streamcore_last_checkpoint_size_bytes", "What its files take"),
    "alignment_s": ("streamcore_last_checkpoint_alignment_seconds", "The longest wait of a subtask for barriers"),
    "pause_s": ("streamcore_last_checkpoint_pause_seconds", "The longest stop of a subtask to capture its state"),
    "in_flight_bytes": ("streamcore_last_checkpoint_in_flight_bytes", "Its records that were on their way"),
}

logger = logging.getLogger("streamcore.job")


class StatusCollector(Collector):
    """Renders the status of one job; nothing before there is one.

    Scrapes come from the server's threads: `counters` is copied before it is walked through.
    """

    def __init__(self) -> None:
        self.status: JobStatus | None = None

    def collect(self) -> Iterator[Metric]:
        """The metrics as they stand now."""
        if self.status is not None:
            yield from _subtask_metrics(self.status)
            yield from _job_metrics(self.status)


class MetricsServer:
    """The endpoint, and the `Observer` that shows it a job.

    The port is taken when the server is made, before any job runs; the server stops when the observer is
    cancelled, or by `close`.

    Raises:
        MachineError: the port can't be had.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._collector = StatusCollector()
        registry = CollectorRegistry()
        registry.register(self._collector)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except (OSError, OverflowError) as error:
            raise _port_error(port, host, error) from error
        self._closing = threading.Lock()
        self._closed = False
        self.port = int(self._server.server_port)
        self.url = f"http://{host}:{self.port}/metrics"
        logger.info("metrics at %s", self.url)

    async def __call__(self, status: JobStatus) -> None:
        """Shows `status` until it is cancelled."""
        self._collector.status = status
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Stops the server and frees the port; a second time is fine."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._server.shutdown()
                self._server.server_close()
                self._thread.join()


def metrics_server(port: int, host: str = "127.0.0.1") -> MetricsServer:
    """An endpoint at `http://host:port/metrics`; port 0 takes a free one and logs it.

    Raises:
        MachineError: the port can't be had.
    """
    return MetricsServer(port, host)


def _port_error(port: int, host: str, error: OSError | OverflowError) -> MachineError:
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return MachineError(
            f"port {port} on {host} is in use",
            hint="give --metrics-port another port, or 0 to take a free one",
        )
    return MachineError(
        f"can't serve metrics on {host}, port {port}: {getattr(error, 'strerror', None) or error}",
        hint="give --metrics-port a port above 1023 of an address of this machine",
    )


def _subtask_metrics(status: JobStatus) -> Iterator[Metric]:
    names = {vertex.id: vertex.name for vertex in status.job.vertices}
    rows = [
        ((status.job.name, str(vertex), names[vertex], str(index)), counters)
        for (vertex, index), counters in sorted(status.counters.copy().items())
    ]
    for attribute, (name, text) in _SUBTASK_COUNTERS.items():
        family = CounterMetricFamily(name, text, labels=_SUBTASK_LABELS)
        for labels, counters in rows:
            family.add_metric(labels, getattr(counters, attribute))
        yield family
    for attribute, (name, text) in _SUBTASK_GAUGES.items():
        gauge = GaugeMetricFamily(name, text, labels=_SUBTASK_LABELS)
        for labels, counters in rows:
            value = getattr(counters, attribute)
            if value is not None:  # what doesn't apply to a subtask, it doesn't have
                gauge.add_metric(labels, float(value))
        yield gauge
    yield _latencies((labels, counters.latency) for labels, counters in rows)


def _latencies(rows: Iterable[tuple[tuple[str, ...], LatencyHistogram]]) -> Metric:
    name = "streamcore_latency_seconds"  # the client's own SummaryMetricFamily has no quantiles
    summary = Metric(name, "From a source to here, of latency markers", "summary")
    for values, latency in rows:
        if len(latency):
            labels = dict(zip(_SUBTASK_LABELS, values, strict=True))
            for share in _QUANTILES:
                summary.add_sample(name, {**labels, "quantile": str(share)}, latency.percentile(share))
            summary.add_sample(f"{name}_count", labels, len(latency))
            summary.add_sample(f"{name}_sum", labels, latency.total_s)
    return summary


def _job_metrics(status: JobStatus) -> Iterator[Metric]:
    job = (status.job.name,)
    yield _gauge("streamcore_up", "1 while records flow", job, float(status.state == "running"))
    yield _gauge("streamcore_epoch", "The attempt", job, status.epoch)
    state = InfoMetricFamily("streamcore_state", "The state of the job", labels=("job",))
    state.add_metric(job, {"state": status.state})
    yield state
    for attribute, (name, text) in _JOB_COUNTERS.items():
        family = CounterMetricFamily(name, text, labels=("job",))
        family.add_metric(job, getattr(status, attribute))
        yield family
    last = status.last_checkpoint
    if last is not None:
        for attribute, (name, text) in _CHECKPOINT_GAUGES.items():
            yield _gauge(name, text, job, getattr(last, attribute))


def _gauge(name: str, text: str, job: tuple[str], value: float) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=("job",))
    gauge.add_metric(job, value)
    return gauge
