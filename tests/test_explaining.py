"""What people read when there is no connection, a refusal, or something that is not the API."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import mistral_nb as mnb
from mistral_nb import errors
from mistral_nb.explaining import unreachable
from mistral_nb.serving import ServedApp
from mistral_nb.settings import resolve
from mistral_nb.simulator import start_simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mistral_nb.simulator import Simulator

SELF_SIGNED = (
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate "
    "(_ssl.c:1006)"
)


@pytest.fixture
def web_page() -> Iterator[ServedApp]:
    """A web server that is no API: it answers everything with a page."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<html>Welcome</html>"})

    page = ServedApp(app)
    yield page
    page.stop()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which someone else listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("[Errno -2] Name or service not known", "the name api.example is not known"),
        ("[Errno 111] Connection refused", "nothing answers there"),
        (SELF_SIGNED, "cannot be trusted (self-signed certificate)"),
        (SELF_SIGNED, "SSL_CERT_FILE"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "begin with http://"),
        ("[Errno 113] No route to host", "No route to host. Check server_url"),
    ],
)
def test_no_connection_says_why(reason: str, words: str) -> None:
    """What the system says becomes plain words, and what to look at follows from it."""
    assert words in str(unreachable("https://api.example", reason))


def test_a_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a proxy is in between, it is what is named; in both of our ways to a server."""
    monkeypatch.setenv("HTTP_PROXY", "http://me:hunter2@127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    session = mnb.connect("key", "http://api.example")
    connection = session.connection
    lean = partial(connection.portal.call, connection.post, "/v1/ocr", b"{}")
    for call in (session.models, lean):
        with pytest.raises(errors.ServerUnreachable) as caught:
            call()
        assert "through the proxy 127.0.0.1:9" in str(caught.value)
        assert "NO_PROXY" in str(caught.value)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("SSL_CERT_FILE", "/no/such.pem", "Check SSL_CERT_FILE"),
        ("HTTPS_PROXY", "gopher://me:hunter2@x:1", "proxy that the environment names"),
        ("HTTPS_PROXY", "http://me:hunter2@x:port", "proxy that the environment names"),
        ("HTTPS_PROXY", "socks5://me:hunter2@x:1", "pip install socksio"),
    ],
)
def test_a_network_that_cannot_begin_is_a_setting(
    setting: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy or certificates that cannot be used are named by their variable, never quoted."""
    monkeypatch.setenv(setting, value)
    with pytest.raises(errors.SettingsError) as caught:
        mnb.connect("key", "https://127.0.0.1:9").models()
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "ask",
    [
        lambda session: session.models(),
        lambda session: session.stream("hi", show=False).result(10),
        lambda session: session.conversation().send("hi").result(10),
    ],
)
def test_a_page_is_not_taken_for_the_api(
    ask: Callable[[mnb.Session], object], web_page: ServedApp
) -> None:
    """A server that answers 200 with something else is named, with the setting that led there."""
    with pytest.raises(errors.ApiError, match=r"is not Mistral's API .*server_url") as caught:
        ask(mnb.connect("key", web_page.url))
    assert "refused" not in str(caught.value)


def test_https_to_a_server_without_it(simulator: Simulator) -> None:
    """An address that begins with https:// for a plain server says so."""
    session = mnb.connect("key", simulator.url.replace("http:", "https:"))
    with pytest.raises(errors.ServerUnreachable, match="does not speak HTTPS"):
        session.models()


@pytest.mark.parametrize(
    ("messages", "options", "words"),
    [
        ("hi", {"temperature": "hot"}, "temperature: Input should be a valid number"),
        ([{"content": "hi"}], {}, r"messages\[0\] must have a role"),
        ([1], {}, r"messages\[0\] must have a role"),
        ([{"role": "wizard", "content": "hi"}], {}, "'wizard' does not match"),
    ],
)
def test_a_request_that_does_not_fit_is_told_in_a_line(
    messages: Any, options: dict[str, Any], words: str, simulator: Simulator
) -> None:
    """What the SDK's models refuse is one line about the first wrong field, and nothing is sent."""
    session = mnb.connect("key", simulator.url)
    with pytest.raises(errors.InputError, match=words) as caught:
        session.stream(messages, show=False, **options).result(10)
    assert "\n" not in str(caught.value)
    assert "pydantic.dev" not in str(caught.value)


@pytest.mark.parametrize(
    "begin",
    [
        lambda port: mnb.serve(port=port),
        lambda port: mnb.webhook_receiver(mnb.webhooks.new_secret(), port),
        lambda port: start_simulator(port=port),
    ],
)
def test_a_taken_port_is_named(begin: Callable[[Any], object], taken: int) -> None:
    """Whatever listens says which port is taken, as an OSError too, and what no port is."""
    with pytest.raises(errors.PortTaken, match=rf"port {taken}: .*0 takes any free"):
        begin(taken)
    for wrong in (99_999, "x"):
        with pytest.raises(errors.InputError, match="port must be a whole number"):
            begin(wrong)


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": 5},
        {"server_url": 5},
        {"model": 5},
        {"home": 5},
        {"timeout": "soon"},
        {"timeout": float("nan")},
        {"timeout": 0},
    ],
)
def test_a_setting_of_another_type_is_named(options: dict[str, Any]) -> None:
    """Every wrong setting is a SettingsError that names it; a key is not quoted."""
    (name,) = options
    with pytest.raises(errors.SettingsError, match=f"^{name} must be"):
        mnb.connect(**options)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mnb.run(5), "mnb.run takes a coroutine"),
        (lambda: mnb.job_board(5), "job_board shows a queue"),
        (lambda: mnb.review("name"), "run must be what mnb.label"),
        (lambda: mnb.webhook_receiver(None), "secret is missing"),
        (lambda: mnb.conversation(tools=5), "tools must be a list"),
        (lambda: mnb.conversation(max_rounds="x"), "max_rounds must be a whole number"),
        (lambda: mnb.conversation(tool_timeout="x"), "tool_timeout must be a number"),
        (lambda: mnb.conversation(instructions=5), "instructions must be a text"),
        (lambda: mnb.agents.create("x", instructoins="y"), "Did you mean instructions"),
        (lambda: mnb.agents.list(nmae="y"), "Did you mean name"),
        (lambda: mnb.Session(resolve()).events.on(5, print), "pattern must be a text"),
        (lambda: mnb.Session(resolve()).events.on("*", 5), "listener must be a function"),
    ],
)
def test_a_thing_of_another_kind_is_refused(call: Callable[[], object], words: str) -> None:
    """What was given in place of a run, queue, coroutine or secret is refused in words."""
    with pytest.raises(errors.InputError, match=words):
        call()


def test_a_closed_queue_says_how_to_open_it_again(home: Path) -> None:
    """What is asked of a closed queue fails at once, and names the way on."""
    queue = mnb.Queue(f"sqlite:///{home}/closed.sqlite")
    queue.counts().result(10)
    queue.close()
    for call in (queue.work, lambda: queue.counts().result(10)):
        with pytest.raises(errors.StoreError, match=r"closed.*mnb\.Queue"):
            call()


@pytest.mark.parametrize("target", ["no-such-command", "http://127.0.0.1:9/mcp"])
def test_an_mcp_server_that_is_not_there(target: str) -> None:
    """A command or address that is none is named, without words of the plumbing."""
    with pytest.raises(errors.MistralNbError, match=r"did not start: (there is|nothing)") as caught:
        mnb.agents.mcp_server(target)
    assert "scope" not in str(caught.value)
