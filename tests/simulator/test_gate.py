"""Keys, unknown addresses, limits and counting, before any route."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest

from mistral_nb.simulator import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulator.conftest import Api


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Basic abc", "Bearer wrong-key", "Bearer invalid", "secret"],
)
def test_a_missing_or_wrong_key_is_401(api: Api, header: str | None) -> None:
    """Every address under /v1 asks for a key and says the same as the API."""
    headers = {} if header is None else {"authorization": header}
    for path in ("/v1/models", "/v1/files", "/v1/nothing"):
        reply = httpx2.get(api.simulator.url + path, headers=headers)
        assert (reply.status_code, reply.json()) == (401, {"detail": "Unauthorized"})


def test_only_the_given_keys_are_right(make_api: Callable[..., Api]) -> None:
    """With api_keys set, another key is refused however it begins."""
    assert make_api("sesame", api_keys={"sesame"}).get("/v1/models").status_code == 200
    assert make_api("other", api_keys={"sesame"}).get("/v1/models").status_code == 401


def test_a_refused_upload_leaves_the_connection_usable(make_api: Callable[..., Api]) -> None:
    """The body of a refused request is read, so that the next request is understood."""
    api = make_api("wrong")
    for _ in range(2):
        reply = api.http.post("/v1/files", files={"file": ("a.jsonl", b"x" * 3_000_000)})
        assert reply.status_code == 401


@pytest.mark.parametrize("path", ["/v1/nothing", "/v2/models", "/", "/simulator/other"])
def test_an_unknown_address_is_404(api: Api, path: str) -> None:
    """404, and under any name but its own in the words of what stands before the real API."""
    reply = api.get(path)
    assert reply.status_code == 404
    own = path.startswith("/simulator")
    assert reply.json().keys() == ({"detail"} if own else {"message", "request_id"})


def test_a_wrong_method_is_405(api: Api) -> None:
    """As FastAPI answers it."""
    assert api.http.put("/v1/models").status_code == 405


def test_every_answer_is_counted_by_its_route(api: Api) -> None:
    """Ids do not multiply the counts; refusals are counted by their status."""
    for name in ("mistral-small-latest", "mistral-embed", "nobody"):
        api.get(f"/v1/models/{name}")
    httpx2.get(f"{api.simulator.url}/v1/models")
    counted = api.simulator.stats()["requests"]
    assert counted["GET /v1/models/{model_id} 200"] == 2
    assert counted["GET /v1/models/{model_id} 404"] == 1
    assert counted["GET /v1/models 401"] == 1


def test_the_token_limit_refuses_too(make_api: Callable[..., Api]) -> None:
    """Once a minute's tokens are used, the next request is 429."""
    api = make_api(tokens_per_minute=5)
    assert api.chat("2+2?").status_code == 200
    assert api.chat("2+2?").status_code == 429
    assert api.get("/v1/models").status_code == 200


def test_latency_delays_every_answer(api: Api) -> None:
    """The reply takes at least as long as the fault says."""
    api.simulator.faults = Faults(latency=0.2)
    assert api.chat("2+2?").elapsed.total_seconds() >= 0.2


def test_polls_fail_as_often_as_asked(api: Api) -> None:
    """batch_poll_errors strikes reads of one job only, and only so many."""
    job = api.ended(
        api.post(
            "/v1/batch/jobs",
            {
                "endpoint": "/v1/chat/completions",
                "model": "mistral-small-latest",
                "requests": [
                    {"custom_id": "1", "body": {"messages": [{"role": "user", "content": "a"}]}}
                ],
            },
        ).json()
    )
    api.simulator.faults = Faults(batch_poll_errors=2)
    assert api.get("/v1/batch/jobs").status_code == 200
    seen = [api.get(f"/v1/batch/jobs/{job['id']}").status_code for _ in range(4)]
    assert seen == [503, 503, 200, 200]
