"""Replay: requests get the answers that a recording has; these are written by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import httpx2
import pytest

import mistral_nb as mnb
from mistral_nb.errors import InputError
from mistral_nb.simulator import Faults
from tests.conftest import SHARED
from tests.simulator.conftest import MODEL, exchange

HI = [{"role": "user", "content": "Say: hi"}]


def test_the_command_replays_and_says_so(tmp_path, write) -> None:
    """`mistral-nb simulator --replay` answers from a file and prints where it does."""
    file = write(exchange(body={"a": 1}, answer={"b": 2}))
    command = [
        sys.executable,
        "-m",
        "mistral_nb",
        "simulator",
        "--port",
        "0",
        "--replay",
        str(file),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "those of" in line
            found = re.search(r"http://\S+\d", line)
            assert found is not None
            assert httpx2.post(f"{found.group()}/v1/x", json={"a": 1}).json() == {"b": 2}
            process.terminate()
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()


def test_the_same_is_the_same_however_it_is_written(simulator, ask, write) -> None:
    """The order of fields and of the query, and 1.0 for 1, make no other request; a value does."""
    simulator.replay(write(exchange(path="/v1/x?a=1&b=2", body={"t": 1, "m": [{"r": 0, "c": 2}]})))
    assert ask({"m": [{"c": 2.0, "r": 0}], "t": 1.0}, "/v1/x?b=2&a=1").status_code == 200
    for body, path in (
        ({"m": [{"c": 3, "r": 0}], "t": 1}, "/v1/x?a=1&b=2"),
        ({"m": [{"c": 2, "r": 0}], "t": True}, "/v1/x?a=1&b=2"),
        ({"m": [{"c": 2, "r": 0}], "t": 1}, "/v1/x?a=1&b=3"),
    ):
        assert ask(body, path).json()["type"] == "not_recorded"


def test_the_nth_time_gets_the_nth_answer(simulator, ask, write) -> None:
    """Answers to one request come in their order, the last one from then on; others go their way."""
    simulator.replay(
        write(*(exchange(body=[n % 2], answer=n) for n in range(4))),
    )
    assert [ask([0]).json() for _ in range(3)] == [0, 2, 2]
    assert [ask([1]).json() for _ in range(3)] == [1, 3, 3]


def test_ids_drawn_by_lot_do_not_count(simulator, ask, write) -> None:
    """A client's own random id may differ; one that the server gave may not, nor may the rest."""
    ours, theirs = "0b9c0de1", "5f3c4f0e-97b1-4cf4-a6c5-8f1e2d3c4b5a"
    body = {"run": f"run-{ours}", "file": theirs}
    simulator.replay(
        write(
            exchange(path="/v1/files", body={}, answer={"id": theirs}),
            exchange(body=body, answer=1),
            exchange(body=body | {"run": "run-1a2b3c4d"}, answer=2),
        )
    )
    assert ask(body).json() == 1
    assert [ask(body | {"run": f"run-77777e{n}"}).json() for n in (70, 71)] == [1, 2]
    assert ask(body | {"file": theirs.replace("5", "6")}).status_code == 404
    assert ask(body | {"run": "run-never"}).status_code == 404


def test_an_upload_that_differs_is_shown_by_its_line(simulator, write) -> None:
    """Of a body that is no JSON the first line that differs is told."""
    line = exchange(path="/v1/files", answer=1)
    line["request"]["text"] = "a\nb\nc"
    simulator.replay(write(line))
    said = httpx2.post(f"{simulator.url}/v1/files", content=b"a\nB\nc").json()["message"]
    assert 'line 2 of the body is "b", here "B".' in said


def test_what_was_not_recorded_is_explained(simulator, ask, write) -> None:
    """The nearest exchange is named, with the first field and its values; or what there is."""
    far = {"model": "b", "messages": [1, 2, 3], "stop": "x"}
    simulator.replay(write(exchange(body=far), exchange(body={"model": "a", "top_p": 1})))
    said = ask({"model": "c", "top_p": 1, "seed": 2}).json()["message"]
    assert "hand.jsonl, line 2 is nearest" in said
    assert 'there model is "a", here "c". Different too: seed.' in said
    assert 'otherwise="rules"' in said
    said = ask({}, "/v1/other").json()["message"]
    assert "Nothing was recorded for POST /v1/other. The recording has POST /v1/x (2)." in said


def test_the_rules_answer_the_rest_if_asked_to(simulator, ask, write) -> None:
    """With otherwise="rules" what was not recorded gets a made-up reply, uploads as well."""
    path = "/v1/chat/completions"
    body = {"model": MODEL, "messages": HI}
    simulator.replay(write(exchange(path=path, body=body, answer="kept")), otherwise="rules")
    assert ask(body, path).json() == "kept"
    assert ask(body | {"random_seed": 1}, path).json()["object"] == "chat.completion"
    sent = httpx2.post(f"{simulator.url}/v1/files", files={"file": b"x" * 2_000_000}, timeout=20)
    assert sent.json()["bytes"] == 2_000_000


def test_the_pace_is_that_of_the_server_or_none(simulator, ask, write) -> None:
    """At full speed an hour's pause is nothing; else the stream pauses where the server did."""
    hour = [[0, "data: a\n\n"], [3_600_000, "data: b\n\n"]]
    line = exchange(body={}, events=hour)
    del line["response"]["json"]
    simulator.replay(write(line), pace="fast")
    assert ask({}).text == "data: a\n\ndata: b\n\n"
    simulator.replay(write(line))
    with httpx2.stream("POST", f"{simulator.url}/v1/x", json={}, timeout=0.5) as response:
        pieces = response.iter_text()
        assert next(pieces) == "data: a\n\n"
        with pytest.raises(httpx2.ReadTimeout):
            next(pieces)


def test_faults_strike_in_a_replay_as_well(simulator, ask, write) -> None:
    """A recording can be replayed by a server that fails at times."""
    simulator.replay(write(exchange(body={}, answer=1)))
    simulator.faults = Faults(error_rate=1, error_status=503)
    assert ask({}).status_code == 503
    simulator.faults = Faults()
    assert ask({}).json() == 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_pair_of_bodies_is_a_recording_too(simulator, number) -> None:
    """Request and response bodies of one chat, as others keep them, are replayed."""
    file = SHARED / "wire" / "recorded" / f"chat-complete-{number}.json"
    pair = json.loads(file.read_text())
    simulator.replay(file)
    reply = httpx2.post(f"{simulator.url}/v1/chat/completions", json=pair["request"])
    assert reply.json() == pair["response"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("notes\n", "line 1"),
        ('{"request": {}, "response": {}}\n', "line 1.*request.method"),
        ('{"request": {"method": "GET", "path": "/"}, "response": {"status": 99}}\n', "status"),
        ('{"request": {"method": "GET", "path": "/"}, "response": {"status": 200, "x": 1}}', "x"),
    ],
)
def test_what_is_no_recording_is_named_and_left_alone(simulator, tmp_path, text, words) -> None:
    """The message has line and field; a recorder does not write into such a file."""
    file = tmp_path / "notes.jsonl"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        simulator.replay(file)
    if text:
        with pytest.raises(InputError, match=words):
            mnb.simulator.record(file, upstream=simulator.url)
    assert file.read_text() == text
    with pytest.raises(InputError, match="jsonl"):
        mnb.simulator.record(tmp_path / "notes.json", upstream=simulator.url)
