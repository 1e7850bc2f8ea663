"""Two simulators in processes of their own, one seed, the same requests: the same bytes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx2
import orjson

from tests.contract.grounded import SCHEMA
from tests.pictures import pdf
from tests.simulator.conftest import ENDED, MODEL, row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMES = re.compile(
    rb'"(created|created_at|updated_at|started_at|completed_at|expires_at)":("[^"]*"|\d+)'
)
SIGNED = re.compile(rb'"url":"[^"]+/simulator/files/[^"]+"')
ASKED = [
    "Weather in Paris and Rome?",
    "Explain how tides and the moon belong together",
    "Rate it from very bad to excellent: great food, slow service, nice waiters, cold soup",
]
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}},
    {"type": "image_generation"},
]


@contextlib.contextmanager
def served(home: Path, hash_seed: str, seed: int) -> Iterator[httpx2.Client]:
    """Run a simulator in a process in which sets have an order of their own."""
    command = [sys.executable, "-m", "mistral_nb.simulator", "--home", str(home)]
    command += ["--seed", str(seed), "--chunk-delay", "0", "--batch-rate", "0"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2]
        headers = {"authorization": "Bearer k"}
        with httpx2.Client(base_url=url, headers=headers, timeout=30) as http:
            yield http
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def session(http: httpx2.Client) -> Iterator[bytes]:
    """Ask for one of everything, and yield what came."""

    def post(path: str, body: Any) -> bytes:
        return http.post(path, json=body).content

    form = {"type": "json_schema", "json_schema": {"name": "A", "schema": SCHEMA}}
    for prompt in ASKED:
        messages = [{"role": "user", "content": prompt}]
        for options in ({}, {"stream": True}, {"tools": TOOLS[:1]}, {"response_format": form}):
            yield post("/v1/chat/completions", {"model": MODEL, "messages": messages, **options})
        thinker = {"model": "magistral-medium-latest", "messages": messages, "stream": True, "n": 2}
        yield post("/v1/chat/completions", thinker)
        yield post("/v1/embeddings", {"model": "mistral-embed", "input": prompt})
        yield post("/v1/moderations", {"model": "mistral-moderation-latest", "input": prompt})
        talk = post("/v1/conversations", {"model": MODEL, "inputs": prompt, "tools": TOOLS})
        yield talk
        name = orjson.loads(talk)["conversation_id"]
        yield post(f"/v1/conversations/{name}", {"inputs": "Draw a cat", "stream": True})
        yield http.get(f"/v1/conversations/{name}/history").content
    yield post("/v1/agents", {"model": MODEL, "name": "Desk", "tools": TOOLS})
    yield http.get("/v1/models").content
    yield http.get("/v1/nothing").content
    yield post("/v1/chat/completions", {"model": MODEL})
    sent = http.post("/v1/files", data={"purpose": "ocr"}, files={"file": ("a.pdf", pdf("hello"))})
    yield sent.content
    document = {"type": "file", "file_id": sent.json()["id"]}
    yield post("/v1/ocr", {"model": "mistral-ocr-latest", "document": document})
    yield http.get(f"/v1/files/{sent.json()['id']}/url").content
    yield from job(http)


def job(http: httpx2.Client) -> Iterator[bytes]:
    """Run a batch job, and yield its end and its results."""
    rows = [row(n, ASKED[n % 3]) for n in range(20)]
    body = {"endpoint": "/v1/chat/completions", "model": MODEL, "requests": rows}
    path = f"/v1/batch/jobs/{http.post('/v1/batch/jobs', json=body).json()['id']}"
    limit = time.monotonic() + 30
    while (ended := http.get(path)).json()["status"] not in ENDED:
        assert time.monotonic() < limit
        time.sleep(0.02)
    yield ended.content
    yield http.get(f"/v1/files/{ended.json()['output_file']}/content").content


def timeless(data: bytes) -> bytes:
    """Leave out what the clock decides, and the address that a signed one begins with."""
    return SIGNED.sub(b'"url":""', TIMES.sub(rb'"\1":0', data))


def test_the_same_seed_and_requests_give_the_same_bytes(tmp_path: Path) -> None:
    """Ids, words, chunks, refusals and the order of results are alike; only times differ."""
    found = []
    for hash_seed in ("1", "2"):
        with served(tmp_path / hash_seed, hash_seed, seed=7) as http:
            found.append([timeless(data) for data in session(http)])
    assert found[0] == found[1]
    assert len(found[0]) > 30
    assert all(found[0])


def test_another_seed_gives_other_words_and_ids(tmp_path: Path) -> None:
    """The seed is of use: it decides what the prompt leaves open."""
    said = []
    for seed in (7, 8):
        with served(tmp_path / str(seed), "1", seed) as http:
            body = {"model": MODEL, "messages": [{"role": "user", "content": ASKED[1]}]}
            said.append(http.post("/v1/chat/completions", json=body).json())
    assert said[0]["id"] != said[1]["id"]
    assert said[0]["choices"] != said[1]["choices"]
