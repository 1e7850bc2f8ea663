"""Branches: edit, regenerate, switch, clear; nothing that was said is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mistral_nb.agents.branches import Node, Tree
from mistral_nb.agents.entries import Turn
from mistral_nb.errors import InputError
from mistral_nb.simulator import Faults
from tests.agents.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.agents.opening import Conversations
    from mistral_nb.simulator import Simulator

RESTART = "POST /v1/conversations/{conversation_id}/restart 200"
START = "POST /v1/conversations 200"


@pytest.fixture
def three(chat: Conversation) -> tuple[Turn, ...]:
    """A conversation of three turns."""
    for word in ("one", "two", "three"):
        chat.send(f"Say: {word}").result(10)
    return chat.turns


def said(chat: Conversation) -> list[str]:
    return [turn.text for turn in chat.turns]


def test_an_edit_is_a_branch(
    chat: Conversation, three: tuple[Turn, ...], server: Simulator
) -> None:
    """The edited message follows what came before it; the server restarts from there."""
    edited = chat.edit(three[1], "Say: other").result(10)
    assert said(chat) == ["one", "other"]
    assert chat.siblings(edited) == (three[1].id, edited.id)
    assert server.stats()["requests"][RESTART] == 1
    assert chat.send("Say: more").result(10).text == "more"
    assert said(chat) == ["one", "other", "more"]


def test_the_first_message_can_be_edited(
    chat: Conversation, three: tuple[Turn, ...], server: Simulator
) -> None:
    """There is nothing before it: a new conversation begins."""
    chat.edit(three[0].id, "Say: anew").result(10)
    assert said(chat) == ["anew"]
    assert server.stats()["requests"][START] == 2


def test_an_answer_is_asked_for_again(chat: Conversation, three: tuple[Turn, ...]) -> None:
    """The same question, another answer beside the first; by default the last one's."""
    again = chat.regenerate().result(10)
    assert (again.question, again.parent) == ("Say: three", three[1].id)
    assert chat.siblings(again) == (three[2].id, again.id)
    earlier = chat.regenerate(three[1]).result(10)
    assert said(chat) == ["one", "two"]
    assert chat.siblings(earlier) == (three[1].id, earlier.id)


def test_a_branch_is_switched_to_and_goes_on(chat: Conversation, three: tuple[Turn, ...]) -> None:
    """Switching shows a branch to its end, and the next message goes there."""
    edited = chat.edit(three[1], "Say: other").result(10)
    chat.switch(three[1])
    assert said(chat) == ["one", "two", "three"]
    chat.send("Say: four").result(10)
    assert said(chat) == ["one", "two", "three", "four"]
    chat.switch(edited)
    assert said(chat) == ["one", "other"]
    chat.switch(three[0])
    assert said(chat) == ["one", "other"]  # the branch that was begun last


def test_branches_outlive_the_kernel(
    chat: Conversation, three: tuple[Turn, ...], kernel: Callable[[], Conversations]
) -> None:
    """Another kernel shows the branch that was shown last, and has the others."""
    edited = chat.edit(three[1], "Say: other").result(10)
    chat.switch(three[2])
    other = kernel().open(name="notes")
    assert said(other) == ["one", "two", "three"]
    assert other.siblings(three[1]) == (three[1].id, edited.id)
    assert other.send("Say: four").result(10).text == "four"


def test_a_branch_from_a_forgotten_conversation(
    chat: Conversation, three: tuple[Turn, ...], forget: Callable[[], list[str]]
) -> None:
    """Where the server cannot restart, it begins with our history up to there."""
    forget()
    chat.edit(three[2], "Say: other").result(10)
    assert said(chat) == ["one", "two", "other"]


def test_clearing_begins_anew(
    chat: Conversation, three: tuple[Turn, ...], server: Simulator
) -> None:
    """The next turn knows of nothing; what was said can be switched back to."""
    chat.clear()
    assert chat.turns == ()
    chat.send("Say: new").result(10)
    assert said(chat) == ["new"]
    assert server.stats()["requests"][START] == 2
    chat.switch(three[0])
    assert said(chat) == ["one", "two", "three"]


def test_a_failed_turn_is_asked_again(chat: Conversation, server: Simulator) -> None:
    """Regenerate after a cut: a whole answer beside the broken one."""
    server.faults = Faults(cut_after=4)
    handle = chat.send("Explain tides")
    with pytest.raises(Exception, match="regenerate"):
        handle.result(10)
    server.faults = Faults()
    turn = chat.regenerate().result(10)
    assert (turn.status, len(chat.turns)) == ("done", 1)
    assert len(chat.siblings(turn)) == 2


def test_branches_do_not_move_under_a_running_turn(chat: Conversation, server: Simulator) -> None:
    """Switch, clear and delete are refused with a word while one goes on."""
    first = chat.send("Say: one").result(10)
    server.chunk_delay = 0.05
    handle = chat.send("Explain tides")
    until(lambda: handle.text)
    for change in (chat.clear, chat.delete, lambda: chat.switch(first)):
        with pytest.raises(InputError, match="A turn is going on"):
            change()
    handle.stop()
    handle.result(5)


def test_a_branch_may_be_long() -> None:
    """Its end is found below thousands of turns."""
    tree = Tree()
    for number in range(5000):
        parent = f"turn-{number - 1}" if number else None
        tree.add(Node(Turn(f"turn-{number}", "notes", parent)))
    assert tree.leaf(tree.find("turn-0")).id == "turn-4999"
    assert len(tree.path("turn-4999")) == 5000


def test_a_turn_that_is_put_in_again_is_no_other_branch() -> None:
    """A newer state of a turn takes the place of the older one, among its siblings too."""
    tree = Tree()
    for name, parent in (("a", None), ("b", None), ("c", "a"), ("a", None)):
        tree.add(Node(Turn(name, "notes", parent)))
    assert [node.id for node in tree.siblings(tree.find("b"))] == ["a", "b"]
    assert [tree.leaf(tree.find(name)).id for name in "abc"] == ["c", "b", "c"]


def test_what_is_no_turn_is_refused(chat: Conversation) -> None:
    """With where to look."""
    for change in (chat.switch, chat.siblings, chat.regenerate, lambda t: chat.edit(t, "x")):
        with pytest.raises(InputError, match=r"no turn 'turn-x'.*chat\.turns"):
            change("turn-x")
    with pytest.raises(InputError, match="send a message first"):
        chat.regenerate()


def test_changes_are_told(chat: Conversation) -> None:
    """Whoever shows the conversation hears that its turns are others now."""
    name = f"conversation-{chat.name}"
    with chat.bus.stream("conversation:*", request_id=name) as events:
        turn = chat.send("Say: one").result(10)
        chat.clear()
        chat.switch(turn)
        reasons = []
        while "switched" not in reasons:
            reasons.append(next(events).reason)
    assert set(reasons) >= {"sent", "cleared", "switched"}
