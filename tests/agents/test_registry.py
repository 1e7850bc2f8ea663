"""Agents: named calls over the SDK's, shown well, and cleared up after a lesson."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import mistral_nb as mnb
from mistral_nb.errors import InputError, InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from mistral_nb.agents.registry import Agents
    from mistral_nb.simulator import Simulator


def get_weather(city: str) -> str:
    """Look at the weather."""
    return city


def test_an_agent_is_made_read_changed_and_deleted(agents: Agents) -> None:
    """What was asked for is what is there; a change is a new version."""
    made = agents.create(
        "Weather",
        instructions="Be brief.",
        description="weather",
        tools=[get_weather, "web_search"],
        completion_args={"temperature": 0.1},
    )
    assert (made.model, made.version) == ("mistral-small-latest", 0)
    assert made.tool_names == ("get_weather", "web_search")
    assert agents.get(made) == made
    assert [each.id for each in agents.list()] == [made.id]
    changed = agents.update(made, instructions="Be long.", tools=[])
    assert (changed.version, changed.instructions, changed.tool_names) == (1, "Be long.", ())
    assert [each.version for each in agents.versions(made)] == [1, 0]
    assert agents.get(made, version=0).instructions == "Be brief."
    assert agents.use_version(made, 0).version == 0
    agents.delete(made)
    with pytest.raises(NotFoundError):
        agents.get(made)


def test_versions_have_names(agents: Agents) -> None:
    """An alias is given, moved and taken away."""
    made = agents.create("Weather")
    agents.update(made, instructions="Be long.")
    agents.alias(made, "stable")
    agents.alias(made.id, "next")
    assert agents.aliases(made) == {"stable": 0, "next": 1}
    assert agents.get(made, version="stable").version == 0
    agents.unalias(made, "next")
    assert agents.aliases(made) == {"stable": 0}


def test_a_lesson_leaves_nothing(agents: Agents) -> None:
    """What was made within the context is deleted, also after an error or a delete."""
    kept = agents.create("Kept")
    with pytest.raises(ZeroDivisionError), agents.temporary() as lesson:
        lesson.create("One")
        lesson.delete(lesson.create("Two"))
        agents.delete(lesson.create("Three"))
        _ = 1 / 0
    assert [each.name for each in agents.list()] == [kept.name]


def test_agents_show_as_card_and_table_without_markup_of_theirs(agents: Agents) -> None:
    """Names and instructions are text, whatever they hold."""
    evil = "<img src=x onerror=alert(1)>$x$"
    made = agents.create(evil, instructions=evil, description=evil, tools=[get_weather])
    for html in (made._repr_html_(), agents.list()._repr_html_()):
        assert "<img" not in html
        assert "$x$" not in html
        assert "get_weather" in html
        assert html.startswith("<table>")
    assert list(agents.list().to_frame()["tools"]) == ["get_weather"]


def test_a_long_list_is_read_to_its_end(agents: Agents) -> None:
    """Page after page."""
    for number in range(3):
        agents.create(f"Agent {number}")
    listed = agents.list(page_size=2)
    assert [each.name for each in listed] == ["Agent 2", "Agent 1", "Agent 0"]
    assert [each.name for each in agents.list(name="Agent 1")] == ["Agent 1"]


def test_refusals_are_ours(agents: Agents) -> None:
    """A wrong model, a wrong tool, a wrong field: each in our words."""
    with pytest.raises(InvalidRequestError, match="Invalid model"):
        agents.create("A", model="nobody")
    with pytest.raises(InputError, match="no connector 'web'"):
        agents.create("A", tools=["web"])
    with pytest.raises(InputError, match="does not fit the API"):
        agents.create("A", completion_args={"temperature": "hot"})


def test_the_module_speaks_for_the_default_session(
    server: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mnb.agents.create is the session's; chat and agents come from the same place."""
    mnb.connect("key", server.url)
    agent = mnb.agents.create("Desk")
    assert [each.id for each in mnb.agents.list()] == [agent.id]
    chat = mnb.conversation(agent=agent, name="desk")
    assert chat.send("Say: hello").result(10).text == "hello"
    assert list(mnb.conversations().index) == ["desk"]
    assert mnb.agents.tool(get_weather).name == "get_weather"
    assert {"create", "Conversation", "tool"} <= set(dir(mnb.agents))
    with pytest.raises(AttributeError, match="no attribute 'creat'"):
        _ = mnb.agents.creat
