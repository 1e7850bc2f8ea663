"""Tokens as servers bill them: read from hostile words, added up by model, for a whole session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mistral_nb import errors
from mistral_nb import session as sessions
from mistral_nb.simulator import Faults
from mistral_nb.usage import Tally, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mistral_nb.session import Session
    from mistral_nb.simulator import Simulator


@pytest.fixture
def session(simulator: Simulator) -> Iterator[Session]:
    yield sessions.connect(api_key="test-key", server_url=simulator.url, timeout=20)
    sessions._default.set(None)


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ({"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 6}, Usage(2, 3, 6, 0)),
        ({"prompt_tokens": 2, "completion_tokens": None}, Usage(2, 0, 2, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(9, 0, 9, 4)),
        ({"prompt_tokens": 9, "num_cached_tokens": 4}, Usage(9, 0, 9, 4)),
        ({"prompt_tokens": "7", "completion_tokens": [1], "total_tokens": True}, Usage()),
        ({"prompt_tokens_details": "none", "num_cached_tokens": {}}, Usage()),
    ],
)
def test_what_is_no_number_counts_nothing(told: dict[str, Any], read: Usage) -> None:
    """Counts are whole numbers, whatever a server sends in their place."""
    assert Usage.from_wire(told) == read


def test_a_tally_adds_up_by_model() -> None:
    """Each model has its replies counted and their tokens added, in the order they came."""
    tally = Tally()
    for model, usage in (("b", Usage(1, 2, 3)), ("a", Usage(5, 5, 10)), ("b", Usage(1, 1, 2, 1))):
        tally.add(model, usage)
    assert tally.rows() == [("b", 2, Usage(2, 3, 5, 1)), ("a", 1, Usage(5, 5, 10))]


def test_a_session_counts_every_reply_it_paid_for(session: Session) -> None:
    """Streams, streams asked again and turns with their tools are in the table, by model."""
    first = session.stream("2+2?", show=False)
    replies = [first.result(20), first.retry().result(20)]

    def paint(square_metres: int) -> str:
        """Tell how much paint a wall needs."""
        return f"{square_metres / 10:g} litres"

    chat = session.conversation(tools=[paint], approve="always")
    turn = chat.send("How much paint do 20 square metres need?").result(20)
    other = session.stream("2+2?", model="mistral-large-latest", show=False).result(20)
    assert len(turn.tool_calls) == 1
    table = session.usage()
    assert table["replies"].to_dict() == {"mistral-small-latest": 3, "mistral-large-latest": 1}
    paid = [reply.usage.total_tokens for reply in (*replies, turn)]
    assert table["total_tokens"].tolist() == [sum(paid), other.usage.total_tokens]


def test_a_reply_that_was_cut_adds_no_guess(session: Session, simulator: Simulator) -> None:
    """What the server never counted is not in the table, and an empty table has its columns."""
    simulator.faults = Faults(cut_after=2)
    with pytest.raises(errors.StreamCut):
        session.stream("Explain tides in detail", show=False).result(20)
    assert session.usage().empty
    assert session.usage().index.name == "model"
    assert session.usage().columns[0] == "replies"
