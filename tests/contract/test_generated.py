"""Requests made from the API's own description, right and wrong ones, to every operation offered.

``CONTRACT_EXAMPLES=2000 pytest tests/contract/test_generated.py`` looks deeper, and elsewhere each time.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from pydantic import TypeAdapter
from schemathesis.generation import GenerationMode

from mistral_nb.simulator import start_simulator
from tests.contract.grounded import PROMPTS, World, grounded, read_leniently, settled, tagged
from tests.contract.operations import OFFERED, described, sdk_type
from tests.contract.schema import component, faults
from tests.contract.test_openapi import parts
from tests.simulator.conftest import Api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemathesis import Case

EXAMPLES = int(os.environ.get("CONTRACT_EXAMPLES", "8"))
DEEP = EXAMPLES > 50
KEY = {"authorization": "Bearer test-key"}
RULES = settings(
    max_examples=EXAMPLES,
    derandomize=not DEEP,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink) if DEEP else (Phase.generate,),
)
ANSWERABLE = sorted(OFFERED)
WITH_BODY = [each for each in ANSWERABLE if "requestBody" in described(*each)]


class Caller:
    """Sends generated requests to one simulator."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.http = requests.Session()
        self.http.trust_env = False
        self.right = schemathesis.openapi.from_dict(grounded(world))
        self.raw = schemathesis.openapi.from_dict(tagged())

    def send(self, case: Case, method: str, path: str) -> requests.Response:
        """Send one request, about things that are there."""
        case.path_parameters = {**case.path_parameters, **self.world.path(path, method)}
        url = self.world.api.simulator.url
        # Not case.call(), which stops reading a stream after some events.
        return self.http.request(**case.as_transport_kwargs(base_url=url, headers=KEY))


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    simulator = start_simulator(tmp_path_factory.mktemp("world"), chunk_delay=0, batch_rate=0)
    api = Api(simulator)
    yield Caller(World(api))
    api.http.close()
    simulator.stop()


def run(strategy: Any, check: Callable[[Case], None]) -> None:
    RULES(given(strategy)(check))()


def agree(body: Any, where: str, kind: Any) -> None:
    """Assert that a body is as described, and that the SDK has a name for all of it."""
    assert faults(body, where) == []
    parsed = TypeAdapter(kind).validate_python(body)
    assert [part for part in parts(parsed) if "Unknown" in type(part).__name__] == []


def check_reply(reply: requests.Response, method: str, path: str) -> None:
    """Assert that a reply to a right request is one that the description has."""
    answers = described(method, path)["responses"]
    assert reply.status_code < 400, reply.text
    assert str(reply.status_code) in answers
    kind = reply.headers.get("content-type", "").partition(";")[0]
    content = answers[str(reply.status_code)].get("content", {})
    if not content:
        assert reply.content == b""
        return
    assert kind in content
    where = component_place(method, path, reply.status_code, kind)
    if kind == "application/json":
        agree(reply.json(), where, sdk_type(method, path, kind))
    elif kind == "text/event-stream":
        check_stream(reply.content.decode(), where, sdk_type(method, path, kind))


def component_place(method: str, path: str, status: int, kind: str) -> str:
    steps = ("paths", path, method.lower(), "responses", str(status), "content", kind, "schema")
    escaped = (each.replace("~", "~0").replace("/", "~1") for each in steps)
    return "#/" + "/".join(
        each.replace("{", "%7B").replace("}", "%7D").replace("#", "%23") for each in escaped
    )


def check_stream(text: str, where: str, kind: Any) -> None:
    """Assert that each event of a stream is as described."""
    *blocks, rest = text.split("\n\n")
    assert rest == ""
    if where.partition("responses")[0].count("conversations") == 0:
        assert blocks.pop() == "data: [DONE]"
    assert blocks
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        event = {**fields, "data": json.loads(fields["data"])}
        agree(event, where, kind)


@pytest.mark.parametrize(("method", "path"), ANSWERABLE)
def test_a_right_request_gets_a_described_reply(caller: Caller, method: str, path: str) -> None:
    """Never a 5xx nor a 422; a body that the schema and the SDK know; 400 and 404 say why."""
    good = []

    def check(case: Case) -> None:
        if path == "/v1/chat/completions":  # someone has to have asked
            asked = PROMPTS[len(case.body["messages"]) % len(PROMPTS)]
            last = {"role": "user", "content": asked}
            case.body["messages"] = [*settled(case.body["messages"]), last]
        reply = caller.send(case, method, path)
        if reply.status_code in {400, 404}:
            assert reply.json().keys() >= {"object", "message", "type", "code"}
        else:
            check_reply(reply, method, path)
            good.append(reply)

    run(caller.right[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE), check)
    # Most results of calls that nobody made are refused; how many are among the examples
    # depends on what else the process has imported.
    assert len(good) * 4 >= EXAMPLES or "{conversation_id}" in path


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_a_wrong_body_is_refused(caller: Caller, method: str, path: str) -> None:
    """422 with a list of what is wrong, for everything that the description forbids."""
    content = described(method, path)["requestBody"]["content"]
    (media,) = content
    wanted = tagged()["paths"][path][method.lower()]["requestBody"]["content"][media]["schema"]
    lenient = jsonschema.Draft202012Validator(read_leniently({**tagged(), **wanted}))

    def check(case: Case) -> None:
        case.query, case.headers, case.cookies = {}, {}, {}
        if media == "application/json":
            assume(not lenient.is_valid(case.body))
        else:  # a form has no types, only parts: one that is missing is wrong
            assume(isinstance(case.body, dict))
            case.body.pop("file", None)
        reply = caller.send(case, method, path)
        assert reply.status_code == 422, reply.text
        assert faults(reply.json(), component("HTTPValidationError")) == []
        assert reply.json()["detail"]

    run(caller.raw[path][method].as_strategy(generation_mode=GenerationMode.NEGATIVE), check)
