"""Streams end when their client goes away, and may stall on demand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from mistral_nb.simulator import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulator.conftest import Api


def streams_until(api: Api, **wanted: int) -> dict[str, int]:
    """Read the counts of streams until they are as wanted."""
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        counted = api.simulator.stats()["streams"]
        if counted.items() >= wanted.items():
            return counted
        time.sleep(0.01)
    raise AssertionError(counted)


def opened(api: Api, prompt: str = "Explain tides") -> Any:
    body = {
        "model": "mistral-small-latest",
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
    }
    return api.http.stream("POST", "/v1/chat/completions", json=body)


def test_a_client_that_leaves_ends_its_stream(make_api: Callable[..., Api]) -> None:
    """The server sees the hang-up, stops generating and counts it."""
    api = make_api(chunk_delay=0.05)
    with opened(api) as response:
        lines = response.iter_lines()  # kept: dropping it would close the response
        next(lines)
        assert api.simulator.stats()["streams"]["open"] == 1
    assert streams_until(api, open=0)["cut_by_client"] == 1


def test_a_stall_lasts_until_the_client_leaves(api: Api) -> None:
    """stall_after sends so many chunks, then nothing, with the connection open."""
    api.simulator.faults = Faults(stall_after=3)
    api.http.timeout = httpx2.Timeout(5, read=0.3)
    seen = []
    with pytest.raises(httpx2.ReadTimeout), opened(api) as response:
        seen.extend(line for line in response.iter_lines() if line)
    assert len(seen) == 3
    streams_until(api, open=0, cut_by_client=1)


def test_a_finished_stream_is_counted_as_finished(api: Api) -> None:
    """Every stream is open once and ends in exactly one way."""
    api.stream("2+2?")
    assert streams_until(api, open=0) == {
        "open": 0,
        "opened": 1,
        "finished": 1,
        "cut_by_client": 0,
        "cut_by_fault": 0,
    }


def test_stopping_the_simulator_ends_open_streams(make_api: Callable[..., Api]) -> None:
    """stop() does not wait for a stalled stream; its client sees the end."""
    api = make_api(faults=Faults(stall_after=1))
    with pytest.raises(httpx2.HTTPError), opened(api) as response:
        lines = response.iter_lines()
        next(lines)
        api.simulator.stop()
        for _ in lines:
            pass


def test_the_pace_may_change_at_any_time(api: Api) -> None:
    """chunk_delay set on a running simulator slows the next stream."""
    api.simulator.chunk_delay = 0.02
    began = time.monotonic()
    chunks = api.stream("2+2?")
    assert time.monotonic() - began >= 0.02 * (len(chunks) - 1)
