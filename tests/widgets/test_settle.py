"""The static form of a reply."""

from __future__ import annotations

import json
import re
from typing import Any

from mistral_nb.errors import StreamCut
from mistral_nb.events import ChatChunk, ChatComplete, ChatError
from mistral_nb.markdown import cite
from mistral_nb.streaming import Reply
from mistral_nb.widgets.frames import Screen
from mistral_nb.widgets.settle import bundle


def settled(*pieces: tuple[Any, str], finish: str = "stop", source: str = "") -> dict[str, str]:
    screen = Screen("m")
    screen.take([ChatChunk("r", text, 0, kind, tool_name="f") for kind, text in pieces])
    reply = Reply(text=source, finish_reason=finish, model="m", seconds=1.0)
    screen.take([ChatComplete("r", source, None, finish, reply)])
    screen.frame()
    return bundle(screen, source)


def test_the_source_is_kept_to_the_letter() -> None:
    """text/plain is the reply's Markdown, and no text/markdown is given out."""
    data = settled(("text", "# A\n\n*b*"), source="# A\n\n*b*")
    assert data["text/plain"] == "# A\n\n*b*"
    assert set(data) == {"text/html", "text/plain"}
    assert "<h1>A</h1>" in data["text/html"]


def test_no_script_no_style_sheet() -> None:
    """The HTML needs nothing but itself."""
    html = settled(("text", "a `b`\n\n```python\nx = 1\n```"))["text/html"]
    assert "<script" not in html
    assert "<style" not in html
    assert "<link" not in html


def test_math_is_tex_in_a_file() -> None:
    """Math stays readable where a viewer throws MathML away."""
    html = settled(("text", "so $x^2$"))["text/html"]
    assert "<math" not in html
    assert "x^2" in html


def test_thinking_is_folded() -> None:
    """Thinking stands in a details element before the answer, closed."""
    html = settled(("thinking", "Hmm *so*"), ("text", "Answer"))["text/html"]
    assert html.startswith("<details")
    assert "<details open" not in html
    assert html.index("Hmm <em>so</em>") < html.index("</details>") < html.index("Answer")


def test_tool_calls_are_indented_json() -> None:
    """Arguments that are JSON are laid out; others stay as they came."""
    html = settled(("tool", '{"a":1}'))["text/html"]
    assert "{\n  &quot;a&quot;: 1\n}" in html
    broken = settled(("tool", '{"a":'))
    assert "{&quot;a&quot;:" in broken["text/html"]
    assert broken["text/plain"] == 'f({"a":)'


def test_marks_lead_to_their_sources() -> None:
    """A mark is a link to its line in the list; a source on the web is a link itself."""
    url = "https://example.org/?a&b"
    data = settled(("text", "Snow"), ("reference", f"doc-a,{url}"), ("text", " is white"))
    html = data["text/html"]
    target = re.findall(r'<sup><a href="#(mnb-\w+-2)">\[2\]</a></sup>', html)
    assert f'<li id="{target[0]}"><a href="https://example.org/?a&amp;b"' in html
    assert ">doc-a</li>" in html
    assert 'href="doc-a"' not in html


def test_a_mark_without_a_source_leads_nowhere() -> None:
    """A mark that the model wrote itself, or that stands in a link, is no link."""
    made_up = settled(("text", f"a{cite(1)}{cite(7)}"), ("reference", "x"))["text/html"]
    assert '<sup class="mnb-cite">[7]</sup>' in made_up
    inside = settled(("text", f"[a{cite(1)}](https://b.c)"), ("reference", "x"))["text/html"]
    assert inside.count("<a ") == 2  # the link, and the mark behind it


def test_a_stopped_reply_says_so() -> None:
    """What is not simply whole says so, in HTML and in text."""
    data = settled(("text", "a"), finish="stopped", source="a")
    assert "Stopped" in data["text/html"]
    assert data["text/plain"] == "a\n\n[Stopped · m · 1.0 s]"


def test_an_error_is_a_panel() -> None:
    """A failed reply keeps its text and gives title and reason, all escaped."""
    screen = Screen("m")
    partial = Reply(text="half", model="m")
    screen.take([ChatChunk("r", "half", 0), ChatError("r", StreamCut("<b>why</b>"), partial)])
    screen.frame()
    data = bundle(screen, "half")
    assert "The reply was cut short" in data["text/html"]
    assert "&lt;b&gt;why&lt;/b&gt;" in data["text/html"]
    assert "Run the cell again." in data["text/html"]
    assert "The reply was cut short" in data["text/plain"]


def test_an_arriving_reply_can_be_shown() -> None:
    """Where no live view is possible, the same form shows what has come so far."""
    screen = Screen("m")
    screen.take([ChatChunk("r", "so far", 0)])
    screen.frame()
    assert "so far" in bundle(screen, "so far")["text/html"]
    assert json.dumps(bundle(screen, "so far"))
