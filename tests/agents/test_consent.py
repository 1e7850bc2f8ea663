"""Consent: rules, functions, a person at a screen; what is denied never ran."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mistral_nb.agents.consent import Decision, check_approve, decide
from mistral_nb.agents.tools import tool
from mistral_nb.errors import InputError
from tests.agents.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.agents.opening import Conversations


@pytest.fixture
def ran() -> list[str]:
    """What the tool was called with, in fact."""
    return []


@pytest.fixture
def chat(conversations: Conversations, ran: list[str]) -> Conversation:
    def send_mail(person: str) -> str:
        """Send a mail."""
        ran.append(person)
        return f"sent to {person}"

    return conversations.open(name="mail", tools=[send_mail])


def decided(approve: Any, name: str = "f") -> Any:
    return asyncio.run(decide(approve, name, {"a": 1}))


@pytest.mark.parametrize(
    ("approve", "allowed"),
    [
        ("always", True),
        ("never", False),
        ({"f": "always"}, True),
        ({"f": "never", "*": "always"}, False),
        ({"g": "never", "*": "always"}, True),
        (lambda name, arguments: arguments["a"] == 1, True),
        (lambda name, arguments: None, False),
        ({"f": lambda name, arguments: name == "f"}, True),
        (lambda name, arguments: {"not": "a rule"}, False),
    ],
)
def test_rules_decide(approve: Any, allowed: bool) -> None:
    """Always, never, a dict by tool, a function; anything odd is no consent."""
    assert decided(approve).allowed is allowed


def test_what_no_rule_decides_is_asked() -> None:
    """Ask is the default, also of a dict and of a function that says so."""
    assert [decided(rule) for rule in ("ask", {}, lambda *_: "ask")] == ["ask"] * 3


def test_a_function_gives_reasons_or_fails_safe() -> None:
    """A text is the reason of a denial; a rule that raises denies; a coroutine is awaited."""

    async def patient(name: str, arguments: dict) -> Decision:
        await asyncio.sleep(0)
        return Decision(allowed=True, arguments={"a": 2})

    assert decided(lambda *_: "too late today") == Decision(allowed=False, reason="too late today")
    assert "ZeroDivisionError" in decided(lambda *_: 1 / 0).reason
    assert decided(patient) == Decision(allowed=True, arguments={"a": 2})


def test_a_function_may_be_anything_that_can_be_called() -> None:
    """An object with an asynchronous call is awaited; numpy's True is a True."""

    class Rule:
        async def __call__(self, name: str, arguments: dict) -> bool:
            return arguments["a"] == 1

    assert decided(Rule()).allowed
    assert decided(lambda *_: np.bool_(True)).allowed
    assert not decided(lambda *_: np.bool_(False)).allowed


@pytest.mark.parametrize("answer", [None, 1, [True], np.array([True])], ids=repr)
def test_an_answer_that_is_none_says_so(answer: Any) -> None:
    """A forgotten return, or a value that is only like True: no consent, and the reason why."""
    decision = decided(lambda *_: answer)
    assert not decision.allowed
    assert f"returned {type(answer).__name__}; it must be True, False or" in decision.reason


