"""Scripted replies: said in order, or where they fit; then the rules answer again."""

from __future__ import annotations

import json

import httpx2
import pytest

from mistral_nb.errors import InputError
from mistral_nb.events import EventBus
from mistral_nb.simulator.scripted import Script
from mistral_nb.streaming import start_stream


@pytest.fixture
def ask(connection):
    bus = EventBus(connection.portal)

    def asked(prompt: str, **options):
        return start_stream(connection, bus, prompt, **options).result(20)

    return asked


def test_replies_come_in_order_and_then_the_rules(simulator, ask):
    """Each line is said once; after the last one the rules answer."""
    simulator.script(["First.", {"reply": "Second.", "thinking": "Hm."}])
    assert [ask("x").text, ask("x").text] == ["First.", "Second."]
    assert ask("Reply with exactly: back to the rules").text == "back to the rules"


def test_a_line_waits_for_its_words(simulator, ask):
    """`when` picks the prompts, in any case; `times` says how often, None for ever."""
    simulator.script([{"when": "TIDES", "reply": "The moon.", "times": None}, "Anything."])
    assert [ask("Why tides?").text, ask("tides!").text] == ["The moon.", "The moon."]
    assert ask("Reply with exactly: x").text == "Anything."
    assert ask("Reply with exactly: x").text == "x"


def test_a_line_can_think_and_call_tools(simulator, ask):
    """Thinking and tool calls arrive as a server sends them."""
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
    simulator.script([
        {"tools": [{"name": "find", "arguments": {"what": "ships"}}]},
        {"reply": "So.", "thinking": "Let me see."},
    ])  # fmt: skip
    (call,) = ask("x", tools=[tool]).tool_calls
    assert (call.name, json.loads(call.arguments)) == ("find", {"what": "ships"})
    assert ask("x").thinking == "Let me see."


def test_a_script_from_a_file_or_over_http(simulator, ask, tmp_path):
    """YAML and JSON files, and POST /simulator/script, hold the same lines."""
    (tmp_path / "lesson.yaml").write_text("- From YAML.\n- reply: Twice.\n  times: 2\n")
    simulator.script(tmp_path / "lesson.yaml")
    assert [ask("x").text for _ in range(3)] == ["From YAML.", "Twice.", "Twice."]
    (tmp_path / "lesson.json").write_text('["From JSON."]')
    simulator.script(str(tmp_path / "lesson.json"))
    assert ask("x").text == "From JSON."
    answer = httpx2.post(f"{simulator.url}/simulator/script", json=["Over HTTP."])
    assert answer.json() == {"lines": 1}
    assert ask("x").text == "Over HTTP."
    assert httpx2.post(f"{simulator.url}/simulator/script", json=[1]).status_code == 422


def test_the_built_in_one_is_scripted_by_name(home, monkeypatch):
    """`mnb.simulator.script` reaches the simulator of this process, and says if there is none."""
    import mistral_nb as mnb
    from mistral_nb.simulator import server

    monkeypatch.setattr(server, "_shared", {})
    with pytest.raises(InputError, match=r"mnb\.connect"):
        mnb.simulator.script(["x"])
    session = mnb.connect()
    mnb.simulator.script(["As written."])
    assert session.stream("x", show=False).result(20).text == "As written."


@pytest.mark.parametrize("lines", [[1], [{"replay": "x"}], [{"times": "often"}]])
def test_a_wrong_line_is_named(lines):
    """What is no line is refused, with its place."""
    with pytest.raises(InputError, match="line 0"):
        Script(lines)


@pytest.mark.parametrize("text", ["reply: x", "- [", "\x00"])
def test_a_wrong_file_is_named(simulator, tmp_path, text):
    """What holds no list of lines is refused, with the file's name."""
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(InputError, match=r"s\.yaml"):
        simulator.script(tmp_path / "s.yaml")
    with pytest.raises(InputError, match="none"):
        simulator.script(tmp_path / "none.yaml")
