"""Four ways to bear a crash on one workload: running balances of accounts.

The topology is that of one `discipline`; the report then runs all four, each with a kill -9 in the middle, and compares
them. Output, in a folder for each discipline: `results/` (JSON lines) or `results-N.jsonl` or `balances-N.sqlite`, and
`comparison.jsonl`, a line for each discipline.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, get_args

from streamcore import App, DataStream, JobResult, StreamEnvironment, UsageError
from streamcore.apps.conventions import check_setting
from streamcore.apps.guarantees.acknowledging import AddOnce, Tracker, WriteOut, acknowledged
from streamcore.apps.guarantees.compare import compare
from streamcore.apps.guarantees.outcome import Discipline, next_id, outcome
from streamcore.apps.guarantees.payments import Balance, Payments, add
from streamcore.connectors.file_sink import FileSink


def build(
    env: StreamEnvironment,
    *,
    output: str = "out/guarantees",
    discipline: str = "snapshots",
    records: int = 20_000,
    rate: float = 5_000.0,
    batch: int = 50_000,
    seconds: float = 6.0,
    durable: bool = False,
    resume: bool = False,
    compare_all: bool = True,
) -> None:
    """Builds the topology of one discipline.

    Args:
        discipline: acks, micro-batches, transactions or snapshots.
        rate: payments per second; 0: as many as the job takes.
        batch: of micro-batches, how many payments at most.
        durable: the database of acks and transactions waits for the disk at each commit.
        resume: goes on after a crash instead of starting afresh; those with checkpoints need --restore latest too.
        compare_all: the report runs all four, and payments come for `seconds` in each run with a crash.
    """
    if discipline not in get_args(Discipline):
        raise UsageError(f"there is no discipline {discipline!r}", hint=f"it is {', '.join(get_args(Discipline))}")
    check_setting("records", records, 1)
    check_setting("rate", rate, 0)
    check_setting("batch", batch, 1)
    check_setting("seconds", seconds, 1)
    directory = Path(output) / discipline
    if not resume:
        shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    source = Payments(records, rate or None, directory / "clock")
    if discipline in ("snapshots", "micro-batches"):
        source.batch = batch if discipline == "micro-batches" else None
        balances = env.source(source, name="payments").uid("payments").key_by("account")
        results: DataStream[Any] = balances.scan(0, add, returns=Balance, compiled=True).uid("balances")
        results.sink(FileSink(directory / "results", if_exists="replace")).uid("results")
    elif discipline == "acks":
        prefix = directory / "acknowledged"
        source.start = acknowledged(prefix)
        payments = env.source(source, name="payments").uid("payments")
        with env.loop(int) as loop:
            tracker = Tracker(prefix, source.start)
            tracked = payments.connect(loop.feedback).process(tracker, returns=None).uid("tracker").parallelism(1)
            found = tracked.key_by("account").process(AddOnce(directory, durable=durable)).uid("balances")
            loop.close(found.process(WriteOut(directory)).uid("results"))
    else:
        source.start = next_id(directory)
        payments = env.source(source, name="payments").uid("payments")
        payments.key_by("account").process(AddOnce(directory, durable=durable)).uid("balances")


def _report(result: JobResult, **settings: Any) -> str:
    directory = Path(settings["output"]) / settings["discipline"]
    found = outcome(directory, settings["records"])
    text = f"{settings['discipline']}: {found.describe()}"
    if settings["compare_all"]:
        text += "\n\n" + compare(
            settings["output"],
            settings["rate"] or 5_000.0,
            settings["seconds"],
            settings["batch"],
            settings["durable"],
        )
    return text


APP = App(
    "guarantees", build, "four ways to bear a crash: acks, micro-batches, transactions, snapshots", report=_report
)
