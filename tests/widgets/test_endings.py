"""How endings read."""

from __future__ import annotations

import pytest

from mistral_nb import errors
from mistral_nb.events import ChatComplete, ChatError
from mistral_nb.streaming import Reply, Usage
from mistral_nb.widgets.endings import Ending, ending_of


def complete(finish: str, **fields: object) -> Ending:
    reply = Reply(text="x", finish_reason=finish, model="m", seconds=2.0, **fields)
    return ending_of(ChatComplete("r", "x", reply.usage, finish, reply))


def failed(error: Exception, text: str = "") -> Ending:
    return ending_of(ChatError("r", error, Reply(text=text, model="m", seconds=2.0)))


def test_a_finished_reply_gives_its_figures() -> None:
    """Model, tokens, seconds and speed stand in one line."""
    ending = complete("stop", usage=Usage(1200, 50, 1250, 1000))
    assert ending.state == "done"
    assert ending.footer == "m · 1,200 tokens in (1,000 cached), 50 out · 2.0 s · 25 tokens/s"


@pytest.mark.parametrize(
    ("finish", "state", "words"),
    [
        ("stopped", "stopped", "Stopped"),
        ("length", "cut", "max_tokens"),
        ("tool_calls", "done", "Asks for a tool"),
        ("a new one", "done", "Ended: a new one"),
    ],
)
def test_every_finish_is_named(finish: str, state: str, words: str) -> None:
    """An end that is not simply the end says which it is."""
    ending = complete(finish)
    assert (ending.state, words in ending.footer) == (state, True)


@pytest.mark.parametrize(
    ("error", "may_retry"),
    [
        (errors.StreamCut("why"), True),
        (errors.StreamStalled("why"), True),
        (errors.ServerUnreachable("why"), True),
        (errors.RateLimitError("why", status_code=429), True),
        (errors.AuthenticationError("why", status_code=401), False),
        (errors.InvalidRequestError("why", status_code=422), False),
        (errors.InputError("why"), False),
        (ValueError("why"), False),
    ],
)
def test_retry_is_offered_where_it_may_help(error: Exception, may_retry: bool) -> None:
    """The panel gives a title and the reason; Retry only where the same may work later."""
    ending = failed(error)
    assert ending.state == "error"
    assert ending.panel[1] == "why"
    assert ending.may_retry is may_retry


def test_a_partial_reply_is_called_incomplete() -> None:
    """The footer of a failed reply says whether anything came."""
    assert failed(errors.StreamCut("why"), "some").footer.startswith("Incomplete")
    assert failed(errors.StreamCut("why")).footer.startswith("No reply")
