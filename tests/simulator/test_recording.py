"""Recording: what a server said is passed on as it is, kept without keys, and said again."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx2
import pandas as pd
import pytest
import trustme
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

import mistral_nb as mnb
from mistral_nb.errors import InputError, NotFoundError, SettingsError, StreamCut
from mistral_nb.simulator import Faults
from mistral_nb.simulator.cassette import read_cassette
from tests.recorder import Recorder as Upstream
from tests.recorder import Say
from tests.replay import CUT, STALL, Replay, sse
from tests.simulator.conftest import exchange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mistral_nb.simulator import Simulator

KEY = "sk-Ab/12+xyzKEY98765"
MODEL = "mistral-small-latest"
HI = [{"role": "user", "content": "Say: hi"}]


class Keeping(httpx2.HTTPTransport):
    """Keeps every byte that comes back to the SDK, in the order of the requests."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[list[Any]] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        entry = [request.method, request.url.path, response.status_code, b""]
        self.kept.append(entry)
        real = response.stream

        class Stream(httpx2.SyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                for data in real:
                    entry[3] += data
                    yield data

            def close(self) -> None:
                real.close()

        response.stream = Stream()
        return response


@contextmanager
def sdk(url: str, key: str = KEY) -> Iterator[tuple[Mistral, list[list[Any]]]]:
    transport = Keeping()
    with httpx2.Client(transport=transport, timeout=20) as client:
        yield Mistral(api_key=key, server_url=url, client=client), transport.kept


def a_day_of_work(url: str) -> list[list[Any]]:
    """Use what the API offers, through the official SDK; return all that came back."""
    with sdk(url) as (client, kept):
        for _ in range(2):  # the same twice: each has an id of its own
            client.chat.complete(model=MODEL, messages=HI, temperature=1.0)
        with client.chat.stream(model=MODEL, messages=HI) as stream:
            assert "".join(str(each.data.choices[0].delta.content) for each in stream)
        client.embeddings.create(model="mistral-embed", inputs=["hi", "ho"])
        row = {"custom_id": "1", "body": {"messages": HI}}
        content = json.dumps(row).encode()
        file = client.files.upload(
            file={"file_name": "rows.jsonl", "content": content}, purpose="batch"
        )
        assert client.files.download(file_id=file.id).read() == content
        job = client.batch.jobs.create(
            endpoint="/v1/chat/completions", model=MODEL, input_files=[file.id]
        )
        while (job := client.batch.jobs.get(job_id=job.id)).status != "SUCCESS":
            time.sleep(0.02)
        client.files.download(file_id=str(job.output_file)).read()
        begun = client.beta.conversations.start(model=MODEL, inputs="Say: hi")
        with client.beta.conversations.append_stream(
            conversation_id=begun.conversation_id, inputs="Say: ho"
        ) as stream:
            assert list(stream)
        with pytest.raises(SDKError, match="Invalid model"):
            client.chat.complete(model="none", messages=HI)
    return kept


@pytest.fixture
def upstream(simulator: Simulator) -> Simulator:
    simulator.chunk_delay = 0.0
    simulator.batch_rate = 0
    return simulator


def recorded(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_was_recorded_is_said_again_byte_by_byte(upstream, tmp_path) -> None:
    """Chats, streams, files, batches, conversations, refusals: the SDK gets the same bytes."""
    file = tmp_path / "day.jsonl"
    with mnb.simulator.record(file, upstream=upstream.url) as recorder:
        first = a_day_of_work(recorder.url)
        assert recorder.count == len(first)
    with mnb.simulator.replay(file, pace="fast") as player:
        assert a_day_of_work(player.url) == first
        assert player.stats()["chat_requests"] == 0
    assert file.stat().st_mode & 0o077 == 0
    assert first[0][3] != first[1][3]
    assert KEY not in file.read_text()


def test_a_session_works_with_both(upstream, tmp_path, home) -> None:
    """The toolkit records through one address and replays through another, without a key."""
    file = tmp_path / "lesson.jsonl"
    with mnb.simulator.record(file, upstream=upstream.url, api_key=KEY) as recorder:
        session = mnb.connect(server_url=recorder.url)
        said = session.stream("Why are there tides?", show=False).result(20)
    with mnb.simulator.replay(file, pace="fast") as player:
        session = mnb.connect(server_url=player.url)
        again = session.stream("Why are there tides?", show=False).result(20)
        assert (again.text, again.usage) == (said.text, said.usage)
        with pytest.raises(NotFoundError, match=r'line 1 .*content is "Why are there tides\?"'):
            session.stream("Why are there hides?", show=False).result(20)


def test_refusals_and_cuts_are_part_of_it(upstream, tmp_path) -> None:
    """401, 429 with its headers, and a stream that breaks come again as they came."""

    def trouble(url: str) -> list[Any]:
        seen: list[Any] = []
        body = {"model": MODEL, "messages": HI}
        for key in ("wrong-key-0", KEY):
            reply = httpx2.post(
                f"{url}/v1/chat/completions",
                json=body,
                headers={"authorization": f"Bearer {key}"},
            )
            limits = {k: v for k, v in reply.headers.items() if k.startswith(("x-rate", "retry"))}
            seen.append((reply.status_code, reply.content, limits))
        upstream.faults = Faults(cut_after=2)
        got = b""
        with (
            httpx2.stream(
                "POST",
                f"{url}/v1/chat/completions",
                json=body | {"stream": True},
                headers={"authorization": f"Bearer {KEY}"},
            ) as response,
            pytest.raises(httpx2.RemoteProtocolError),
        ):
            for data in response.iter_bytes():
                got += data
        return [*seen, got]

    upstream.faults = Faults(rate_limit_rate=1, retry_after=7)
    file = tmp_path / "trouble.jsonl"
    with mnb.simulator.record(file, upstream=upstream.url) as recorder:
        first = trouble(recorder.url)
    assert [each[0] for each in first[:2]] == [401, 429]
    assert first[1][2]["retry-after"] == "7"
    assert first[2].count(b"data: ") == 2
    assert recorded(file)[2]["response"]["cut"] is True
    with mnb.simulator.replay(file) as player:
        assert trouble(player.url) == first


def test_events_arrive_while_the_server_still_thinks(tmp_path) -> None:
    """Nothing waits for what follows: a client has the first event of a stream that stalls."""
    server = Replay()
    server.pieces = [*sse("first"), b"data: hal", STALL]
    file = tmp_path / "stall.jsonl"
    try:
        with mnb.simulator.record(file, upstream=server.url) as recorder:
            with httpx2.stream("POST", f"{recorder.url}/v1/x", json={}, timeout=20) as response:
                assert next(response.iter_bytes()).startswith(b"data: first\n\n")
            assert server.gone.wait(20), "the server goes on for nobody"
    finally:
        server.close()
    (line,) = recorded(file)
    assert [text for _, text in line["response"]["events"]] == ["data: first\n\n", "data: hal"]
    assert line["response"]["cut"] is True


def test_no_key_gets_into_the_file(tmp_path) -> None:
    """Neither keys in any dress, nor cookies, accounts and signatures; the client gets them all."""
    spelt = [KEY, base64.b64encode(KEY.encode()).decode(), "sk-Ab%2F12%2Bxyz"]
    told = {
        "key": KEY,
        "basic": base64.b64encode(f"me:{KEY}".encode()).decode(),
        "link": f"https://blob.test/f?se=1&sig=abcDEF%3D&x={KEY}",
        "s3": "https://s3.test/f?X-Amz-Signature=feedbeef&part=1",
    }
    answer = Say(
        body=json.dumps(told).encode(),
        headers={"set-cookie": "id=crumb", "mistral-organization": "acme", "x-ratelimit-k": KEY},
    )
    server = Upstream(lambda *_: answer)
    file = tmp_path / "keys.jsonl"
    try:
        with (
            mnb.simulator.record(file, upstream=server.url) as recorder,
            httpx2.Client(base_url=recorder.url) as client,
        ):
            reply = client.post(
                f"/v1/{KEY}?api_key={KEY}&token=short",
                json={"note": f"my key is {KEY}", "old": "Authorization: Bearer abcdefghijklmnop"},
                headers={"authorization": f"Bearer {KEY}", "cookie": "id=crumb"},
            )
            assert reply.json() == told
            client.post("/v1/b", content=b"\xff\x00" + KEY.encode(), headers={"x-api-key": KEY})
            assert KEY not in repr(recorder)
            sent = server.arrivals[0].headers
            assert sent["authorization"] == f"Bearer {KEY}"
            assert "cookie" not in sent
    finally:
        server.close()
    text = file.read_text()
    kept = b"".join(base64.b64decode(each) for each in re.findall(r'"base64":"([^"]+)"', text))
    for secret in (*spelt, "crumb", "acme", "abcDEF", "feedbeef", "short", "abcdefghijklmnop"):
        assert secret not in text
        assert secret.encode() not in kept
    core = base64.b64encode(b"me:" + KEY.encode()).decode()[4:-4]
    assert core not in text
    assert "se=1&sig=[removed]" in text


def test_a_key_of_its_own_takes_the_place_of_any_other(upstream, tmp_path) -> None:
    """With a key given, clients need none, and theirs goes no further."""
    server = Upstream()
    try:
        with mnb.simulator.record(tmp_path / "a.jsonl", upstream=server.url, api_key=KEY) as it:
            httpx2.post(f"{it.url}/v1/x", json={}, headers={"x-api-key": "another-key"})
        (arrival,) = server.arrivals
        assert arrival.headers["authorization"] == f"Bearer {KEY}"
        assert "x-api-key" not in arrival.headers
    finally:
        server.close()


def test_a_redirect_is_not_followed_with_the_key(tmp_path) -> None:
    """Another host is asked by the client or not at all; the recorder asks its upstream only."""
    other = Upstream()
    answers = [Say(307, b"", {"location": f"{other.url}/v1/x?sig=secret"})]
    server = Upstream(lambda *_: answers[-1])
    file = tmp_path / "r.jsonl"
    try:
        with mnb.simulator.record(file, upstream=server.url, api_key=KEY) as it:
            reply = httpx2.post(f"{it.url}/v1/x", json={})
            assert reply.headers["location"].startswith(other.url)
            answers.append(Say(308, b"", {"location": f"{server.url}/v1/y"}))
            assert httpx2.get(f"{it.url}/v1/x").headers["location"] == "/v1/y"
        assert (reply.status_code, other.arrivals) == (307, [])
        assert "secret" not in file.read_text()
    finally:
        server.close()
        other.close()


def test_a_name_in_any_script_goes_through(tmp_path) -> None:
    """A header with letters that Latin has not is passed on, and replayed, as the same bytes."""
    named = {"content-disposition": 'attachment; filename="\u7968-\u00e9.jsonl"'}
    server = Upstream(lambda *_: Say(headers=named))
    file = tmp_path / "r.jsonl"
    try:
        with mnb.simulator.record(file, upstream=server.url, api_key=KEY) as it:
            recorded = httpx2.get(f"{it.url}/v1/files/1/content")
    finally:
        server.close()
    with mnb.simulator.replay(file) as player:
        replayed = httpx2.get(f"{player.url}/v1/files/1/content")
    assert recorded.headers["content-disposition"] == named["content-disposition"]
    assert replayed.headers["content-disposition"] == named["content-disposition"]


def test_web_pages_and_other_names_are_refused(upstream, tmp_path) -> None:
    """Neither a page nor a name that was bent to this machine may spend the key."""
    with mnb.simulator.record(tmp_path / "a.jsonl", upstream=upstream.url, api_key=KEY) as it:
        for headers in (
            {"origin": "http://evil.test"},
            {"sec-fetch-site": "cross-site"},
            {"host": "evil.test"},
        ):
            assert httpx2.get(f"{it.url}/v1/models", headers=headers).status_code in {400, 403}
        assert it.count == 0
        assert httpx2.get(f"{it.url}/v1/models").status_code == 200


@pytest.mark.parametrize("target", ["@{other}/v1/x", "http://{other}/v1/x", "{other}"])
def test_no_path_leads_to_another_host(tmp_path, target) -> None:
    """A target that would complete the upstream's address to another one is refused by its form."""
    server, other = Upstream(), Upstream()
    try:
        with mnb.simulator.record(tmp_path / "a.jsonl", upstream=server.url, api_key=KEY) as it:
            host, port = it.url.removeprefix("http://").split(":")
            line = f"GET {target.format(other=other.url.removeprefix('http://'))} HTTP/1.1\r\n"
            with socket.create_connection((host, int(port)), timeout=20) as plain:
                plain.sendall(f"{line}host: localhost\r\nconnection: close\r\n\r\n".encode())
                with plain.makefile("rb") as answer:
                    assert answer.readline().split()[1] in {b"400", b"404"}
        assert server.arrivals == other.arrivals == []
    finally:
        server.close()
        other.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"upstream": "http://api.mistral.ai"}, "https"),
        ({"upstream": "https://me:pw@api.mistral.ai"}, "alone"),
        ({"upstream": "ftp://x"}, "upstream must look like https"),
        ({"upstream": "api.mistral.ai"}, "upstream must look like https"),
        ({"api_key": "short"}, "8 characters"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, options, words) -> None:
    """A server in the open, and a key that may be any word, are refused before anything runs."""
    with pytest.raises((InputError, SettingsError), match=words):
        mnb.simulator.record(tmp_path / "a.jsonl", **options)
    assert not (tmp_path / "a.jsonl").exists()


