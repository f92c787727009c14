"""Questions about transactions are asked until somebody answers, of the brokers that there are then."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import errors as kafka

from streamcore.connectors.kafka import coordinator
from streamcore.connectors.kafka.coordinator import Coordinator


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(coordinator, "_PAUSE_S", 0.0)
    monkeypatch.setattr(coordinator, "_SHORT_PAUSE_S", 0.0)


class Client:
    """A client of brokers that each give what `answers` has for them, in turn; the last answer again and again.
    An exception is raised. `later` are the brokers after the metadata were asked for."""

    def __init__(self, answers, later=()):
        self.asked = []
        self.cluster = SimpleNamespace(brokers=lambda: [SimpleNamespace(nodeId=node) for node in self.nodes])
        self.nodes = list(answers)
        self._answers = {node: list(given) for node, given in answers.items()}
        self._later = later

    async def send(self, node, request, group):
        self.asked.append(node)
        answers = self._answers[node]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def coordinator_lookup(self, kind, name):
        return await self.send("lookup", None, None)

    async def force_metadata_update(self):
        self.nodes = list(self._later) or self.nodes
        return True


def ids(*names, error_code=0):
    return SimpleNamespace(error_code=error_code, states=[(name, 1, "Empty") for name in names])


def result(question):
    return asyncio.run(asyncio.wait_for(question, 5.0))


def test_a_broker_that_is_gone_for_good_is_not_asked_for_ever():
    client = Client({1: [ids("a", "b")], 2: [kafka.NodeNotReadyError()]}, later=[1])
    assert result(Coordinator(client).ids()) == ["a", "b"]


def test_ids_of_all_brokers_and_of_one_that_is_loading_them():
    client = Client({1: [ids("a")], 2: [ids(error_code=14), ids("c", "b")]})
    assert result(Coordinator(client).ids()) == ["a", "b", "c"]


def test_no_rights_are_no_outage():
    with pytest.raises(kafka.ClusterAuthorizationFailedError):
        result(Coordinator(Client({1: [ids(error_code=31)]})).ids())


@pytest.mark.parametrize("where", ["lookup", 1])
@pytest.mark.parametrize("error", [KeyError((1, 2)), kafka.KafkaConnectionError(), TimeoutError()])
def test_a_question_is_asked_again_when_its_connection_was_dropped(where, error):
    answers = {"lookup": [1], 1: [SimpleNamespace(error_code=0, producer_id=7, producer_epoch=3)]}
    answers[where].insert(0, error)
    assert result(Coordinator(Client(answers)).begin_session("p-0-1", 1000)) == (7, 3)


def test_a_transaction_that_is_just_ending_is_waited_for():
    ending, done = SimpleNamespace(error_code=51), SimpleNamespace(error_code=0)
    assert result(Coordinator(Client({"lookup": [1], 1: [ending, done]})).end("p-0-1", 7, 3, commit=True))


def test_a_refusal_is_an_answer():
    refused = SimpleNamespace(error_code=47)
    assert not result(Coordinator(Client({"lookup": [1], 1: [refused]})).end("p-0-1", 7, 3, commit=True))
