"""The page follows a growing reply, and never fights its reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.lab import ASK, pieces

if TYPE_CHECKING:
    from tests.browser.lab import LabPage
    from tests.browser.scripted import Script, ScriptedServer

LINES = [f"Line {number} of a long reply.\n\n" for number in range(400)]
SCROLLER = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer"
SCROLLED = f"document.querySelector('{SCROLLER}').scrollTop"


def begin(lab: LabPage, scripted: ScriptedServer, name: str) -> Script:
    """Start a reply that can outgrow the screen, and put its end in sight."""
    script = scripted.add(name, LINES, rate=25, limit=5, hold=True)
    lab.open(name, [f"{ASK}\nreply = session.stream('x', model={name!r})"])
    lab.start(0)
    lab.view(0).get_by_text("Line 3 of").wait_for()
    return script


def grow(lab: LabPage, script: Script, lines: int) -> None:
    """Let the reply go on, and wait until the page shows so many of its lines."""
    script.limit = lines
    lab.view(0).get_by_text(f"Line {lines - 2} of").wait_for()


def resting_place(lab: LabPage) -> float:
    """Wait until the page scrolls no more; return how far down it is."""
    places = [-1.0, -2.0]

    def rests() -> bool:
        lab.page.wait_for_timeout(200)
        places.append(float(lab.page.evaluate(SCROLLED)))
        return places[-1] == places[-2] == places[-3]

    lab.eventually(rests, "the page comes to rest")
    return places[-1]


def end_in_sight(lab: LabPage) -> bool:
    """Return True if the view's last line is on screen."""
    return bool(
        lab.view(0)
        .locator(".mnb-bar")
        .evaluate(
            """(bar, scroller) => {
                const [end, page] = [bar, document.querySelector(scroller)].map((each) =>
                    each.getBoundingClientRect());
                return end.top >= page.top && end.bottom <= page.bottom + 1;
            }""",
            SCROLLER,
        )
    )


def test_the_end_stays_in_sight(lab: LabPage, scripted: ScriptedServer) -> None:
    """While the reply outgrows the screen, the page follows its end."""
    script = begin(lab, scripted, "follow")
    grow(lab, script, 60)
    lab.eventually(lambda: lab.page.evaluate(SCROLLED) > 0, "the page follows")
    lab.eventually(lambda: end_in_sight(lab), "the end is in sight")
    lab.view(0).get_by_role("button", name="Stop").click()
    lab.output(0).get_by_text("Stopped").wait_for()
    lab.output(0).get_by_text("Stopped").hover()


def test_a_reader_who_scrolls_up_is_left_alone(lab: LabPage, scripted: ScriptedServer) -> None:
    """After a turn of the wheel the page stays where it is, until the end is in sight again."""
    script = begin(lab, scripted, "wheel")
    grow(lab, script, 60)
    lab.eventually(lambda: lab.page.evaluate(SCROLLED) > 600, "it has outgrown the screen")
    resting_place(lab)
    lab.view(0).hover()
    lab.page.mouse.wheel(0, -600)
    place = resting_place(lab)
    grow(lab, script, 90)
    assert lab.page.evaluate(SCROLLED) == place
    assert not end_in_sight(lab)
    while not end_in_sight(lab):  # in steps: a notebook scrolls past its last cell
        lab.page.mouse.wheel(0, 300)
        resting_place(lab)
    grow(lab, script, 150)
    lab.eventually(lambda: lab.page.evaluate(SCROLLED) > place + 900, "it is followed again")
    lab.eventually(lambda: end_in_sight(lab), "the end is in sight")
    lab.view(0).get_by_role("button", name="Stop").click()


def test_who_types_elsewhere_is_left_alone(lab: LabPage, scripted: ScriptedServer) -> None:
    """Typing in another cell is not interrupted by a page that moves."""
    script = begin(lab, scripted, "typing")
    lab.cell(1).locator(".cm-content").click()
    lab.page.keyboard.type("a = 1")
    grow(lab, script, 90)
    assert not end_in_sight(lab)
    assert lab.cell(1).locator(".cm-content").inner_text() == "a = 1"
    lab.view(0).get_by_role("button", name="Stop").click()


def test_a_selection_outlives_the_frames(lab: LabPage, scripted: ScriptedServer) -> None:
    """Text that a reader marks in the growing block stays marked while it grows."""
    scripted.add("select", pieces("Many words in one paragraph. " * 200, 9), rate=40, hold=True)
    lab.open("select", [f"{ASK}\nreply = session.stream('x', model='select')"])
    lab.start(0)
    paragraph = lab.view(0).locator("p").first
    lab.eventually(lambda: len(paragraph.inner_text()) > 60, "some text")
    paragraph.evaluate("p => getSelection().setBaseAndExtent(p.firstChild, 5, p.firstChild, 10)")
    first = len(paragraph.inner_text())
    lab.eventually(lambda: len(paragraph.inner_text()) > first + 300, "more text")
    assert lab.page.evaluate("() => getSelection().toString()") == "words"
    lab.view(0).get_by_role("button", name="Stop").click()