def test_a_rule_that_breaks_off_harms_nothing_else() -> None:
    """An exit, or an error that cannot even be told, is a denial."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    async def leaves(name: str, arguments: dict) -> bool:
        raise SystemExit

    async def fails(name: str, arguments: dict) -> bool:
        raise Mute

    assert "SystemExit" in decided(leaves).reason
    assert decided(fails).reason == "The approve function failed: Mute"


@pytest.mark.parametrize("fields", [{"allowed": 1}, {"reason": None}, {"arguments": "{}"}])
def test_a_decision_of_other_types_is_refused(fields: dict) -> None:
    """What is only like a consent is none."""
    with pytest.raises(InputError, match="allowed must be a bool"):
        Decision(**{"allowed": True, **fields})


@pytest.mark.parametrize("approve", ["yes", 1, None, {"f": "maybe"}])
def test_what_is_no_rule_is_refused(approve: Any) -> None:
    """With the words that are."""
    with pytest.raises(InputError, match="'ask', 'always', 'never'"):
        check_approve(approve)


def test_without_a_screen_ask_means_deny(chat: Conversation, ran: list[str]) -> None:
    """Nobody to ask: the call is denied, the model and the turn say why, nothing ran."""
    turn = chat.send("Send a mail to Ada").result(10)
    (use,) = turn.tool_calls
    assert (use.state, ran) == ("denied", [])
    assert "Nobody could be asked" in use.text
    assert "Nobody could be asked" in turn.text


def test_approved_calls_run(chat: Conversation, ran: list[str], asked: Callable) -> None:
    """While it waits the turn says so; after Approve the tool runs, and the answer comes."""
    handle = chat.send("Send a mail to Ada")
    (consent,) = asked(handle)
    assert (handle.state, consent.name, consent.server) == ("waiting", "send_mail", False)
    assert consent.parameters["required"] == ["person"]
    assert handle.turn.entries[1].state == "waiting"
    assert ran == []
    assert consent.approve()
    turn = handle.result(10)
    assert (ran, turn.tool_calls[0].state, handle.pending) == (["Ada"], "done", ())


def test_denied_calls_never_ran(chat: Conversation, ran: list[str], asked: Callable) -> None:
    """The reason reaches the model in place of a result."""
    handle = chat.send("Send a mail to Ada")
    asked(handle)[0].deny("she is on holiday")
    turn = handle.result(10)
    assert (ran, turn.tool_calls[0].state) == ([], "denied")
    assert turn.tool_calls[0].text == "Denied: this call was not run. she is on holiday"


def test_edited_arguments_are_used_and_told(
    chat: Conversation, ran: list[str], asked: Callable
) -> None:
    """The tool gets what the person wrote; the model hears of it."""
    handle = chat.send("Send a mail to Ada")
    asked(handle)[0].approve({"person": "Grace"})
    (use,) = handle.result(10).tool_calls
    assert ran == ["Grace"]
    assert use.text == '[The user changed the arguments to {"person":"Grace"}]\nsent to Grace'
    assert use.call.data["changed_arguments"] == {"person": "Grace"}
    assert use.arguments == {"person": "Ada"}


def test_edited_arguments_that_do_not_fit_are_refused(chat: Conversation, asked: Callable) -> None:
    """The person is told, and the request still waits."""
    handle = chat.send("Send a mail to Ada")
    (consent,) = asked(handle)
    with pytest.raises(InputError, match="person: Field required"):
        consent.approve({"whom": "Grace"})
    assert not consent.done
    consent.deny()
    handle.result(10)


def test_arguments_that_a_rule_gets_wrong_are_told(chat: Conversation, ran: list[str]) -> None:
    """The call fails with what does not fit; the turn goes on."""
    chat.approve = lambda *_: Decision(allowed=True, arguments={"whom": "Grace"})
    turn = chat.send("Send a mail to Ada").result(10)
    (use,) = turn.tool_calls
    assert (use.state, turn.status, ran) == ("failed", "done", [])
    assert "the rule changed the arguments" in use.text
    assert "person: Field required" in use.text


def test_the_first_answer_counts(chat: Conversation, ran: list[str], asked: Callable) -> None:
    """Two panels, two answers: the second is told that it came too late."""
    handle = chat.send("Send a mail to Ada")
    (consent,) = asked(handle)
    assert (consent.approve(), consent.deny(), consent.approve()) == (True, False, False)
    handle.result(10)
    assert ran == ["Ada"]


def test_what_waits_outlives_its_screen(chat: Conversation, ran: list[str]) -> None:
    """A page that reloads detaches and attaches again; the request is still there."""
    with chat.attach():
        handle = chat.send("Send a mail to Ada")
        until(lambda: handle.pending)
    assert not handle.done()
    with chat.attach():
        handle.pending[0].approve()
        handle.result(10)
    assert ran == ["Ada"]


def test_stop_ends_what_waits(chat: Conversation, ran: list[str], asked: Callable) -> None:
    """A stopped turn asks no more, and its call never ran."""
    handle = chat.send("Send a mail to Ada")
    asked(handle)
    handle.stop()
    turn = handle.result(10)
    assert (turn.status, handle.pending, ran) == ("stopped", (), [])
    assert turn.tool_calls[0].state == "stopped"


def test_a_tool_has_a_rule_of_its_own(conversations: Conversations) -> None:
    """It goes before the conversation's."""

    def wipe_disk() -> str:
        """Wipe the disk."""
        raise AssertionError

    chat = conversations.open(tools=[tool(wipe_disk, approve="never")], approve="always")
    turn = chat.send("Wipe the disk").result(10)
    assert turn.tool_calls[0].state == "denied"


@pytest.mark.parametrize("allow", [True, False])
def test_calls_on_the_servers_side_wait_too(conversations: Conversations, allow: bool) -> None:
    """A pending call is never run here: allow or deny goes to the server, which runs it."""
    search = {
        "type": "web_search",
        "tool_configuration": {"requires_confirmation": ["web_search"]},
    }

    def web_search(query: str) -> str:
        """Would run it here, which must not be."""
        raise AssertionError

    chat = conversations.open(tools=[search])
    assert chat.tools == {}
    with chat.attach():
        handle = chat.send("Search the web for tides")
        (consent,) = until(lambda: handle.pending)
        assert consent.server
        with pytest.raises(InputError, match="arguments are fixed"):
            consent.approve({"query": "other"})
        assert consent.approve() if allow else consent.deny("no")
        turn = handle.result(10)
    kinds = [entry.type for entry in turn.entries]
    assert ("tool.execution" in kinds) is allow
    assert turn.tool_calls[0].state == ("done" if allow else "denied")
    assert turn.status == "done"


def test_a_rule_decides_for_the_servers_side(conversations: Conversations) -> None:
    """Always lets a connector's calls through, with nobody there."""
    search = {
        "type": "web_search",
        "tool_configuration": {"requires_confirmation": ["web_search"]},
    }
    chat = conversations.open(tools=[search], approve={"web_search": "always"})
    turn = chat.send("Search the web for tides").result(10)
    assert [citation.tool for citation in turn.citations] == ["web_search"] * 2
