"""Hostile replies in real Chromium: no script runs, no request goes out, nothing is restyled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbconvert import HTMLExporter

from mistral_nb.errors import StreamMalformed
from mistral_nb.events import ChatChunk, ChatComplete, ChatError
from mistral_nb.streaming import Reply
from mistral_nb.widgets.channel import module
from mistral_nb.widgets.frames import Screen
from mistral_nb.widgets.settle import bundle
from tests.browser.lab import ASK, STEP, is_local
from tests.xss_corpus import VECTORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.browser.lab import LabPage
    from tests.browser.scripted import ScriptedServer

GROUPS = [dict([*VECTORS.items()][start : start + 30]) for start in range(0, len(VECTORS), 30)]

FIND_HARM = """roots => {
    const tags = "script,style,link,meta,base,iframe,frame,object,embed,form,button,select," +
        "textarea,video,audio,source,img,image,svg,canvas,template,portal,dialog,maction";
    const found = window.pwned ? ["a script ran"] : [];
    for (const root of roots) for (const node of root.querySelectorAll("*")) {
        const html = node.outerHTML.slice(0, 200);
        if (node.matches(tags) && !node.closest("mjx-container")) found.push(html);
        if (node.matches("input:not([type=checkbox])")) found.push(html);
        for (const {name, value} of node.attributes) {
            if (/^on|srcdoc|formaction|^name$|background/i.test(name)) found.push(html);
            if (name === "id" && !/^mnb-[a-z0-9]+-\\d+$/.test(value)) found.push(html);
            if (/href|src|action/i.test(name) && !/^(https?:|mailto:|#mnb-)/i.test(value))
                found.push(html);
            if (name === "style" && !node.closest("mjx-container") && /url\\s*\\(|expression|position\\s*:/i.test(value)) found.push(html);
        }
    }
    return found;
}"""
"""Elements below the roots that could run, load, submit or cover something."""

MOUNT = """async esm => {
    window.requestAnimationFrame = queueMicrotask; // every state is built, none waited for
    const module = await import(URL.createObjectURL(new Blob([esm], {type: "text/javascript"})));
    window.show = async frames => {
        const widget = await module.default();
        let take;
        const model = {on: (_, listener) => { take = listener; }, send: () => {}};
        widget.initialize({model});
        const el = document.body.appendChild(document.createElement("div"));
        const close = widget.render({model, el});
        for (const frame of frames) {
            take(frame);
            await null;
        }
        const areas = [...el.querySelectorAll(".mnb-body,.mnb-calls,.mnb-refs,.mnb-error,.mnb-status")];
        const harm = window.findHarm(areas);
        close();
        el.remove();
        return harm;
    };
}"""
"""Runs the view's own module in a page, without JupyterLab: quick enough for every vector."""


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page that records what it asks for and what goes wrong."""
    context = browser.new_context()
    context.set_default_timeout(1000 * STEP)
    page = context.new_page()
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.problems.append(request.url))
    context.route(lambda url: not is_local(url), lambda route: route.abort())
    yield page
    context.close()


def frames_of(vector: str, size: int) -> list[dict[str, Any]]:
    """Return the frames of a reply that is hostile in every part, cut into small chunks."""
    screen = Screen(vector)
    frames = [screen.whole()]

    def take(kind: str, content: str, **fields: Any) -> None:
        screen.take([ChatChunk("r", content, 0, kind, **fields)])
        if (frame := screen.frame()) is not None:
            frames.append(frame)

    step = max(size, len(vector) // 500)  # the longest ones only repeat themselves
    for start in range(0, len(vector), step):
        take("thinking", vector[start : start + step])
        take("text", vector[start : start + step])
    take("tool", vector, tool_name=vector)
    take("reference", vector)
    partial = Reply(text=vector, model=vector)
    screen.take([ChatError("r", StreamMalformed(vector, partial=partial), partial)])
    frames.append(screen.frame() or {})
    return frames


@pytest.mark.parametrize("size", [1, 10_000])
def test_every_vector_in_the_view(page: Page, size: int) -> None:
    """As text, thinking, tool call, citation and error, in chunks of any size, all is inert."""
    page.goto("about:blank")
    page.evaluate(f"() => {{ window.findHarm = {FIND_HARM}; }}")
    page.evaluate(MOUNT, module("stream_view"))
    page.problems.clear()
    for name, vector in VECTORS.items():
        assert page.evaluate("frames => window.show(frames)", frames_of(vector, size)) == [], name
    assert page.problems == []


@pytest.mark.parametrize("number", range(len(GROUPS)))
def test_vectors_live_and_settled_in_jupyterlab(
    lab: LabPage, scripted: ScriptedServer, number: int
) -> None:
    """In a trusted JupyterLab the live view and the settled output of hostile replies are inert."""
    together = "\n\n".join(GROUPS[number].values())
    together = together.encode("utf-8", "replace").decode()  # JSON holds no half characters
    scripted.add("hostile", [together[at : at + 97] for at in range(0, len(together), 97)])
    settled = (
        "from mistral_nb.widgets.settle import bundle\nfrom tests.browser.test_safety import *\n"
    )
    settled += f"for each in GROUPS[{number}].values(): display(static(each), raw=True)"
    lab.open(
        "hostile", [f"{ASK}\nsession.stream('x', model='hostile', settle=False).result()", settled]
    )
    lab.run(0)
    lab.run(1)
    lab.view(0).get_by_text("tokens in").wait_for()
    lab.page.wait_for_timeout(300)
    roots = ".mnb-body, .jp-RenderedHTML"
    harm = lab.page.evaluate(f"roots => ({FIND_HARM})(document.querySelectorAll(roots))", roots)
    assert harm == []
    assert lab.page.evaluate("() => window.pwned") is None


def static(vector: str) -> dict[str, str]:
    """Return the settled output of a reply that is hostile in every part."""
    screen = Screen(vector)
    reply = Reply(text=vector, thinking=vector, model=vector, finish_reason=vector)
    kinds = ("thinking", "text", "tool", "reference")
    screen.take([ChatChunk("r", vector, 0, kind, tool_name=vector) for kind in kinds])
    screen.take([ChatComplete("r", vector, None, vector, reply)])
    screen.frame()
    return bundle(screen, vector)


def test_every_vector_through_nbconvert(page: Page) -> None:
    """The HTML page that nbconvert makes of settled outputs is inert."""
    outputs = [nbformat.v4.new_output("display_data", static(each)) for each in VECTORS.values()]
    pages = []
    for cell in (nbformat.v4.new_code_cell(""), nbformat.v4.new_code_cell("", outputs=outputs)):
        notebook = nbformat.v4.new_notebook(cells=[cell])
        pages.append(HTMLExporter().from_notebook_node(notebook)[0])
    empty, full = pages
    page.set_content(full)
    page.wait_for_timeout(500)
    # Its own scripts, which cannot be loaded here, are named in every page of nbconvert's.
    assert [each for each in page.problems if each not in empty] == []
    assert (
        page.evaluate(f"() => ({FIND_HARM})(document.querySelectorAll('.jp-RenderedHTML'))") == []
    )
    assert page.locator(".jp-RenderedHTML").count() == len(VECTORS)
