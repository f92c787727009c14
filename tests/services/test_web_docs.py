"""The examples of docs/web.md do what the page says."""

import contextlib
import io
import json
import re
from pathlib import Path

from aiohttp import web

PAGE = Path(__file__).parents[2] / "docs" / "web.md"
EDITS = [("Berlin", 1200), ("Paris", 10), ("Rome", 900)]


def test_examples(service):
    async def handle(request):
        if request.path == "/alarms":
            return web.Response(status=202)
        if "Last-Event-ID" in request.headers:
            return web.Response(status=204)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number, (page, size) in enumerate(EDITS):
            await response.write(
                f"id: {number}\nretry: 1\ndata: {json.dumps({'page': page, 'bytes': size})}\n\n".encode()
            )
        return response

    service.stream = handle
    names, printed = {}, io.StringIO()
    examples = re.findall(r"```py\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 4
    for code, expected in examples:
        with contextlib.redirect_stdout(printed):
            exec(code.replace("localhost:8080", service.host), names)
        assert printed.getvalue() == expected
        printed.seek(0)
        printed.truncate()
    alarms = [one for one in service.received if one.path == "/alarms"]
    assert sorted(one.body for one in alarms) == [b'{"id":1,"text":"too hot"}', b'{"id":2,"text":"too cold"}']
    assert {one.headers["Idempotency-Key"] for one in alarms} == {"1", "2"}
