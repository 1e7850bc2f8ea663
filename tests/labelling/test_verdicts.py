"""What an answer means for its request, endpoint by endpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mistral_nb.errors import RateLimitError
from mistral_nb.labelling.verdicts import NEEDED, Fault, Judgement, Patience, judge
from mistral_nb.lean import Answer

CHAT = "/v1/chat/completions"


def judged(status: int, body: Any, endpoint: str = CHAT) -> Judgement:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge(endpoint, Answer(status, {}, raw))


@pytest.mark.parametrize("endpoint", sorted(NEEDED))
def test_each_endpoints_reply_holds_its_list(endpoint: str) -> None:
    """A reply without the list that its endpoint gives is no reply."""
    assert judged(200, {NEEDED[endpoint]: []}, endpoint).verdict == "good"
    for other in ({}, {NEEDED[endpoint]: None}, {NEEDED[endpoint]: "text"}):
        assert judged(200, other, endpoint).verdict == "failed"


def test_an_endpoint_nobody_knows_of_may_give_any_object() -> None:
    """Endpoints to come are not judged by their shape."""
    assert judged(200, {"anything": 1}, "/v1/new").verdict == "good"
    assert judged(200, b"<html>", "/v1/new").verdict == "failed"


@pytest.mark.parametrize(("status", "verdict"), [
    (200, "good"), (201, "good"), (400, "refused"), (401, "refused"), (404, "refused"),
    (408, "failed"), (409, "failed"), (413, "refused"), (422, "refused"), (425, "failed"),
    (429, "limited"), (500, "failed"), (501, "refused"), (502, "failed"), (503, "failed"),
    (504, "failed"), (505, "refused"), (529, "failed"), (302, "refused"),
])  # fmt: skip
def test_which_statuses_are_worth_another_try(status: int, verdict: str) -> None:
    """5xx, 408, 409, 425 and 429 pass; everything else does not."""
    found = judged(status, {"choices": []})
    assert found.verdict == verdict
    assert found.again == (verdict in {"failed", "limited"})
    assert (found.error is None) == (verdict == "good")


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [({"total_tokens": 12}, 12), ({"total_tokens": "12"}, None), ([], None), (None, None)],
)
def test_tokens_are_read_where_they_are(usage: Any, tokens: int | None) -> None:
    """A usage of another shape counts as none."""
    assert judged(200, {"choices": [], "usage": usage}).tokens == tokens


def test_a_hostile_body_is_shown_short_and_in_one_line() -> None:
    """A page of HTML, binary or not, becomes a line in the error."""
    error = str(judged(200, b"<p>\n" + bytes(range(256)) * 1000).error)
    assert len(error) < 400
    assert "\n" not in error


def test_a_fault_decides_whether_to_repeat() -> None:
    """What the caller's check says of repeating counts more than the status."""
    found = judged(200, {"choices": []})
    for again in (True, False):
        faulty = Judgement("good", 200, found.body, RateLimitError("x", status_code=1),
                           found.reply, Fault("no label", again=again))  # fmt: skip
        assert faulty.again == again


def test_patience_starts_again_with_every_other_reason() -> None:
    """Twenty refusals for changing reasons do not add up."""
    patience = Patience()
    for number in range(100):
        assert patience.ended_by(judged(422, {"message": f"{number // 19}"}), 0, 0) is None
    for _ in range(15):
        patience.ended_by(judged(422, {"message": "5"}), 0, 0)
    assert patience.ended_by(judged(422, {"message": "5"}), 0, 0) is not None


def test_too_often_is_waited_for_longer_than_silence() -> None:
    """Limits are by the minute: 429s from the start are no reason to give up early."""
    assert Patience().ended_by(judged(429, {}), 60, 0) is None
    assert Patience().ended_by(judged(500, {}), 60, 0) is not None
    assert Patience(proven=True).ended_by(judged(500, {}), 60, 0) is None
    assert Patience().ended_by(judged(429, {}), 400, 0) is not None
