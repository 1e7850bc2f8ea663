"""A reply in a real JupyterLab: it grows on screen, and everything it carries is shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import ASK, expect, pieces

if TYPE_CHECKING:
    from tests.browser.lab import LabPage
    from tests.browser.scripted import ScriptedServer

PROSE = "A notebook is a page that runs. **Bold words** and `code` stand in it.\n\n" * 12


@pytest.mark.smoke("live stream")
def test_text_grows_before_it_ends(lab: LabPage, scripted: ScriptedServer) -> None:
    """Text is on screen while the reply still arrives, in a log that says it is busy."""
    script = scripted.add("grow", pieces(PROSE, 12), limit=20, hold=True)
    lab.open("grow", [f"{ASK}\nawait session.stream('x', model='grow')"])
    lab.start(0)
    log = lab.view(0).get_by_role("log")
    log.get_by_text("A notebook is a page").first.wait_for()
    assert log.get_attribute("aria-busy") == "true"
    first = len(log.inner_text())
    script.limit = None
    lab.eventually(lambda: len(log.inner_text()) > first + 50, "the text grows")
    assert lab.cell(0).locator(".jp-InputPrompt").inner_text() == "[*]:"
    lab.view(0).get_by_role("button", name="Stop").click()
    lab.wait_done(0)


def test_markdown_is_rendered_as_it_arrives(lab: LabPage, scripted: ScriptedServer) -> None:
    """Headings, tables, code and math are elements before the reply has ended."""
    text = "# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = 1\n```\n\n$x^2$ and **bold**\n\n"
    scripted.add("marks", pieces(text, 3), hold=True)
    lab.open("marks", [f"{ASK}\nreply = session.stream('x', model='marks')"])
    lab.start(0)
    view = lab.view(0)
    for element in ("h1", "table td", "pre code", "math", "strong"):
        view.locator(element).first.wait_for()
    assert view.get_by_role("log").get_attribute("aria-busy") == "true"
    view.get_by_role("button", name="Stop").click()
    lab.output(0).get_by_text("Stopped").wait_for()


def test_thinking_is_folded_and_timed(lab: LabPage, scripted: ScriptedServer) -> None:
    """Thinking stands in a closed details element that counts its seconds."""
    think = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hmm. "}]}]}
    scripted.add("think", [think] * 12, rate=6, hold=True)
    lab.open("think", [f"{ASK}\nreply = session.stream('x', model='think')"])
    lab.start(0)
    details = lab.view(0).locator("details")
    label = details.locator("summary")
    expect(label).to_have_text(re.compile(r"Thinking… \d+ s"))
    early = label.inner_text()
    expect(label).not_to_have_text(early)
    assert not details.evaluate("node => node.open")
    label.click()
    details.get_by_text("Hmm. Hmm.").wait_for()
    lab.view(0).get_by_role("button", name="Stop").click()
    settled = lab.output(0).locator("details")
    settled.get_by_text(re.compile(r"Thought for \d+ s")).wait_for()
    assert "Hmm. Hmm." in str(lab.outputs(0)[0]["data"]["text/html"])


def test_tool_calls_show_their_arguments(lab: LabPage, scripted: ScriptedServer) -> None:
    """A call's name and arguments show as they arrive, and as indented JSON at the end."""

    def call(arguments: str, name: str = "") -> dict[str, object]:
        function = {"name": name, "arguments": arguments}
        return {"tool_calls": [{"index": 0, "id": "c1", "function": function}]}

    deltas = [call('{"city": ', "get_weather"), call('"Paris"'), call(', "days": 3}')]
    script = scripted.add("tools", deltas, limit=1, finish="tool_calls")
    lab.open("tools", [f"{ASK}\nreply = session.stream('x', model='tools', settle=False)"])
    lab.start(0)
    view = lab.view(0)
    view.get_by_text("get_weather").wait_for()
    script.limit = 2
    view.get_by_text('{"city": "Paris"', exact=True).wait_for()
    script.limit = 3
    view.get_by_text('"days": 3').wait_for()
    lab.eventually(lambda: '{\n  "city": "Paris",\n  "days": 3\n}' in view.inner_text(), "pretty")
    view.get_by_text(re.compile("Asks for a tool")).wait_for()
    assert script.sent == 3


