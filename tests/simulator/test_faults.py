"""Each fault does what it says, and nothing when it is off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import orjson
import pytest

from mistral_nb.simulator import Faults

if TYPE_CHECKING:
    from tests.simulator.conftest import Api


def test_a_cut_stream_breaks_after_so_many_chunks(api: Api) -> None:
    """cut_after: the connection drops without an end."""
    api.simulator.faults = Faults(cut_after=3)
    with pytest.raises(httpx2.RemoteProtocolError):
        api.stream("Explain tides")
    assert api.simulator.stats()["streams"]["cut_by_fault"] == 1


def test_a_stream_may_end_without_done_or_finish(api: Api) -> None:
    """drop_done ends clean without the last chunk; drop_finish only lacks the reason."""
    api.simulator.faults = Faults(drop_done=True)
    chunks = api.stream("2+2?")
    assert all(orjson.loads(c)["choices"][0]["finish_reason"] is None for c in chunks)
    api.simulator.faults = Faults(drop_finish=True)
    *chunks, done = api.stream("2+2?")
    assert done == b"[DONE]"
    assert orjson.loads(chunks[-1])["choices"][0]["finish_reason"] is None


def test_single_chunks_may_be_spoiled(api: Api) -> None:
    """malformed_chunk is not JSON, error_chunk an error object, odd_chunks have no choices."""
    api.simulator.faults = Faults(malformed_chunk=1)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(api.stream("2+2?")[1])
    api.simulator.faults = Faults(error_chunk=1)
    assert orjson.loads(api.stream("2+2?")[1])["object"] == "error"
    api.simulator.faults = Faults(odd_chunks=True)
    assert any(orjson.loads(c)["choices"] == [] for c in api.stream("2+2?")[:-1])


def test_a_lost_reply_was_carried_out(api: Api) -> None:
    """lost_reply_rate: the connection closes before the body, and the request is paid for."""
    api.simulator.faults = Faults(lost_reply_rate=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        api.chat("a")
    assert api.simulator.stats()["chat_requests"] == 1


def test_rate_limits_and_headers(api: Api) -> None:
    """rate_limit_rate with retry_after sends 429; deprecation sends its header."""
    api.simulator.faults = Faults(rate_limit_rate=1, retry_after=2)
    reply = api.chat("a")
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "2")
    api.simulator.faults = Faults(deprecation=True)
    assert "x-model-deprecation-timestamp" in api.chat("a").headers
