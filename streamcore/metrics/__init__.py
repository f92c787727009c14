"""Metrics of a running job, for Prometheus."""

from streamcore.metrics.exporter import MetricsServer, metrics_server

__all__ = ["MetricsServer", "metrics_server"]
