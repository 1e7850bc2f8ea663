"""The connection: its hooks, its hidden key, and what its errors say."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb import client, errors
from mistral_nb.client import Connection, ModelDeprecated
from mistral_nb.events import EventBus
from mistral_nb.explaining import api_error, explain
from mistral_nb.settings import resolve
from mistral_nb.streaming import start_stream
from tests.recorder import Recorder, Say
from tests.replay import Replay, delta, sse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mistral_nb.lean import Answer
    from mistral_nb.simulator import Simulator

KEY = "s3cret-Key-0123456789"


@pytest.fixture
def replay() -> Iterator[Replay]:
    server = Replay()
    server.pieces = sse(delta("hi", "stop"), "[DONE]")
    yield server
    server.close()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder()
    yield server
    server.close()


@pytest.fixture
def linked(replay: Replay) -> Connection:
    return Connection(resolve(api_key=KEY, server_url=replay.url, timeout=5))


def text_of(connection: Connection) -> str:
    return start_stream(connection, EventBus(connection.portal), "hi").result(10).text


def test_the_deprecation_header_does_not_break_a_stream(replay: Replay, linked: Connection) -> None:
    """A stream with the header that trips the SDK arrives, and one warning names the model."""
    replay.headers = {"x-model-deprecation-timestamp": "2026-12-01T00:00:00Z"}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert text_of(linked) == text_of(linked) == "hi"
    told = [str(w.message) for w in seen if w.category is ModelDeprecated]
    assert len(told) == 1
    assert "mistral-small-latest" in told[0]
    assert "2026-12-01" in told[0]


def test_rate_limit_headers_are_recorded(replay: Replay, linked: Connection) -> None:
    """What the last response said of the limits can be read on the connection."""
    assert linked.rate_limits.requests is None
    replay.headers = {
        "x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-req-minute": "59",
        "x-ratelimit-limit-tokens-minute": "5000", "x-ratelimit-remaining-tokens-minute": "4990",
    }  # fmt: skip
    text_of(linked)
    limits = linked.rate_limits
    assert (limits.requests, limits.requests_left) == (60, 59)
    assert (limits.tokens, limits.tokens_left) == (5000, 4990)


def test_the_key_is_in_no_repr_and_no_error(replay: Replay, linked: Connection) -> None:
    """Connection, handle and every error in the chain are free of the key."""
    assert KEY not in repr(linked) + repr(linked.settings)
    replay.status, replay.pieces = 401, [b'{"detail": "Unauthorized"}']
    handle = start_stream(linked, EventBus(linked.portal), "hi")
    with pytest.raises(errors.AuthenticationError) as caught:
        handle.result(10)
    told, error = repr(handle), caught.value
    while error is not None:
        told += repr(error) + str(error) + repr(vars(error))
        error = error.__cause__ or error.__context__
    assert KEY not in told


def post(linked: Connection, body: bytes = b'{"model": "m"}') -> Answer:
    return linked.portal.call(linked.post, "/v1/chat/completions", body)


def test_the_lean_path_is_authorised_as_the_sdk_is(replay: Replay, linked: Connection) -> None:
    """The lean path sends the SDK's key and user agent."""
    text_of(linked)
    assert post(linked, b'{"a": 1}').status == 200
    by_sdk, lean = replay.request_headers
    assert lean["authorization"] == by_sdk["authorization"] == f"Bearer {KEY}"
    assert lean["user-agent"] == by_sdk["user-agent"]
    assert lean["content-type"] == by_sdk["content-type"] == "application/json"
    assert replay.requests[1] == {"a": 1}


def test_a_large_body_on_the_lean_path(replay: Replay, linked: Connection) -> None:
    """A body of megabytes arrives whole, typed and with its length, without a warning."""
    body = b'{"image": "%b"}' % (b"x" * 3_000_000)
    assert post(linked, body).status == 200
    assert replay.requests == [{"image": "x" * 3_000_000}]
    headers = replay.request_headers[0]
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(body))