def test_a_silent_upstream_is_told_and_not_recorded(tmp_path) -> None:
    """No answer is no exchange: the client hears which server it was."""
    server = Upstream()
    server.close()
    with mnb.simulator.record(tmp_path / "a.jsonl", upstream=server.url) as it:
        reply = httpx2.get(f"{it.url}/v1/models", headers={"x-api-key": KEY})
        assert reply.status_code == 502
        assert server.url in reply.json()["message"]
        assert it.count == 0
        short = httpx2.get(f"{it.url}/v1/models", headers={"x-api-key": "abc"})
        assert short.json()["type"] == "key_too_short"


def test_large_files_go_through(upstream, tmp_path) -> None:
    """Megabytes go up and down unchanged, text and not, and come again."""
    blob = bytes(range(256)) * 5000
    text = ("é" * 999 + "\n").encode() * 600

    def transfer(url: str) -> list[bytes]:
        found = []
        with httpx2.Client(base_url=url, headers={"x-api-key": KEY}, timeout=20) as client:
            for data in (blob, text):
                sent = client.post("/v1/files", data={"purpose": "ocr"}, files={"file": data})
                found.append(client.get(f"/v1/files/{sent.json()['id']}/content").content)
        return found

    file = tmp_path / "large.jsonl"
    with mnb.simulator.record(file, upstream=upstream.url) as it:
        assert transfer(it.url) == [blob, text]
    with mnb.simulator.replay(file) as player:
        assert transfer(player.url) == [blob, text]


