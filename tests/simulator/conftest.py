"""Fixtures: a plain HTTP client to a simulator of the test's own, and small helpers."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mistral_nb.simulator import Simulator

MODEL = "mistral-small-latest"
ENDED = {"SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"}


class Api:
    """Speaks to one simulator as any HTTP client would."""

    def __init__(self, simulator: Simulator, key: str = "test-key") -> None:
        self.simulator = simulator
        self.http = httpx2.Client(
            base_url=simulator.url, headers={"authorization": f"Bearer {key}"}, timeout=20
        )

    def get(self, path: str, **params: Any) -> httpx2.Response:
        return self.http.get(path, params=params)

    def post(self, path: str, body: Any) -> httpx2.Response:
        return self.http.post(path, json=body)

    def chat(self, prompt: str, **options: Any) -> httpx2.Response:
        messages = [{"role": "user", "content": prompt}]
        return self.post("/v1/chat/completions", {"model": MODEL, "messages": messages, **options})

    def stream(self, prompt: str, **options: Any) -> list[bytes]:
        """Return the data of every event, whatever it is."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": True}
        with self.http.stream("POST", "/v1/chat/completions", json={**body, **options}) as response:
            return [line.removeprefix("data: ").encode() for line in response.iter_lines() if line]

    def upload(self, lines: list[Any], name: str = "rows.jsonl", purpose: str = "batch") -> str:
        data = b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines)
        response = self.http.post(
            "/v1/files", data={"purpose": purpose}, files={"file": (name, data)}
        )
        assert response.status_code == 200, response.text
        return response.json()["id"]

    def job(self, lines: list[Any], **options: Any) -> dict[str, Any]:
        """Create a batch job from lines."""
        body = {"endpoint": "/v1/chat/completions", "model": MODEL, **options}
        response = self.post("/v1/batch/jobs", {**body, "input_files": [self.upload(lines)]})
        assert response.status_code == 200, response.text
        return response.json()

    def ended(self, job: dict[str, Any]) -> dict[str, Any]:
        """Wait for a job's end."""
        limit = time.monotonic() + 20
        while time.monotonic() < limit:
            found = self.get(f"/v1/batch/jobs/{job['id']}").json()
            if found.get("status") in ENDED:
                return found
            time.sleep(0.02)
        raise AssertionError(f"The job did not end: {found}")

    def lines(self, file_id: str) -> list[dict[str, Any]]:
        """Download a JSONL file."""
        data = self.get(f"/v1/files/{file_id}/content").content
        return [orjson.loads(line) for line in data.splitlines()]


def row(number: int, text: str = "", **body: Any) -> dict[str, Any]:
    """Return one line of a batch file."""
    messages = [{"role": "user", "content": text or f"Say: row {number}"}]
    return {"custom_id": str(number), "body": {"messages": messages, **body}}


def exchange(
    method: str = "POST", path: str = "/v1/x", body: Any = None, answer: Any = None, **said: Any
) -> dict[str, Any]:
    """Return an exchange as a recording has it."""
    request: dict[str, Any] = {"method": method, "path": path}
    if "?" in path:
        request["path"], request["query"] = path.split("?")
    if body is not None:
        request["json"] = body
    return {"request": request, "response": {"status": 200, "json": answer, **said}}


@pytest.fixture
def make_api(make_simulator: Callable[..., Simulator]) -> Iterator[Callable[..., Api]]:
    """Start simulators (fast ones unless told otherwise) with a client each."""
    made: list[Api] = []

    def make(key: str = "test-key", **options: Any) -> Api:
        made.append(Api(make_simulator(**{"chunk_delay": 0, "batch_rate": 0, **options}), key))
        return made[-1]

    yield make
    for api in made:
        api.http.close()


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """A client to a fast simulator."""
    return make_api()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a recording by hand."""

    def written(*exchanges: dict[str, Any], name: str = "hand.jsonl") -> Path:
        file = tmp_path / name
        file.write_text("".join(json.dumps(each) + "\n" for each in exchanges))
        return file

    return written


@pytest.fixture
def ask(simulator: Simulator) -> Callable[..., httpx2.Response]:
    """Ask the simulator for something under any path."""

    def asked(body: Any, path: str = "/v1/x", **options: Any) -> httpx2.Response:
        return httpx2.post(simulator.url + path, content=json.dumps(body), timeout=20, **options)

    return asked
