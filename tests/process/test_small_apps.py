"""word_count and sensors give on two workers, after kill -9 of everything, what they give undisturbed on one."""

import gzip

import pytest
from process_harness import Run, children, counted

from streamcore.apps.sensors.topology import SHIPPED as CELSIUS
from streamcore.apps.sensors.topology import SHIPPED_KELVIN as KELVIN
from streamcore.apps.word_count.topology import SHIPPED as SHAKESPEARE
from streamcore.connectors.file_sink import read_jsonl

RESULTS = {
    "word_count": ("counts", "running"),
    "sensors": ("alerts", "readings", "by_count", "tumbling", "sliding", "means", "rejected"),
}


def inputs(app, directory):
    """Parts of the shipped data, so large that the job can be killed on its way."""

    def part(shipped, lines):
        path = directory / shipped.name.removesuffix(".gz")
        with gzip.open(shipped, "rt", encoding="utf-8") as file:
            path.write_text("".join(line for line, _ in zip(file, range(lines), strict=False)), encoding="utf-8")
        return path

    if app == "word_count":
        return {"input": part(SHAKESPEARE, 15_000), "running": "yes"}
    return {"input": part(CELSIUS, 12_000), "kelvin": part(KELVIN, 8_000)}


@pytest.mark.parametrize("app", RESULTS)
def test_after_a_kill_the_output_is_that_of_an_undisturbed_run(tmp_path, app):
    settings = inputs(app, tmp_path)
    runs = []

    def start(output, *options):
        given = [f"--set={name}={value}" for name, value in {**settings, "output": tmp_path / output}.items()]
        run = Run(tmp_path / f"{output}.txt", app, "--no-progress", *given, *options)
        runs.append(run)
        return run

    try:
        undisturbed = start("undisturbed")
        # small batches: the job takes its time
        killed = [
            "--checkpoint-dir",
            str(tmp_path / "checkpoints"),
            "--checkpoint-interval",
            "30ms",
            "--batch-size=256",
        ]
        first = start("killed", *killed)
        first.wait_for("checkpoint complete", count=1)
        workers = first.workers
        first.kill()
        assert not any(children(pid) for pid in workers)
        text = start("killed", *killed, "--restore", "latest").expect(0).text
        assert "checkpoint=1)" not in text  # it went on from there
        undisturbed.expect(0)
    finally:
        for run in runs:
            run.kill()
    for name in RESULTS[app]:
        expected = counted(read_jsonl(tmp_path / "undisturbed" / name))
        assert counted(read_jsonl(tmp_path / "killed" / name)) == expected
        assert expected or name == "rejected"