def test_a_killed_recorder_leaves_what_was_over(upstream, tmp_path) -> None:
    """After SIGKILL in a stream the file has every exchange before it, and can be gone on with."""
    file = tmp_path / "killed.jsonl"
    command = [sys.executable, "-m", "mistral_nb", "simulator", "--port", "0"]
    command += ["--record", str(file), "--upstream", upstream.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+\d", process.stdout.readline())
            assert found is not None
            with sdk(found.group()) as (client, _):
                for prompt in ("Say: a", "Say: b"):
                    client.chat.complete(
                        model=MODEL, messages=[{"role": "user", "content": prompt}]
                    )
                upstream.faults = Faults(stall_after=2)
                with suppress(httpx2.HTTPError), client.chat.stream(model=MODEL, messages=HI) as it:
                    next(iter(it))
                    process.kill()
        finally:
            process.kill()
    assert len(recorded(file)) == 2
    with file.open("a") as end:
        end.write('{"request":{"method":"PO')  # as a kill in the middle of writing leaves it
    assert len(list(read_cassette(file))) == 2
    upstream.faults = Faults()
    with mnb.simulator.record(file, upstream=upstream.url) as it, sdk(it.url) as (client, _):
        client.chat.complete(model=MODEL, messages=HI)
    assert len(recorded(file)) == 3


def test_a_full_disk_does_not_spoil_the_answer(upstream, tmp_path) -> None:
    """What cannot be written is told; the client has its reply, the file what fitted before."""
    file = tmp_path / "full.jsonl"
    words = ["simulator", "--port", "0", "--record", str(file), "--upstream", upstream.url]
    limited = (
        "import resource, sys; from mistral_nb.cli import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); sys.exit(main(sys.argv[1:]))"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", limited, *words], stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            found = re.search(r"http://\S+\d", process.stdout.readline())
            assert found is not None
            body = {"model": MODEL, "messages": HI}
            large = httpx2.post(
                f"{found.group()}/v1/files",
                files={"file": b"x" * 2_000_000},
                headers={"x-api-key": KEY},
            )
            assert large.json()["bytes"] == 2_000_000
            for _ in range(9):
                reply = httpx2.post(
                    f"{found.group()}/v1/chat/completions", json=body, headers={"x-api-key": KEY}
                )
                assert reply.json()["choices"]
            process.terminate()
            assert process.wait(timeout=10) == 0
            assert process.stderr.read().count("Not recorded") == 1
            assert f"{len(recorded(file))} exchanges" in process.stdout.read()
        finally:
            process.kill()
    assert 0 < len(recorded(file)) < 9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pace", "fast"], "--replay FILE"),
        (["--upstream", "https://x.test"], "--record FILE"),
        (["--record", "a.jsonl", "--host", "0.0.0.0"], "this machine only"),
        (["--record", "a.jsonl", "--script", "b.yaml"], "--script"),
        (["--replay", "none.jsonl"], "none.jsonl"),
    ],
)
def test_options_that_make_no_sense_are_refused(words, said, capsys, tmp_path, monkeypatch) -> None:
    """What would be passed over, or let others use the key, is named; nothing starts."""
    from mistral_nb.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["simulator", "--port", "0", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "a.jsonl").exists()


