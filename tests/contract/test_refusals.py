"""What every operation refuses, and in which shape: 401, 404, 405, 413, 422, 429, 5xx and 501."""

from __future__ import annotations

import re
import socket
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import pytest

from mistral_nb.simulator import Faults
from mistral_nb.simulator.app import create_app
from tests.contract.operations import NOT_OFFERED, OFFERED, described
from tests.contract.schema import component, component_of, document, faults, operations
from tests.simulator.conftest import row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.simulator.conftest import Api

SENT = sorted({(method, path.partition("#")[0]) for method, path in OFFERED})
"""What is offered, as it is sent."""
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
REFUSAL = {"object", "message", "type", "param", "code"}
NOBODY = "00000000-0000-4000-8000-000000000001"


def there(path: str, name: str = NOBODY) -> str:
    """Put a name into a path where the description has a parameter."""
    return re.sub(r"\{\w+\}", name, path)


def test_every_operation_is_offered_or_not() -> None:
    """The table of this suite decides on each operation of the description, and on no other."""
    assert set(operations()) == OFFERED | NOT_OFFERED
    assert not OFFERED & NOT_OFFERED


def test_the_app_has_routes_for_what_is_offered(api: Api) -> None:
    """No route under /v1 that the table does not have, and none missing."""
    routes = {
        (method, route.path)
        for route in create_app(api.simulator._core).routes
        if route.path.startswith("/v1")
        for method in route.methods - {"HEAD"}
    }
    assert routes == set(SENT)


def test_no_key_is_401(api: Api) -> None:
    """The API's short body, for every operation and every kind of wrong key."""
    for key in ({}, {"authorization": "Bearer wrong-key"}, {"authorization": "Basic dGVzdA=="}):
        with httpx2.Client(base_url=api.simulator.url, headers=key) as http:
            replies = {each: http.request(each[0], there(each[1])) for each in SENT}
        found = {each: (reply.status_code, reply.json()) for each, reply in replies.items()}
        assert found == dict.fromkeys(SENT, (401, {"detail": "Unauthorized"}))


def test_names_that_nobody_has_are_404(api: Api) -> None:
    """For every operation on something that is not there, with a sentence that says so."""
    named = [each for each in SENT if "{" in each[1]]
    query = {"version": "0", "alias": "stable"}
    bodies: dict[tuple[str, str], Any] = {
        ("POST", "/v1/conversations/{conversation_id}"): {"inputs": "a"},
        ("POST", "/v1/conversations/{conversation_id}/restart"): {"from_entry_id": "a"},
        ("PATCH", "/v1/agents/{agent_id}"): {"name": "a"},
    }
    for method, path in named:
        body = bodies.get((method, path))
        # An agent's version in the path is a parameter too: the agent comes first.
        reply = api.http.request(method, there(path), params=query, json=body)
        assert reply.status_code == 404, (method, path, reply.text)
        said = reply.json()
        assert said.keys() in (REFUSAL, {"detail"}), (method, path)
        assert len((said.get("message") or said.get("detail")).split()) > 3


def test_a_method_that_a_path_has_not_is_405(api: Api) -> None:
    """As FastAPI says it, with the methods that are allowed."""
    for path in sorted({path for _, path in SENT} - {"/v1/agents/pages"}):  # also an id
        known = {method for method, each in SENT if each == path}
        known |= {method for method, each in NOT_OFFERED if each == path}
        for method in METHODS - known:
            reply = api.http.request(method, there(path))
            assert (reply.status_code, reply.json()) == (405, {"detail": "Method Not Allowed"})
            assert reply.headers["allow"]


