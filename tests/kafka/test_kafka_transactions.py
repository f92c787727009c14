"""Exactly once on a real broker: one transaction a checkpoint, committed once, and lost ones told of."""

import asyncio
import itertools
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import TopicPartition
from writer_rig import Rig, pair_sink, rows, running, visible

from streamcore.errors import ConnectorError, FencedError

WRITING_PROCESS = Path(__file__).with_name("writing_process.py")


def run(test):
    asyncio.run(asyncio.wait_for(test, 60.0))


def test_records_are_visible_when_their_checkpoint_is_committed(broker, topic):
    broker.create_topic(topic, 3)

    async def test():
        async with running(pair_sink(broker.servers, topic)) as rig:
            await rig.write(rows(1, 2))
            first = await rig.prepare()
            await rig.write(rows(3))
            assert await visible(broker, topic) == []
            await rig.writer.commit(first)
            await rig.writer.commit(first)
            assert await visible(broker, topic) == ["1", "2"]
            second = await rig.prepare()
            await rig.writer.commit(second)
            assert await visible(broker, topic) == ["1", "2", "3"]
        assert [(one[3], one[4]) for one in first + second] == [(2, [topic]), (1, [topic])]
        assert first[0][0] != second[0][0], "two transactions in a row never have one id"

    run(test())


def test_intervals_without_records_make_no_transaction(broker, topic):
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic)) as rig:
            assert [await rig.prepare() for _ in range(5)] == [[]] * 5
            await rig.write(rows(1))
            assert len(await rig.checkpoint()) == 1
            assert await rig.prepare() == []
        assert await visible(broker, topic) == ["1"]

    run(test())


def test_the_order_within_a_partition_is_kept_over_many_transactions(broker, topic):
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic, batch_bytes=2000)) as rig:
            cuts = []
            for interval in range(20):
                await rig.write(rows(*range(interval * 200, interval * 200 + 200)))
                cuts.append(asyncio.ensure_future(rig.writer.prepare()))  # the next records don't wait for it
            for cut in cuts:
                await rig.writer.commit(await cut)
        assert await visible(broker, topic) == [str(n) for n in range(4000)]

    run(test())


def test_ids_are_used_again_when_no_snapshot_has_them(broker, topic):
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic)) as rig:
            ids = []
            for number in range(12):
                await rig.write(rows(number))
                ids += [handle[0] for handle in await rig.checkpoint()]
        assert len(set(ids)) <= 5
        assert all(one != following for one, following in itertools.pairwise(ids))

    run(test())


