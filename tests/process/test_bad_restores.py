"""What can't be restored: each is one clear message with the file's name, exit code 4, and what to do."""

import asyncio
import re
import shutil
import tempfile

import msgspec
import process_jobs as jobs
import pytest
from click.testing import CliRunner
from process_harness import JOBS, counted

from streamcore import Checkpointing, FixedDelay, StreamEnvironment
from streamcore.checkpoint.log import FORMAT, CheckpointLog, Entry
from streamcore.checkpoint.storage import open_storage
from streamcore.cli.main import cli
from streamcore.connectors.file_sink import read_jsonl
from streamcore.connectors.generator_source import GeneratorSource
from streamcore.errors import DamagedCheckpointError, MachineError, UsageError
from streamcore.job.coordinator import Coordinator
from streamcore.job.links import LocalWorkers
from streamcore.job.processes import ProcessWorkers
from streamcore.runtime.messages import Shutdown
from streamcore.runtime.services import Services

RECORDS = 3000


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The directory of a job `process_jobs` that was stopped after its third checkpoint."""
    root = tmp_path_factory.mktemp("stopped")
    env = StreamEnvironment("process_jobs", checkpoint=Checkpointing(str(root / "checkpoints"), interval=0.05))
    jobs.numbers(env, output=str(root / "out"), records=RECORDS, rate=1000)

    async def main():
        services = Services()
        coordinator = Coordinator(env.compile(), env.config, LocalWorkers(services), services)

        async def stop():
            while coordinator.status.checkpoints < 3:
                await asyncio.sleep(0.005)
            coordinator.request_stop("snapshot")

        await asyncio.gather(coordinator.run(), stop())

    asyncio.run(main())
    return root


@pytest.fixture
def place(stopped, tmp_path):
    """A copy of that directory, to do damage in."""
    shutil.copytree(stopped, tmp_path / "job")
    return tmp_path / "job"


def restore(place, what, *options, function="numbers", target=None, records=RECORDS):
    arguments = ["run", target or f"{JOBS}:{function}", "--no-progress", "--set", f"output={place}/out"]
    arguments += ["--set", f"records={records}", "--set", "rate=1e6", "--log-level", "error"]
    arguments += ["--checkpoint-dir", str(place / "checkpoints"), "--restore", str(what), *options]
    return CliRunner().invoke(cli, arguments)


def refused(result, *words, hint):
    """The message of a restore that was refused with exit code 4: one error line, one hint line, nothing else."""
    assert result.exit_code == 4, result.output
    lines = result.output.splitlines()
    assert len(lines) == 2, result.output
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  hint: ")
    for word in words:
        assert str(word) in lines[0]
    assert str(hint) in lines[1]
    return result.output


def log_of(place):
    return CheckpointLog(open_storage(str(place / "checkpoints")))


def entry_files(place, kind="checkpoint"):
    files = sorted((place / "checkpoints" / "log").iterdir())
    return [file for file in files if f'"kind": "{kind}"' in file.read_text()]


def biggest_file(place):
    newest = log_of(place).latest()
    subtask = max(newest.subtasks, key=lambda part: part.file.size_bytes)
    return place / "checkpoints" / subtask.file.path


def content(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_the_copy_itself_can_be_restored(place):
    result = restore(place, "latest")
    assert result.exit_code == 0, result.output
    assert counted(read_jsonl(place / "out" / "rows")) == counted(jobs.expected_rows(RECORDS))


def test_an_empty_checkpoint_directory(place, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(restore(place, tmp_path / "empty"), f"no checkpoint in {tmp_path}/empty", hint="--restore latest")
    shutil.rmtree(place / "checkpoints")
    refused(restore(place, "latest"), f"no checkpoint in {place}/checkpoints", hint="start without --restore")


def test_a_directory_that_is_not_there_and_a_file(place, tmp_path):
    (tmp_path / "file").write_text("{}")
    refused(restore(place, tmp_path / "nowhere"), f"no checkpoint in {tmp_path}/nowhere", hint="--restore latest")
    refused(restore(place, tmp_path / "file"), f"no checkpoint in {tmp_path}/file", hint="--restore latest")
    manifest = entry_files(place)[-1]
    refused(restore(place, manifest), f"no checkpoint in {manifest}", hint="--restore latest")


def test_a_checkpoint_that_never_completed(place):
    path = place / "checkpoints" / "chk-00000099"
    path.mkdir()
    (path / "v0-0.e65537.state").write_bytes(b"half")
    complete = [f"chk-{entry.checkpoint_id:08d}" for entry in log_of(place).checkpoints()]
    assert len(complete) == 3
    refused(restore(place, path), f"{path} is not a complete checkpoint", hint=", ".join(complete))


def flip(file, at):
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


DAMAGES = {
    "first byte": lambda file: flip(file, 0),
    "middle byte": lambda file: flip(file, file.stat().st_size // 2),
    "last byte": lambda file: flip(file, -1),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "empty": lambda file: file.write_bytes(b""),
    "deleted": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_file_is_named_and_the_next_older_checkpoint_offered(place, damage):
    file, older = biggest_file(place), log_of(place).checkpoints()[-2].checkpoint_id
    damage(file)
    before = content(place)
    offered = f"--restore {place}/checkpoints/chk-{older:08d};"
    refused(restore(place, "latest"), file, "is missing" if not file.exists() else "is damaged", hint=offered)
    newest = place / "checkpoints" / f"chk-{log_of(place).latest().checkpoint_id:08d}"
    refused(restore(place, newest), file, hint=offered)
    assert content(place) == before  # nothing was touched, no run was begun


MANIFEST_DAMAGES = {
    **{name: damage for name, damage in DAMAGES.items() if name not in ("deleted", "longer")},
    "another id": lambda file: file.write_text(re.sub(r'("checkpoint_id": )\d+', r"\g<1>77", file.read_text())),
    "another job": lambda file: file.write_text(file.read_text().replace('"job": "pro', '"job": "bro')),
    "no digest": lambda file: file.write_text(re.sub(r'"digest": "\w+"\n}', '"digest": ""\n}', file.read_text())),
}


@pytest.mark.parametrize("damage", MANIFEST_DAMAGES.values(), ids=MANIFEST_DAMAGES)
def test_a_damaged_manifest_is_named_and_the_next_older_checkpoint_offered(place, damage):
    file, older = entry_files(place)[-1], log_of(place).checkpoints()[-2].checkpoint_id
    before = file.read_bytes()
    damage(file)
    assert file.read_bytes() != before
    refused(restore(place, "latest"), f"{file} is damaged", hint=f"--restore {place}/checkpoints/chk-{older:08d};")


def test_the_offered_checkpoint_can_be_restored_beside_a_damaged_manifest(place):
    log = log_of(place)
    older, runs = log.checkpoints()[-2].checkpoint_id, log.last_run
    flip(entry_files(place)[-1], 0)
    output = refused(restore(place, "latest"), "is damaged", hint=f"chk-{older:08d}")
    path = re.search(r"--restore (\S+);", output)[1]
    assert restore(place, path).exit_code == 0
    rows = counted(read_jsonl(place / "out" / "rows"))
    assert rows >= counted(jobs.expected_rows(RECORDS))  # nothing is lost; what came after it is there twice
    assert log_of(place).latest().run > runs + 1  # the damaged entry may have been of the run after
    assert restore(place, "latest").exit_code == 0


def test_older_checkpoints_that_are_damaged_too_are_not_offered(place):
    checkpoints = log_of(place).checkpoints()
    for entry in checkpoints[1:]:
        flip(place / "checkpoints" / entry.subtasks[0].file.path, 0)
    first = f"chk-{checkpoints[0].checkpoint_id:08d};"
    refused(restore(place, "latest"), "is damaged", hint=first)
    flip(place / "checkpoints" / checkpoints[0].subtasks[0].file.path, 0)
    refused(restore(place, "latest"), "is damaged", hint="there is no older one that is whole")


def rows_of(place):
    return counted(read_jsonl(place / "out" / "rows"))


def test_with_fallback_a_job_goes_on_from_the_next_older_whole_checkpoint(place):
    checkpoints = log_of(place).checkpoints()
    file = biggest_file(place)
    flip(file, 0)
    flip(place / "checkpoints" / checkpoints[1].subtasks[0].file.path, 0)
    result = restore(place, "latest", "--fallback", "--log-level", "warning")
    assert result.exit_code == 0, result.output
    older = f"{place}/checkpoints/chk-{checkpoints[0].checkpoint_id:08d}"
    assert f"{file} is damaged" in result.output
    assert f"going on from {older} instead, the next older one that is whole" in result.output
    assert "what was written to sinks after it is written again" in result.output
    assert rows_of(place) >= counted(jobs.expected_rows(RECORDS))
    counts = read_jsonl(place / "out" / "counts")
    assert sorted(counts, key=lambda row: row["key"]) == jobs.expected_counts(RECORDS)  # the state is that of the older
    assert restore(place, "latest").exit_code == 0


@pytest.mark.parametrize("what", ["latest", "directory"])
def test_fallback_beside_a_damaged_manifest(place, what):
    checkpoints = log_of(place).checkpoints()
    flip(entry_files(place)[-1], 0)
    where = "latest" if what == "latest" else place / "checkpoints"
    result = restore(place, where, "--fallback", "--log-level", "warning")
    assert result.exit_code == 0, result.output
    assert f"going on from {place}/checkpoints/chk-{checkpoints[-2].checkpoint_id:08d}" in result.output


def test_fallback_where_the_checkpoint_that_a_run_went_on_from_has_lost_its_manifest(place):
    checkpoints = log_of(place).checkpoints()
    log = log_of(place)
    log.append(Entry("fence", "process_jobs", log.last_run + 1, 1 << 20, checkpoints[-1].checkpoint_id, 0))
    entry_files(place)[-1].unlink()
    older = f"chk-{checkpoints[-2].checkpoint_id:08d};"
    refused(restore(place, "latest"), "from which the last run went on, has no whole manifest", hint=older)
    assert restore(place, "latest", "--fallback").exit_code == 0


def test_no_fallback_for_a_checkpoint_that_is_named_or_without_a_whole_one(place):
    checkpoints = log_of(place).checkpoints()
    flip(biggest_file(place), 0)
    named = f"{place}/checkpoints/chk-{checkpoints[-1].checkpoint_id:08d}"
    refused(restore(place, named, "--fallback"), "is damaged", hint=f"chk-{checkpoints[-2].checkpoint_id:08d};")
    for entry in checkpoints[:-1]:
        flip(place / "checkpoints" / entry.subtasks[0].file.path, 0)
    refused(restore(place, "latest", "--fallback"), "is damaged", hint="there is no older one that is whole")


def test_what_killed_processes_left_half_written_is_gone_after_a_restore(place):
    left = [place / "checkpoints" / name for name in ("log/.1.json.0123456789abcdef.tmp", "probe-0123456789abcdef")]
    for file in left:
        file.write_bytes(b"half")
    assert restore(place, "latest").exit_code == 0
    assert not [file for file in left if file.exists()]


def test_fallback_needs_a_directory():
    result = CliRunner().invoke(cli, ["run", f"{JOBS}:numbers", "--fallback"])
    assert result.exit_code == 2
    assert "--fallback needs --checkpoint-dir" in result.output


def damaging_job(tmp_path, *, fallback):
    """A job whose function damages the newest checkpoint, once there are two, and fails."""
    directory = tmp_path / "checkpoints"
    checkpoint = Checkpointing(str(directory), interval=0.02, fallback=fallback)
    env = StreamEnvironment("damaging", checkpoint=checkpoint, restart=FixedDelay(attempts=3, delay=0.01))

    def number(record):
        checkpoints = CheckpointLog(open_storage(str(directory))).checkpoints()
        if len(checkpoints) >= 2 and not (tmp_path / "damaged").exists():
            for part in checkpoints[-1].subtasks:
                flip(directory / part.file.path, 0)
            (tmp_path / "damaged").write_text(str(checkpoints[-1].checkpoint_id))
            raise ValueError("on purpose")
        return record

    stream = env.source(GeneratorSource(jobs.rows, count=400, rate=400)).uid("source")
    stream.map(number).uid("number").sink(jobs.sink(tmp_path, "rows")).uid("rows")
    return env


def test_a_restart_goes_on_from_an_older_checkpoint_where_the_policy_allows_it(tmp_path, caplog):
    result = damaging_job(tmp_path, fallback=True).execute()
    assert result.restarts == 2  # the function's failure, and the damage that the restart found
    assert counted(read_jsonl(tmp_path / "rows")) >= counted(jobs.expected_rows(400))
    (warning,) = [message for message in caplog.messages if "the next older one that is whole" in message]
    assert f"chk-{int((tmp_path / 'damaged').read_text()):08d}" in warning.partition("is damaged")[0]


def test_a_restart_that_finds_damage_ends_the_job_without_the_policy(tmp_path):
    with pytest.raises(DamagedCheckpointError, match="is damaged") as caught:
        damaging_job(tmp_path, fallback=False).execute()
    assert "the next older one is whole: --restore" in caught.value.hint


def test_a_damaged_log_does_not_keep_a_job_from_starting_afresh(place):
    for file in (place / "checkpoints" / "log").iterdir():
        file.write_bytes(b"?")
    env = StreamEnvironment("process_jobs", checkpoint=Checkpointing(str(place / "checkpoints")))
    jobs.numbers(env, output=str(place / "out"), records=100, rate=1e6)
    env.execute()
    assert counted(read_jsonl(place / "out" / "rows")) == counted(jobs.expected_rows(100))


def test_a_snapshot_of_a_newer_format(place):
    file = entry_files(place)[-1]
    entry = msgspec.json.decode(file.read_bytes())
    file.write_bytes(msgspec.json.encode({**entry, "format": FORMAT + 1}))
    refused(restore(place, "latest"), file, f"format {FORMAT + 1}", hint="the version that wrote it")


def test_a_snapshot_of_other_operators(place):
    result = restore(place, "latest", function="loop")
    refused(
        result, "checkpoint ", f"in {place}/checkpoints", "has operators counts, ", hint="the topology that wrote it"
    )


def test_a_snapshot_of_another_job_of_the_same_shape(place, tmp_path):
    shutil.copy(JOBS, tmp_path / "other_jobs.py")
    result = restore(place, "latest", target=f"{tmp_path}/other_jobs.py:numbers")
    refused(result, "taken by job 'process_jobs'", "'other_jobs'", "another job", hint="the topology that wrote it")


def test_a_snapshot_with_another_number_of_key_groups(place):
    result = restore(place, "latest", function="numbers_in_few_groups")
    refused(result, "max_parallelism 128 there and 16 here", hint="set max_parallelism=128")


def test_state_that_the_operator_no_longer_declares_is_refused_at_once_not_after_restarts(place):
    result = restore(place, "latest", "--log-level", "info", "--restart-attempts", "3", function="numbers_reduced")
    refused(result, "the snapshot has state count", hint="restore with the code that wrote the snapshot")


def test_an_address_in_use_is_an_error_of_the_machine(short_directory, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(short_directory))

    async def main():
        workers = ProcessWorkers(1)
        (next(short_directory.iterdir()) / "coordinator").write_text("in the way")
        try:
            await workers.start(0, lambda message: None)
        finally:
            await workers.close()

    with pytest.raises(MachineError, match=r"can't listen for workers on .*/coordinator: .*already in use") as caught:
        asyncio.run(main())
    assert caught.value.exit_code == 5
    assert "TMPDIR" in caught.value.hint


@pytest.mark.parametrize(("length", "fits"), [(107, True), (108, False), (200, False)])
def test_a_directory_with_too_long_a_path_for_sockets(short_directory, monkeypatch, length, fits):
    """The longest path that the coordinator's socket can have is one that the worker can live with too."""
    rest = len("/streamcore-12345678/coordinator")
    directory = short_directory / ("x" * (length - rest - len(str(short_directory)) - 1))
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))

    async def main():
        workers = ProcessWorkers(1)
        try:
            link = await workers.start(0, lambda message: None)
            link.send(Shutdown())
            await link.close()
        finally:
            await workers.close()

    if fits:
        asyncio.run(main())
    else:
        with pytest.raises(MachineError, match="AF_UNIX path too long") as caught:
            asyncio.run(main())
        assert "TMPDIR" in caught.value.hint


def test_no_directory_for_sockets(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(MachineError, match="nowhere") as caught:
        ProcessWorkers(2)
    assert "TMPDIR" in caught.value.hint


def test_a_checkpoint_directory_that_cannot_be_written(place, tmp_path):
    (tmp_path / "file").write_text("")
    env = StreamEnvironment("job", checkpoint=Checkpointing(str(tmp_path / "file")))
    env.from_values([1]).print()
    with pytest.raises(MachineError, match=f"the checkpoint directory {tmp_path}/file can't be written"):
        env.execute()


def test_restore_without_checkpointing_is_refused():
    env = StreamEnvironment(restore="latest")
    env.from_values([1]).print()
    with pytest.raises(UsageError, match="no checkpointing to restore 'latest'"):
        env.execute()