def test_both_paths_take_in_the_same_headers(replay: Replay, linked: Connection) -> None:
    """Limits, a pause and a retirement are noted by the lean path as by the SDK's."""
    replay.status, replay.pieces = 429, [b"{}"]
    replay.headers = {
        "x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-req-minute": "0",
        "x-model-deprecation-timestamp": "2026-12-01", "retry-after": "30",
    }  # fmt: skip
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert post(linked).status == 429
    assert [w.category for w in seen] == [ModelDeprecated]
    assert (linked.rate_limits.requests, linked.rate_limits.requests_left) == (60, 0)
    assert 25 < linked.wait_until - time.monotonic() <= 30
    by_sdk = Connection(resolve(api_key=KEY, server_url=replay.url, timeout=5))
    with warnings.catch_warnings(), pytest.raises(errors.RateLimitError):
        warnings.simplefilter("ignore")
        text_of(by_sdk)
    assert by_sdk.rate_limits.requests == 60
    assert 25 < by_sdk.wait_until - time.monotonic() <= 30


@pytest.mark.parametrize("value", ["\u00b2", "9" * 5000, "-1", "many"])
def test_a_limit_that_is_no_number_counts_as_absent(value: str) -> None:
    """A server may send anything: nothing of it breaks a response."""
    assert client._rate_limits({"x-ratelimit-limit-req-minute": value}) is None


def test_a_pause_is_measured_by_the_servers_own_clock() -> None:
    """Retry-After as a date counts from the response's Date, where there is one."""
    headers = {
        "date": "Wed, 21 Oct 2015 07:28:00 GMT",
        "retry-after": "Wed, 21 Oct 2015 07:28:30 GMT",
    }
    assert api_error(429, "{}", headers).retry_after == 30


@pytest.mark.parametrize("said", [
    pytest.param(Say(cut="at once"), id="hang-up"),
    pytest.param(Say(cut="body"), id="cut"),
    pytest.param(Say(raw=b"<html>no HTTP</html>\r\n\r\n"), id="no HTTP"),
    pytest.param(Say(headers={"content-encoding": "gzip"}), id="not gzip"),
])  # fmt: skip
def test_a_broken_answer_on_the_lean_path(recorder: Recorder, said: Say) -> None:
    """It is ServerUnreachable, sent once only, and no exception in its chain has the key."""
    recorder.script = lambda *_: said
    linked = Connection(resolve(api_key=KEY, server_url=recorder.url, timeout=5))
    with pytest.raises(errors.ServerUnreachable, match=recorder.url) as caught:
        post(linked)
    assert len(recorder.arrivals) == 1
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in repr(error) + str(error) + repr(vars(error))
        error = error.__cause__ or error.__context__


def test_silence_on_the_lean_path(recorder: Recorder) -> None:
    """A server that says nothing for the timeout is ServerUnreachable, with advice."""
    recorder.latency = 60
    linked = Connection(resolve(api_key=KEY, server_url=recorder.url, timeout=0.2))
    with pytest.raises(errors.ServerUnreachable, match="raise timeout="):
        post(linked)


def test_nobody_at_the_address_of_the_lean_path(recorder: Recorder) -> None:
    """A refused connection names the address and the setting."""
    recorder.close()
    linked = Connection(resolve(api_key=KEY, server_url=recorder.url))
    with pytest.raises(errors.ServerUnreachable, match="Check server_url"):
        post(linked)


def test_the_lean_path_follows_no_redirect(recorder: Recorder) -> None:
    """The key goes to no other address than the one that was set."""
    recorder.script = lambda *_: Say(301, headers={"location": f"{recorder.url}/elsewhere"})
    linked = Connection(resolve(api_key=KEY, server_url=recorder.url))
    assert post(linked).status == 301
    assert len(recorder.arrivals) == 1