def test_a_batch_run_is_replayed_to_a_new_ledger(upstream, tmp_path) -> None:
    """A labelled table comes back the same, though each run has an id of its own."""
    table = pd.DataFrame({"text": ["card lost", "where is it", "refund please"]})

    def labelled(url: str, name: str) -> pd.DataFrame:
        session = mnb.connect(server_url=url, home=tmp_path / name)
        run = session.label(table, "Topic? {text}", labels=["a", "b"], mode="batch", show=False)
        return run.result(60)

    with mnb.simulator.record(tmp_path / "b.jsonl", upstream=upstream.url, api_key=KEY) as it:
        first = labelled(it.url, "first")
    with mnb.simulator.replay(tmp_path / "b.jsonl") as player:
        pd.testing.assert_frame_equal(labelled(player.url, "second"), first)


def test_a_folder_is_a_recording(upstream, tmp_path, ask, write) -> None:
    """Recording into a folder makes a file there; replaying the folder takes all of its files."""
    folder = tmp_path / "tapes"
    with mnb.simulator.record(f"{folder}/", upstream=upstream.url) as it:
        assert it.path.parent == folder
        httpx2.get(f"{it.url}/v1/models", headers={"x-api-key": KEY})
    write(exchange(body={}, answer=5), name="tapes/by-hand.jsonl")
    upstream.replay(folder)
    assert ask({}).json() == 5
    assert httpx2.get(f"{upstream.url}/v1/models").status_code == 200