def killed_while_prepared(broker, topic, *, more=0):
    """The handles that a process had prepared when it was killed; it has written `more` records after."""
    process = subprocess.run(
        [sys.executable, WRITING_PROCESS, broker.servers, topic, str(more)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    return msgspec.json.decode(process.stdout)


def test_what_a_killed_process_had_prepared_is_committed_and_its_leftovers_are_not(broker, topic):
    broker.create_topic(topic, 2)
    handles = killed_while_prepared(broker, topic, more=10)

    async def test():
        assert await visible(broker, topic) == []
        async with running(pair_sink(broker.servers, topic), handles) as rig:
            assert await visible(broker, topic) == ["0", "1", "2", "3", "4"]
            await rig.write(rows("after"))
            await rig.checkpoint()
        # the killed process' open transaction would hold these back
        assert await visible(broker, topic) == ["0", "1", "2", "3", "4", "after"]
        async with running(pair_sink(broker.servers, topic), handles):  # once more, from the same snapshot
            pass
        assert await visible(broker, topic) == ["0", "1", "2", "3", "4", "after"]

    run(test())


def test_a_broker_killed_between_prepare_and_commit(fresh_broker, topic):
    """What a subtask that starts now, and one that delivers at least once, do meanwhile: they wait."""
    broker = fresh_broker
    safe, late = f"{topic}-safe", f"{topic}-late"
    for name in (topic, safe, late):
        broker.create_topic(name)

    async def test():
        at_least_once = pair_sink(broker.servers, safe, delivery="at-least-once")
        async with running(pair_sink(broker.servers, topic)) as rig, running(at_least_once) as other:
            await rig.write(rows(1, 2, 3))
            await other.write(rows(1))
            handles = await rig.prepare()
            await asyncio.to_thread(broker.kill9)
            commit = asyncio.ensure_future(rig.writer.commit(handles))
            await rig.write(rows(4))
            await other.write(rows(2, 3))
            acknowledged = asyncio.ensure_future(other.writer.prepare())
            starting = Rig(pair_sink(broker.servers, late))
            opened = asyncio.ensure_future(starting.open())
            while not (rig.waits and other.waits and starting.waits):
                await asyncio.sleep(0.05)
            assert not commit.done()
            assert not acknowledged.done()
            assert not opened.done()
            await asyncio.to_thread(broker.start)
            await commit
            assert list(await acknowledged) == []
            await rig.checkpoint()
            await opened
            await starting.write(rows(1))
            await starting.checkpoint()
            await starting.writer.close()
            while rig.waits[-1] is not None:
                await asyncio.sleep(0.05)
            assert rig.waits == [f"Kafka at {broker.servers}", None]
            assert starting.waits[-1] is None
            assert rig.failures == other.failures == starting.failures == []
        assert await visible(broker, topic) == ["1", "2", "3", "4"]
        assert await visible(broker, safe) == ["1", "2", "3"]
        assert await visible(broker, late) == ["1"]

    run(test())


async def prepared_and_left(broker, topic, *values, **options):
    """The handles of a writer that ended before they were committed."""
    async with running(pair_sink(broker.servers, topic, **options)) as rig:
        await rig.write(rows(*values))
        return await rig.prepare()


def test_a_transaction_whose_id_was_taken_is_not_committed_and_told_of(broker, topic, caplog):
    broker.create_topic(topic)

    async def test():
        handles = await prepared_and_left(broker, topic, 1, 2)
        async with running(
            pair_sink(broker.servers, topic)
        ) as other:  # knows nothing of the handles: they are leftovers
            await other.write(rows("other"))
            await other.checkpoint()
        with pytest.raises(ConnectorError) as caught:
            async with running(pair_sink(broker.servers, topic), handles):
                pass
        assert "2 records" in str(caught.value)
        assert topic in str(caught.value)
        assert "a later session has its id" in str(caught.value)
        assert "can't be told" not in str(caught.value)
        async with running(pair_sink(broker.servers, topic, on_lost="warn"), handles) as rig:
            await rig.write(rows("goes on"))
            await rig.checkpoint()
        assert await visible(broker, topic) == ["other", "goes on"]
        assert "are lost" in caplog.text

    run(test())


def test_an_old_snapshot_whose_ids_were_used_again_since_has_lost_nothing(broker, topic):
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic)) as rig:
            await rig.write(rows(1))
            oldest = await rig.checkpoint()
        async with running(pair_sink(broker.servers, topic)) as rig:
            await rig.write(rows(2))
            await rig.checkpoint()
        async with running(pair_sink(broker.servers, topic), oldest):
            pass
        assert await visible(broker, topic) == ["1", "2"]

    run(test())


def test_a_leftover_with_the_id_of_an_older_snapshots_handle_is_aborted(broker, topic):
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic)) as rig:
            await rig.write(rows(1))
            oldest = await rig.checkpoint()
        async with running(pair_sink(broker.servers, topic)) as rig:
            await rig.write(rows("later"))
            left = await rig.prepare()
            assert left[0][0] == oldest[0][0]
        there_were = broker.end_offsets(topic)
        async with running(pair_sink(broker.servers, topic), oldest):
            await ended(broker, topic, beyond=sum(there_were.values()))  # readers needn't wait for it
        assert await visible(broker, topic) == ["1"]

    run(test())


def test_a_transaction_that_timed_out_before_it_was_committed(broker, topic):
    broker.create_topic(topic)

    async def test():
        handles = await prepared_and_left(broker, topic, 1, transaction_timeout=0.5)
        await ended(broker, topic)
        with pytest.raises(ConnectorError, match=r"1 records .* are lost: the brokers aborted it after 0.5 s"):
            async with running(pair_sink(broker.servers, topic), handles):
                pass
        assert await visible(broker, topic) == []

    run(test())