@pytest.mark.parametrize(
    ("method", "path"), [each for each in SENT if "requestBody" in described(*each)]
)
def test_a_body_that_says_it_is_too_large_is_413(api: Api, method: str, path: str) -> None:
    """Refused before any of it is read, in the usual shape."""
    host = urlsplit(api.simulator.url)
    with socket.create_connection((host.hostname, host.port), timeout=20) as wire:
        head = f"{method} {there(path)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
        kind = "multipart/form-data; boundary=x" if path == "/v1/files" else "application/json"
        wire.sendall(f"{head}Content-Type: {kind}\r\nContent-Length: 9999999999\r\n\r\n".encode())
        reply = b"".join(iter(lambda: wire.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b'"type":"payload_too_large"' in reply


@pytest.mark.parametrize("body", [b"", b"{", b"null", b'"text"', b"\xff"])
def test_a_body_that_is_no_object_is_422(api: Api, body: bytes) -> None:
    """For every operation that takes JSON: a list with loc, msg and type."""
    for method, path in SENT:
        if "application/json" in described(method, path).get("requestBody", {}).get("content", {}):
            check_listed(api.http.request(method, there(path), content=body), ("body",))


def wrong_texts(schema: dict[str, Any]) -> Iterator[str]:
    """Yield texts that a parameter of some schema cannot be."""
    if "$ref" in schema:
        schema = component_of(document(), schema["$ref"])
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    for kind in kinds if len(kinds) == 1 else ():
        if kind is not schema or "enum" in kind:
            yield from ("nonsense",) if "enum" in kind else wrong_texts(kind)
        elif kind.get("type") == "array":
            yield from wrong_texts(kind["items"])
        elif kind.get("type") == "integer":
            yield from ("abc", "1.5", "")
            yield from [str(kind["minimum"] - 1)] if "minimum" in kind else ()
            yield from [str(kind["maximum"] + 1)] if "maximum" in kind else ()
        elif kind.get("type") == "object":
            yield from ("{", "[1]", "3")
        elif kind.get("type") == "boolean":
            yield "perhaps"
        elif "pattern" in kind:
            yield from ("9", "a" * 65)
        elif "format" in kind:
            yield from ("no-id", "soon")


def parameters() -> Iterator[tuple[str, str, str, str, str]]:
    for method, path in SENT:
        for each in described(method, path).get("parameters", ()):
            schema = each.get("schema") or each["content"]["application/json"]["schema"]
            for text in wrong_texts(schema):
                yield method, path, each["in"], each["name"], text


def test_a_wrong_parameter_is_422(api: Api) -> None:
    """Every parameter with a type, a range, a pattern or choices is held to them."""
    model = {"model": "mistral-small-latest"}
    agent = api.post("/v1/agents", {**model, "name": "a"}).json()["id"]
    tried = set()
    for method, path, place, name, text in parameters():
        where = there(path, text if place == "path" else agent)
        if place == "query" and "_id}" in path and "agent_id" not in path:
            where = there(path)  # what is asked for is looked at before what is not there
        query = {"version": "0", "alias": "stable"} if "agents/" in path else {}
        reply = api.http.request(
            method, where, params={**query, name: text} if place == "query" else query
        )
        check_listed(reply, (place, name))
        tried.add(name)
    assert {"page", "page_size", "version", "alias", "file_id", "job_id", "metadata"} < tried


def check_listed(reply: httpx2.Response, where: tuple[str, ...]) -> None:
    """Assert that a reply is a 422 that names a place."""
    assert reply.status_code == 422, (str(reply.url), reply.text)
    assert faults(reply.json(), component("HTTPValidationError")) == []
    assert tuple(reply.json()["detail"][0]["loc"][: len(where)]) == where


def test_a_missing_parameter_is_422(api: Api) -> None:
    """What the description requires of a query has to be there."""
    agent = api.post("/v1/agents", {"model": "mistral-small-latest", "name": "a"}).json()["id"]
    asked = 0
    for method, path in SENT:
        for each in described(method, path).get("parameters", ()):
            if each["in"] == "query" and each.get("required"):
                rest = {"version": "0", "alias": "stable"}
                del rest[each["name"]]
                reply = api.http.request(method, there(path, agent), params=rest)
                check_listed(reply, ("query", each["name"]))
                assert reply.json()["detail"][0]["type"] == "missing"
                asked += 1
    assert asked == 4


@pytest.mark.parametrize("say", [True, False])
def test_too_many_requests_are_429(make_api: Callable[..., Api], say: bool) -> None:
    """The recorded body and rate headers for every operation; Retry-After only if asked for."""
    limited = make_api(requests_per_minute=10, tokens_per_minute=100_000)
    limited.simulator.faults = Faults(rate_limit_rate=1, retry_after=7 if say else None)
    for method, path in SENT:
        reply = limited.http.request(method, there(path))
        assert (reply.status_code, reply.json()) == (
            429,
            {
                "object": "error",
                "message": "Rate limit exceeded",
                "type": "rate_limited",
                "param": None,
                "code": "1300",
                "raw_status_code": 429,
            },
        )
        rates = {name for name in reply.headers if name.startswith("x-ratelimit-")}
        assert rates == {
            "x-ratelimit-limit-req-minute",
            "x-ratelimit-remaining-req-minute",
            "x-ratelimit-limit-tokens-minute",
            "x-ratelimit-remaining-tokens-minute",
            "x-ratelimit-tokens-query-cost",
        }
        assert reply.headers.get("retry-after") == ("7" if say else None)


@pytest.mark.parametrize("say", [True, False])
def test_a_limit_is_kept(make_api: Callable[..., Api], say: bool) -> None:
    """The second of two requests a minute is too many; the headers tell what is left."""
    limited = make_api(requests_per_minute=1, tokens_per_minute=100_000, send_retry_after=say)
    first, second = limited.chat("a"), limited.chat("b")
    assert first.headers["x-ratelimit-remaining-req-minute"] == "0"
    assert int(first.headers["x-ratelimit-tokens-query-cost"]) > 0
    assert second.status_code == 429
    assert second.headers["x-ratelimit-limit-req-minute"] == "1"
    assert int(second.headers["x-ratelimit-remaining-tokens-minute"]) < 100_000
    assert ("retry-after" in second.headers) == say
    if say:
        assert 0 < int(second.headers["retry-after"]) <= 60


def test_a_fault_is_a_server_error_in_the_usual_form(api: Api) -> None:
    """5xx come as objects with message, type and code, whatever was asked."""
    api.simulator.faults = Faults(error_rate=1, error_status=503)
    for method, path in SENT:
        reply = api.http.request(method, there(path))
        assert (reply.status_code, reply.json().keys()) == (503, REFUSAL)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *sorted(NOT_OFFERED),
        ("POST", "/v1/audio/transcriptions"),
        ("GET", "/v1/fine_tuning/jobs"),
        ("GET", "/v1/libraries"),
    ],
)
def test_what_is_not_offered_says_so(api: Api, method: str, path: str) -> None:
    """501 and a sentence that names the request and what to do instead."""
    reply = api.http.request(method, there(path))
    assert reply.status_code == 501
    said = f"The simulator does not offer {method} {there(path)}. "
    assert reply.json()["message"].startswith(said)
    assert "MISTRAL_API_KEY" in reply.json()["message"]


@pytest.mark.parametrize(
    "path", ["/v1/nonsense", "/v1", "/v1/files/a/b/c", "/x", "/v1/chat/models"]
)
def test_paths_that_do_not_exist_are_404(api: Api, path: str) -> None:
    """In the words of what stands before the real API (seen live)."""
    reply = api.get(path)
    assert reply.status_code == 404
    assert reply.json()["message"] == "no Route matched with those values"
    assert uuid.UUID(reply.json()["request_id"])


def test_an_unknown_model_is_400(api: Api) -> None:
    """With type invalid_model, for a job as for a chat."""
    body = {"endpoint": "/v1/chat/completions", "model": "nobody", "requests": [row(1)]}
    for reply in (api.post("/v1/batch/jobs", body), api.chat("a", model="nobody")):
        assert (reply.status_code, reply.json()["type"]) == (400, "invalid_model")