def test_a_cut_reply_is_an_error_with_its_part(simulator, write, home) -> None:
    """A replayed stream that broke raises StreamCut, with what had come, as in life."""
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    choice = {"index": 0, "delta": {"role": "assistant", "content": "So"}, "finish_reason": None}
    server = Replay()
    server.pieces = [*sse(chunk | {"choices": [choice]}), CUT]
    file = write(name="cut.jsonl")
    try:
        with (
            mnb.simulator.record(file, upstream=server.url, api_key=KEY) as it,
            pytest.raises(StreamCut),
        ):
            mnb.connect(server_url=it.url).stream("x", show=False).result(20)
    finally:
        server.close()
    simulator.replay(file)
    with pytest.raises(StreamCut) as caught:
        mnb.connect(server_url=simulator.url).stream("x", show=False).result(20)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "So"


@pytest.fixture
def secure(tmp_path) -> Iterator[tuple[Replay, str, Path]]:
    """A server, its address, which is of HTTPS, and the file that has whom to trust for it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = tmp_path / "trusted.pem"
    authority.cert_pem.write_to_path(trusted)
    server = Replay()
    server.pieces = sse("first", "[DONE]")
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    yield server, server.url.replace("http://", "https://"), trusted
    server.close()


def test_a_server_is_asked_by_https(secure, tmp_path, monkeypatch) -> None:
    """With its certificate among the trusted ones, a stream passes and is recorded."""
    _, url, trusted = secure
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    file = tmp_path / "s.jsonl"
    with mnb.simulator.record(file, upstream=url, api_key=KEY) as it:
        said = httpx2.post(f"{it.url}/v1/x", json={}, timeout=20).text
    with mnb.simulator.replay(file) as player:
        assert httpx2.post(f"{player.url}/v1/x", json={}).text == said
    assert said == "data: first\n\ndata: [DONE]\n\n"


def test_a_certificate_that_nobody_trusts_is_told(secure, tmp_path, monkeypatch) -> None:
    """Nothing is sent; the sentence says why, and where trust can be had."""
    server, url, _ = secure
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with mnb.simulator.record(tmp_path / "s.jsonl", upstream=url, api_key=KEY) as it:
        reply = httpx2.post(f"{it.url}/v1/x", json={}, timeout=20)
    assert (reply.status_code, server.requests) == (502, [])
    assert f"No connection to {url}: its certificate cannot be trusted" in reply.json()["message"]
    assert "SSL_CERT_FILE" in reply.json()["message"]


def test_an_environment_of_no_use_is_told_before_it_starts(tmp_path, monkeypatch) -> None:
    """Certificates that are not there are named at once, not at the first request."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(SettingsError, match="SSL_CERT_FILE"):
        mnb.simulator.record(tmp_path / "s.jsonl", api_key=KEY)