async def ended(broker, topic, beyond=0):
    """Waits until there are messages `beyond` so many, and no open transaction holds back the topic's readers. How many
    there are then, with the marks of the transactions' ends."""
    while True:
        ends = broker.end_offsets(topic)
        if sum(ends.values()) > beyond and ends == broker.end_offsets(topic, "read_committed"):
            return sum(ends.values())
        await asyncio.sleep(0.05)


def test_a_transaction_that_times_out_while_the_job_runs_is_told_apart_from_fencing(broker, topic):
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic, transaction_timeout=0.5, linger=0.0)) as rig:
            await rig.write(rows(1))
            there_are = await ended(broker, topic)
            with pytest.raises(ConnectorError, match=r"open for more than 0\.5 s"):
                await rig.prepare()
        async with running(pair_sink(broker.servers, topic, transaction_timeout=0.5, linger=0.0)) as rig:
            await rig.write(rows(1))
            await ended(broker, topic, beyond=there_are)
            await rig.write(rows(2))
            error = await rig.failure()
            assert isinstance(error, ConnectorError)
            assert "open for more than 0.5 s" in str(error)
        assert await visible(broker, topic) == []

    run(test())


@pytest.mark.parametrize("has_records", [True, False])
def test_what_was_prepared_for_a_failed_checkpoint_and_timed_out_fails_the_next(broker, topic, has_records):
    """The next one, with its own records or without, would be complete with the lost one's handle."""
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic, transaction_timeout=0.5)) as rig:
            await rig.write(rows(1))
            await rig.prepare()  # and this checkpoint is never complete
            await ended(broker, topic)
            if has_records:
                await rig.write(rows(2))
            with pytest.raises(ConnectorError, match=r"open for more than 0\.5 s"):
                await rig.prepare()

    run(test())


def test_what_was_prepared_for_a_failed_checkpoint_is_committed_with_the_next(broker, topic):
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic)) as rig:
            await rig.write(rows(1))
            first = await rig.prepare()
            await rig.write(rows(2))
            second = await rig.prepare()
            assert await rig.prepare() == []
            await rig.writer.commit(first + second)
            assert await rig.prepare() == []
        assert await visible(broker, topic) == ["1", "2"]

    run(test())


def test_the_second_job_with_a_prefix_fences_the_first(broker, topic):
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic, linger=0.0)) as first:
            await first.write(rows(1))
            await first.checkpoint()
            await first.write(rows("of the first"))
            prepared = await first.prepare()
            await first.write(rows("of the first"))
            async with running(pair_sink(broker.servers, topic)) as second:
                await second.write(rows(2))
                await first.write(rows("of the first"))
                assert isinstance(await first.failure(), FencedError)
                with pytest.raises(FencedError, match=r"1 records .* were not committed"):
                    await first.writer.commit(prepared)
                await second.checkpoint()
                assert second.failures == []
        assert await visible(broker, topic) == ["1", "2"]

    run(test())


def test_an_idle_first_job_finds_out_before_it_can_disturb_the_second(broker, topic):
    broker.create_topic(topic)

    async def test():
        async with (
            running(pair_sink(broker.servers, topic)) as first,
            running(pair_sink(broker.servers, topic)) as second,
        ):
            await second.write(rows(2))
            await first.write(rows("of the first"))
            with pytest.raises(FencedError):
                await first.prepare()
            await second.checkpoint()
        assert await visible(broker, topic) == ["2"]

    run(test())


def test_a_job_with_fewer_subtasks_takes_over_all_there_were(broker, topic):
    broker.create_topic(topic)

    async def test():
        sink = pair_sink(broker.servers, topic)
        rigs = [await Rig(sink, subtask, 3).open() for subtask in range(3)]
        handles = []
        for number, rig in enumerate(rigs):
            await rig.write(rows(number))
            handles += await rig.prepare()
            await rig.write(rows("left"))
        async with running(sink, handles):
            assert sorted(await visible(broker, topic)) == ["0", "1", "2"]
            await ended(broker, topic)
            for rig in rigs:
                with pytest.raises(FencedError):
                    await rig.prepare()
        for rig in rigs:
            await rig.writer.close()

    run(test())