def test_citations_are_numbered_links(lab: LabPage, scripted: ScriptedServer) -> None:
    """Each cited source has a number in the text that leads to its line in the list of sources."""

    def cite(*ids: object) -> dict[str, object]:
        return {"content": [{"type": "reference", "reference_ids": [*ids]}]}

    web = "https://example.org/snow"
    deltas = ["Snow is white", cite("doc-a"), " and cold", cite(web, "doc-a"), "."]
    scripted.add("cites", deltas, hold=True)
    lab.open("cites", [f"{ASK}\nreply = session.stream('x', model='cites')"])
    lab.run(0)
    view = lab.view(0)
    view.get_by_text("Snow is white[1] and cold[2][1].").wait_for()
    assert view.locator("li").all_inner_texts() == ["doc-a", web]
    view.get_by_role("link", name="Source 1").last.click()
    assert lab.page.evaluate("document.activeElement.textContent") == "doc-a"
    view.get_by_role("button", name="Stop").click()
    lab.output(0).get_by_text("Stopped").wait_for()
    settled = lab.output(0).first
    assert "Snow is white[1] and cold[2][1]." in settled.inner_text()
    assert settled.locator("li a").get_attribute("href") == web
    mark = settled.get_by_role("link", name="[2]")
    assert mark.evaluate("link => document.querySelector(link.hash).innerText") == web


def test_end_shows_usage_and_speed(lab: LabPage, scripted: ScriptedServer) -> None:
    """The footer of a finished reply gives its tokens, seconds and speed."""
    scripted.add("usage", pieces("word " * 20, 5), rate=40)
    lab.open("usage", [f"{ASK}\nawait session.stream('x', model='usage', settle=False)"])
    lab.run(0)
    view = lab.view(0)
    view.get_by_text(
        re.compile(r"usage · 7 tokens in, 20 out · \d+\.\d s · \d+ tokens/s")
    ).wait_for()
    assert view.get_by_role("log").get_attribute("aria-busy") == "false"
    assert view.get_by_role("button", name="Stop").count() == 0


def test_copy_gives_the_markdown(lab: LabPage, scripted: ScriptedServer) -> None:
    """The Copy button puts the reply's Markdown source on the clipboard."""
    source = "# Title\n\n- *one*\n- two & three\n"
    scripted.add("copy", pieces(source, 4))
    lab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    lab.open("copy", [f"{ASK}\nawait session.stream('x', model='copy', settle=False)"])
    lab.run(0)
    lab.view(0).get_by_role("button", name="Copy").click()
    # A look at every refresh of the screen: it says so for a moment only.
    lab.page.wait_for_function("document.querySelector('.mnb-copy').textContent === 'Copied'")
    assert lab.page.evaluate("navigator.clipboard.readText()") == source


def test_error_shows_reason_and_retry(lab: LabPage, scripted: ScriptedServer) -> None:
    """A cut reply keeps its text and says why; Retry streams a new one into the same view."""
    scripted.add("cut", ["Half a sent"], finish=None)
    lab.open("cut", [f"{ASK}\nreply = session.stream('x', model='cut')"])
    lab.run(0)
    view = lab.view(0)
    alert = view.get_by_role("alert")
    alert.get_by_text("The reply was cut short").wait_for()
    assert "without a finish reason" in alert.inner_text()
    assert "Half a sent" in view.inner_text()
    scripted.add("cut", ["A whole sentence."])
    view.get_by_role("button", name="Retry").click()
    lab.output(0).get_by_text("A whole sentence.").wait_for()
    expect(lab.view(0)).to_have_count(0)
    assert "cut short" not in lab.output(0).first.inner_text()


