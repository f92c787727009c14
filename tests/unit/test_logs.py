from __future__ import annotations

import json
import logging
import re
import time

import pytest

from streamcore.logs import CONTEXT, JsonFormatter, TextFormatter, configure_logging


@pytest.fixture
def logged(capsys):
    """Reads what streamcore has logged to stderr; the logger is as before afterwards."""
    logger = logging.getLogger("streamcore")
    before = logger.handlers[:], logger.level, logger.propagate
    yield lambda: capsys.readouterr().err
    logger.handlers[:], logger.level, logger.propagate = before


def log(message, *values, level=logging.INFO, exc_info=None, **context):
    logging.getLogger("streamcore.job").log(level, message, *values, exc_info=exc_info, extra=context)


def test_text_has_time_level_message_and_place(logged):
    configure_logging()
    log("took %d ms", 5, job="j", checkpoint=3, operator="map", subtask=0, epoch=2, worker=1)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d INFO took 5 ms \(job=j, operator=map, subtask=0, epoch=2, checkpoint=3, worker=1\)\n",
        logged(),
    )


def test_text_without_a_place_ends_with_the_message(logged):
    configure_logging()
    log("hello", level=logging.WARNING)
    assert logged().endswith("WARNING hello\n")


def test_text_shows_the_local_time_of_the_record():
    record = logging.LogRecord("streamcore", logging.INFO, "f.py", 1, "m", (), None)
    record.created = 1_700_000_000.9
    stamp = time.strftime("%H:%M:%S", time.localtime(1_700_000_000))
    assert TextFormatter().format(record) == f"{stamp} INFO m"


def test_json_is_one_object_a_line_with_the_context_as_values(logged):
    configure_logging(as_json=True)
    log("two\nlines %s", "é", job="j", subtask=0, checkpoint=None)
    log("second", epoch=4)
    first, second = (json.loads(line) for line in logged().splitlines())
    assert abs(first.pop("time") - time.time() * 1000) < 60_000
    assert first == {"level": "INFO", "logger": "streamcore.job", "message": "two\nlines é", "job": "j", "subtask": 0}
    assert second["epoch"] == 4
    assert "job" not in second


@pytest.mark.parametrize("name", CONTEXT)
def test_every_context_field_is_in_both_forms(name):
    record = logging.makeLogRecord({"msg": "m", "name": "streamcore", name: 17})
    assert f"{name}=17" in TextFormatter().format(record)
    assert json.loads(JsonFormatter().format(record))[name] == 17


def test_json_keeps_the_traceback(logged):
    configure_logging(as_json=True)
    try:
        raise ValueError("boom")
    except ValueError:
        log("failed", level=logging.ERROR, exc_info=True)
    entry = json.loads(logged())
    assert "ValueError: boom" in entry["exception"]


def test_values_that_json_doesnt_know_become_text(logged):
    configure_logging(as_json=True)
    log("m", operator=ValueError)
    assert json.loads(logged())["operator"] == "<class 'ValueError'>"


def test_the_level_is_kept(logged):
    configure_logging("WARNING")
    log("quiet")
    log("loud", level=logging.WARNING)
    text = logged()
    assert "loud" in text
    assert "quiet" not in text


def test_configuring_twice_logs_once(logged):
    configure_logging()
    configure_logging()
    log("once")
    assert logged().count("once") == 1


def test_nothing_reaches_the_root_logger(logged, caplog):
    configure_logging()
    log("ours")
    assert caplog.records == []
