"""Key figures of a service: active users, unique users per key, a funnel, an A/B test, the click-through of ads.

Every figure is a stream of revisions: a line for its key and period holds until one with a higher `revision` comes.
Output, as JSON lines: `active/`, `keys/`, `funnel/`, `experiment/`, `click_through/`, `late/`, `malformed/`; their
fields are in README.md.
"""

from __future__ import annotations

from typing import Any

from streamcore import App, JobResult, StreamEnvironment
from streamcore.apps.conventions import MALFORMED, check_setting, write
from streamcore.apps.kpi.activity import activity
from streamcore.apps.kpi.experiment import Effect, events
from streamcore.apps.kpi.metrics import Metrics
from streamcore.apps.kpi.report import report
from streamcore.apps.trending.topology import SHIPPED


def build(
    env: StreamEnvironment,
    *,
    input: str = str(SHIPPED),  # noqa: A002 - the name of the setting in every app
    output: str = "out/kpi",
    experiment: str = "",
    every: float = 3600.0,
    out_of_order: float = 0.0,
    lateness: float = 2_592_000.0,
    users: int = 20_000,
    rate: float = 0.1,
    effect: float = 0.02,
    seed: int = 1,
    scale: float = 0.02,
    peeking_runs: int = 1000,
) -> None:
    """Builds the topology; durations are seconds of event time."""
    check_setting("users", users, 0)
    check_setting("rate", rate, 0, 1)
    check_setting("effect", effect, -rate, 1 - rate)
    check_setting("seed", seed, 0, (1 << 24) - 1)
    check_setting("scale", scale, 0.0001, 0.9999)
    check_setting("peeking_runs", peeking_runs, 0)
    metrics = Metrics(every, lateness)
    acts = activity(env, input, out_of_order)
    seen = events(env, experiment, Effect(users, rate, effect, seed))
    results = {
        "active": metrics.active_users(acts),
        "keys": metrics.unique_users(acts),
        "funnel": metrics.funnel(acts),
        "experiment": metrics.experiment(seen.stream, scale),
        "click_through": metrics.click_through(seen.stream),
        "late": metrics.late(),
        MALFORMED: acts.malformed if seen.malformed is None else acts.malformed.union(seen.malformed),
    }
    for name, stream in results.items():
        write(stream, output, name)


def _report(result: JobResult, **settings: Any) -> str:
    return report(settings)


APP = App("kpi", build, "active users, unique users, funnel, A/B test, click-through, as revisions", report=_report)