def test_refusal_is_a_panel_without_the_key(lab: LabPage, scripted: ScriptedServer) -> None:
    """A refused request shows what, why and what to do, never the key, and no Retry."""
    scripted.add("refused", [], status=401, message="Unauthorized: key test-key is unknown")
    lab.open("refused", [f"{ASK}\nreply = session.stream('x', model='refused')"])
    lab.run(0)
    output = lab.output(0)
    output.get_by_text("The key was not accepted").wait_for()
    expect(lab.view(0)).to_have_count(0)
    assert "MISTRAL_API_KEY" in output.first.inner_text()
    assert "test-key" not in str(lab.outputs(0))


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_colours_follow_the_theme(lab: LabPage, scripted: ScriptedServer, theme: str) -> None:
    """Text stands out from the page in JupyterLab's light and dark themes, live and settled."""
    scripted.add("theme", ["Words `code` here\n\n"], hold=True)
    lab.open("theme", [f"{ASK}\nreply = session.stream('x', model='theme')"])
    lab.theme(theme)
    lab.start(0)
    text = lab.view(0).get_by_role("log").get_by_text("Words")
    text.wait_for()
    assert _contrast(lab, ".mnb-body p") > 7
    assert _contrast(lab, ".mnb-status") > 3
    lab.view(0).get_by_role("button", name="Stop").click()
    lab.output(0).get_by_text("Stopped").wait_for()
    assert _contrast(lab, ".jp-OutputArea-output p") > 7
    assert _contrast(lab, ".jp-OutputArea-output small") > 3
    lab.theme("JupyterLab Light")


def test_reduced_motion_is_respected(lab: LabPage, scripted: ScriptedServer) -> None:
    """Nothing moves for readers who asked for less motion."""
    scripted.add("still", ["Words\n\n"], hold=True)
    lab.page.emulate_media(reduced_motion="reduce")
    lab.open("still", [f"{ASK}\nreply = session.stream('x', model='still')"])
    lab.start(0)
    lab.view(0).get_by_text("Words").wait_for()
    running = "node => node.getAnimations({subtree: true}).length"
    assert lab.view(0).evaluate(running) == 0
    lab.page.emulate_media(reduced_motion="no-preference")
    assert lab.view(0).evaluate(running) == 1
    lab.view(0).get_by_role("button", name="Stop").click()


def test_images_load_only_after_a_click(lab: LabPage, scripted: ScriptedServer) -> None:
    """A remote image is asked for when the reader clicks it, and not before."""
    scripted.add("image", ["![a cat](https://example.org/cat.png)\n\n"], hold=True)
    lab.open("image", [f"{ASK}\nreply = session.stream('x', model='image')"])
    lab.start(0)
    image = lab.view(0).locator(".mnb-image")
    image.wait_for()
    assert lab.problems == []
    image.click()
    lab.eventually(lambda: lab.problems, "the image is asked for")
    assert "request left the machine: https://example.org/cat.png" in lab.problems
    lab.view(0).get_by_role("button", name="Stop").click()
    lab.output(0).get_by_text("Stopped").wait_for()
    assert lab.output(0).locator("img").count() == 0
    lab.problems.clear()


def _contrast(lab: LabPage, selector: str) -> float:
    """WCAG contrast of an element's text with the first opaque background behind it."""
    return float(
        lab.notebook.locator(selector).last.evaluate(
            """node => {
                const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
                const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
                    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
                const text = light(numbers(getComputedStyle(node).color));
                let back = [255, 255, 255];
                for (let each = node; each; each = each.parentElement) {
                    const found = numbers(getComputedStyle(each).backgroundColor);
                    if (found.length < 4 || found[3] > 0.9) { back = found; break; }
                }
                const [low, high] = [text, light(back)].sort((a, b) => a - b);
                return (high + 0.05) / (low + 0.05);
            }"""
        )
    )