def test_the_lean_path_goes_through_the_proxy(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY and NO_PROXY count as they do for the SDK."""
    monkeypatch.setenv("http_proxy", recorder.url)
    monkeypatch.setenv("no_proxy", "localhost")
    away = Connection(resolve(api_key=KEY, server_url="http://server.invalid"))
    assert post(away).status == 200
    with pytest.raises(errors.ServerUnreachable):
        post(Connection(resolve(api_key=KEY, server_url="http://localhost:1")))


def test_a_proxy_that_refuses(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that wants a password is named as the trouble; the request never left."""
    recorder.script = lambda *_: Say(407, b"")
    monkeypatch.setenv("https_proxy", recorder.url)
    with pytest.raises(errors.ServerUnreachable, match="407") as caught:
        post(Connection(resolve(api_key=KEY, server_url="https://server.invalid")))
    assert not caught.value.sent


def test_a_proxy_the_lean_path_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SOCKS proxy is a SettingsError that names the way out."""
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(errors.SettingsError, match="HTTP_PROXY"):
        post(Connection(resolve(api_key=KEY, server_url="http://server.invalid")))


def test_one_sdk_client_for_all_threads(linked: Connection) -> None:
    """The SDK's client is built once."""

    async def many() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(lambda: linked.sdk) for _ in range(8)))

    assert len(set(map(id, asyncio.run(many())))) == 1


@pytest.mark.parametrize(
    ("body", "words", "code"),
    [
        ({"object": "error", "message": "Invalid model: x", "code": "1500"}, "Invalid model: x", "1500"),
        ({"detail": "Not Found"}, "Not Found", None),
        ({"detail": [{"loc": ["body", "a", 0], "msg": "bad"}]}, "a.0: bad", None),
        ({"detail": [{"loc": None, "msg": "bad"}, {"loc": 5}]}, "bad", None),
        ({"message": {"detail": [{"loc": ["body"], "msg": "bad"}]}}, "bad", None),
        ({"error": {"message": "llama.cpp says no", "code": 400}}, "llama.cpp says no", "400"),
        ("just a string", "just a string", None),
    ],
)  # fmt: skip
def test_every_form_of_error_body_is_read(body: Any, words: str, code: str | None) -> None:
    """The reason is found in Mistral's, FastAPI's and other servers' bodies."""
    error = api_error(400, json.dumps(body))
    assert words in str(error)
    assert error.code == code


def test_error_bodies_that_are_no_json() -> None:
    """HTML from a proxy is cut to a line; an empty body says so."""
    assert "<html> Bad gateway" in str(api_error(502, "<html>\n Bad gateway" + "x" * 9999))
    assert len(str(api_error(502, "x" * 9999))) < 500
    assert "no reason given" in str(api_error(500, ""))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3), ("-1", 0), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_retry_after_as_number_or_date(value: str, seconds: float | None) -> None:
    """RFC 9110 allows seconds or a date; nonsense counts as absent."""
    assert api_error(429, "{}", {"retry-after": value}).retry_after == seconds


def test_our_own_errors_are_not_wrapped_twice(linked: Connection) -> None:
    """explain() leaves one of ours as it is."""
    error = errors.RunError("x")
    assert explain(error, linked) is error


def test_a_wrong_key_at_the_simulator(simulator: Simulator) -> None:
    """A key the server does not know is an AuthenticationError that names the variable."""
    linked = Connection(resolve(api_key="wrong-key", server_url=simulator.url))
    with pytest.raises(errors.AuthenticationError, match="MISTRAL_API_KEY"):
        text_of(linked)


def test_an_unknown_model_at_the_simulator(connection: Connection) -> None:
    """An unknown model is an InvalidRequestError with the server's reason."""
    handle = start_stream(connection, EventBus(connection.portal), "hi", model="mistral-huge")
    with pytest.raises(errors.InvalidRequestError, match="mistral-huge"):
        handle.result(10)


def test_without_a_key_the_simulator_answers_and_says_so_once(home: Path) -> None:
    """A fresh process with no key gets a reply, one announcement, and exits by itself."""
    code = (
        "import mistral_nb as mnb\n"
        "print(bool(mnb.stream('Say hello', show=False).result(20).text))\n"
        "print(bool(mnb.stream('Say hello', show=False).result(20).text))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "True\nTrue\n"
    assert done.stderr == (
        "No MISTRAL_API_KEY: using the built-in simulator; replies are simulated.\n"
    )
    assert (home / "simulator").is_dir()


def test_importing_costs_no_heavy_module() -> None:
    """Import mistral_nb brings in neither pandas nor the SDK nor the widgets."""
    code = (
        "import sys, mistral_nb\n"
        "heavy = {'pandas', 'numpy', 'mistralai', 'anywidget', 'ipywidgets', 'IPython', "
        "'starlette', 'uvicorn', 'mistral_common', 'httpx2', 'aiohttp'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"
