"""Jobs on web services are killed with -9: nothing is lost, and only what came after the checkpoint comes again."""

import asyncio
import json
import threading
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web
from paho.mqtt import client as paho
from paho.mqtt.publish import multiple
from test_mqtt_sink import Subscriber

from streamcore.connectors.file_sink import read_jsonl
from tests.process.process_harness import Runs, until

JOBS = Path(__file__).parent / "web_jobs.py"
COMPLETE = "checkpoint complete"


@pytest.fixture
def runs(tmp_path):
    made = Runs(tmp_path)
    yield made
    made.kill()


def checkpoints(run, more):
    """Waits until so many more checkpoints are complete."""
    run.wait_for(COMPLETE, run.text.count(COMPLETE) + more)


def test_what_is_posted_is_never_lost_and_doubled_only_since_the_checkpoint(runs, service):
    records = 3_000

    def start(rate, restore=None):
        return runs.start("posts", "--parallelism", "2", restore=restore, target=JOBS,
                          url=service.url, records=records, rate=rate)  # fmt: skip

    def delivered():
        """What has been delivered while the newest checkpoint, or the next one, was complete."""
        before = run.text.count(COMPLETE)
        early = Counter(service.bodies)
        after = run.text.count(COMPLETE)
        return (early, after) if after <= before + 1 else None

    run = start(800)
    service.wait_for(100)
    service.stop()
    run.wait_for("can't be reached; waiting for it")
    service.start()
    run.wait_for("can be reached again")
    checkpoints(run, 1)
    early, after = until(delivered, "a moment between two checkpoints")
    # the barrier of the one after the next follows when `early` was counted
    run.wait_for(COMPLETE, after + 2)
    run.kill()
    text = run.text
    at_the_kill = set(service.bodies)
    assert len(at_the_kill) < records, "it is killed on its way"
    start(1e6, "latest").expect(0)

    times = Counter(service.bodies)
    assert {json.loads(body)["n"] for body in times} == set(range(records))
    doubled = {body for body, count in times.items() if count > early[body] > 0}
    assert not doubled, "what was delivered before the checkpoint is delivered again"
    assert {one.headers["Idempotency-Key"] == str(json.loads(one.body)["n"]) for one in service.received} == {True}
    assert text.count("can't be reached") == 1


def test_events_are_written_once_through_a_kill(runs, service):
    count, at_the_kill = 300, 150
    is_killed = threading.Event()

    async def stream(request):
        last = request.headers.get("Last-Event-ID")
        start = 0 if last is None else int(last) + 1
        if start == count:
            return web.Response(status=204)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for n in range(start, min(start + 97, count)):
            while n >= at_the_kill and not is_killed.is_set():
                await asyncio.sleep(0.01)
            await response.write(b'id: %d\ndata: {"n": %d}\n\n' % (n, n))
            await asyncio.sleep(0.001)
        return response

    service.stream = stream
    run = runs.start("events", target=JOBS, url=service.url)
    checkpoints(run, 1)
    run.kill()
    is_killed.set()
    runs.start("events", target=JOBS, url=service.url, restore="latest").expect(0)
    assert [row["n"] for row in read_jsonl(runs.output / "events")] == list(range(count))


def test_messages_are_relayed_through_kills_of_the_job_and_the_broker(runs, mosquitto):
    def publish(start, stop):
        messages = [{"topic": "in", "payload": str(n), "qos": 1} for n in range(start, stop)]
        multiple(messages, "127.0.0.1", mosquitto.port, protocol=paho.MQTTv5)

    def relayed():
        return {int(body) for topic, body in subscriber.messages if topic == "out"}

    with Subscriber(mosquitto) as subscriber:
        run = runs.start("relay", target=JOBS, broker=mosquitto.url)
        until(lambda: "SUBACK to relay" in mosquitto.log, "the job has subscribed")
        publish(0, 200)
        checkpoints(run, 2)
        publish(200, 400)
        run.kill()
        publish(400, 500)
        run = runs.start("relay", target=JOBS, broker=mosquitto.url, restore="latest")
        until(lambda: relayed() == set(range(500)), "all are relayed")
        mosquitto.save()
        mosquitto.kill()
        run.wait_for("can't be reached; waiting for it")
        mosquitto.start()
        run.wait_for("can be reached again")
        publish(500, 600)
        until(lambda: relayed() == set(range(600)), "all are relayed")
        checkpoints(run, 2)
        run.kill()