def test_a_writer_that_ends_does_not_leave_readers_waiting(broker, topic):
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic, linger=0.0)) as rig:
            await rig.write(rows(1))
            while broker.end_offsets(topic) == {0: 0}:
                await asyncio.sleep(0.02)
        await ended(broker, topic)  # the brokers would wait for 15 minutes

    run(test())


def handle_of(topic, partition, offset):
    """A handle that the brokers don't know, with an example record at this place."""
    return [f"p-{topic}-0-7", 999_999, 0, 5, [topic], [topic, partition, offset]]


@pytest.mark.parametrize(
    ("partition", "offset", "reason"),
    [
        (0, 100, "partition 0 .* ends before its records"),
        (3, 0, "there is no partition 3"),
        (0, 0, "no longer kept"),
    ],
)
def test_records_of_an_unknown_id_that_are_nowhere(broker, topic, partition, offset, reason):
    """Another cluster, or a topic that was made anew, or records that were deleted."""
    broker.create_topic(topic)
    broker.produce(topic, ["a", "b", "c"])
    (deleted,) = broker.admin.delete_records([TopicPartition(topic, 0, 2)]).values()
    deleted.result(10.0)

    async def test():
        with pytest.raises(ConnectorError, match=f"5 records .* are lost: .* can't be told: .*{reason}"):
            async with running(pair_sink(broker.servers, topic), [handle_of(topic, partition, offset)]):
                pass

    run(test())


def test_a_record_that_was_compacted_away(broker, topic):
    """At the offset of a transaction's end no reader finds a record either."""
    broker.create_topic(topic)

    async def test():
        async with running(pair_sink(broker.servers, topic, prefix=f"other-{topic}")) as other:
            for value in (1, 2):
                await other.write(rows(value))
                await other.checkpoint()
                await ended(broker, topic)  # its mark is there
        with pytest.raises(ConnectorError, match=r"can't be told: its records are no longer kept: .* compacted"):
            async with running(pair_sink(broker.servers, topic), [handle_of(topic, 0, 1)]):
                pass

    run(test())


def test_records_of_an_unknown_id_in_a_topic_that_is_gone(broker, topic):
    broker.create_topic(topic)

    async def test():
        with pytest.raises(ConnectorError, match="there is no partition 0 of 'gone-"):
            async with running(pair_sink(broker.servers, topic), [handle_of(f"gone-{topic}", 0, 0)]):
                pass

    run(test())


def test_records_behind_anothers_open_transaction_are_waited_for_and_that_is_said(broker, topic, caplog):
    broker.create_topic(topic)

    async def test():
        sink = pair_sink(broker.servers, topic)
        async with running(pair_sink(broker.servers, topic, prefix=f"other-{topic}", linger=0.0)) as other:
            await other.write(rows("held back"))
            held = await other.prepare()
            await asyncio.to_thread(broker.produce, topic, ["ours"])
            starting = Rig(sink)
            opened = asyncio.ensure_future(starting.open([handle_of(topic, 0, 1)]))
            while "waiting for a transaction to end that is open" not in caplog.text:
                await asyncio.sleep(0.02)
            assert not opened.done()
            await other.writer.commit(held)
            await opened  # the record is there: it was committed
            await starting.writer.close()

    run(test())


def test_records_of_a_lost_transaction_behind_one_that_is_restored_too(broker, topic):
    """The first handle's records can be seen only when the second is committed."""
    broker.create_topic(topic)

    async def test():
        held = await prepared_and_left(broker, topic, "held back")
        await asyncio.to_thread(broker.produce, topic, ["ours"])
        async with running(pair_sink(broker.servers, topic), [handle_of(topic, 0, 1), *held]):
            assert await visible(broker, topic) == ["held back", "ours"]

    run(test())
