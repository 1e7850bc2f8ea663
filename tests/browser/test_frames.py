"""The frame protocol in a real page: nothing is lost, whatever a view missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import ASK, pieces

if TYPE_CHECKING:
    from tests.browser.lab import LabPage
    from tests.browser.scripted import ScriptedServer

COUNT = " ".join(f"word{number}" for number in range(400))
CONDITION = 'frame.get("w") or "e" in frame or frame["n"] % 3'
LOSE_SOME = f"""
from mistral_nb.widgets.channel import Channel
send = Channel.send
def lossy(self, frame):
    if {CONDITION}:
        send(self, frame)
Channel.send = lossy
"""


def test_lost_frames_are_made_good(lab: LabPage, scripted: ScriptedServer) -> None:
    """A view that sees a gap in the numbers asks for the whole and ends complete."""
    scripted.add("lossy", pieces(COUNT, 7), rate=300)
    lab.open(
        "lossy",
        [
            f"{ASK}{LOSE_SOME}\nawait session.stream('x', model='lossy', settle=False)",
            "Channel.send = send",
        ],
    )
    lab.run(0)
    lab.eventually(lambda: lab.view(0).get_by_role("log").inner_text() == COUNT, "all words")
    lab.run(1)


def test_a_lost_end_is_made_good(lab: LabPage, scripted: ScriptedServer) -> None:
    """A view that hears nothing more asks, and learns that the reply has ended."""
    scripted.add("endless", ["The whole ", "reply."], rate=0.5)
    lossy = LOSE_SOME.replace(CONDITION, '"e" not in frame')
    lab.open(
        "endless",
        [
            f"{ASK}{lossy}\nawait session.stream('x', model='endless', settle=False)",
            "Channel.send = send",
        ],
    )
    lab.run(0)
    lab.view(0).get_by_role("button", name="Stop").wait_for()
    lab.run(1)
    lab.view(0).get_by_text("tokens in").wait_for()
    assert lab.view(0).get_by_role("log").inner_text() == "The whole reply."


def test_a_flood_loses_nothing(lab: LabPage, scripted: ScriptedServer) -> None:
    """20,000 chunks at once arrive complete and in order."""
    words = " ".join(f"word{number}" for number in range(10_000))
    chunks = [f"{piece}" for word in words.split(" ") for piece in (word[:4], word[4:] + " ")]
    assert len(chunks) == 20_000
    scripted.add("flood", chunks)
    lab.open("flood", [f"{ASK}\nawait session.stream('x', model='flood', settle=False)"])
    lab.run(0)
    lab.eventually(lambda: lab.view(0).get_by_role("log").inner_text() == words, "all words")


def test_a_second_view_shows_the_same(lab: LabPage, scripted: ScriptedServer) -> None:
    """A view displayed late has everything; both settle together."""
    scripted.add("second", pieces(COUNT, 7), limit=150, hold=True)
    show = "mistral_nb.widgets.show(session.stream('x', model='second', show=False))"
    lab.open("second", [f"{ASK}\nimport mistral_nb.widgets\nview = {show}", "view"])
    lab.run(0)
    lab.view(0).get_by_text("word5").wait_for()
    lab.run(1)
    lab.view(1).get_by_text("word0 word1").wait_for()
    logs = [lab.view(number).get_by_role("log") for number in (0, 1)]
    same = "texts => texts[0] === texts[1]"
    lab.eventually(
        lambda: lab.page.evaluate(same, [log.inner_text() for log in logs]), "the same text"
    )
    lab.view(1).get_by_role("button", name="Stop").click()
    for number in (0, 1):
        lab.output(number).get_by_text("Stopped").wait_for()
        assert set(lab.outputs(number)[0]["data"]) == {"text/html", "text/plain"}


@pytest.mark.smoke("page reload")
def test_a_reload_in_mid_stream(lab: LabPage, scripted: ScriptedServer) -> None:
    """A page loaded again while the reply arrives shows all of it, and can stop it."""
    script = scripted.add("reload", pieces(COUNT, 7), rate=60, hold=True)
    lab.open("reload", [f"{ASK}\nreply = session.stream('x', model='reload')", "reply.text"])
    lab.run(0)
    lab.view(0).get_by_text("word5").wait_for()
    lab.save()
    lab.visit(lab.path)
    log = lab.view(0).get_by_role("log")
    lab.eventually(lambda: log.inner_text() == COUNT, "all words")
    lab.view(0).get_by_role("button", name="Stop").click()
    lab.eventually(lambda: script.closed_at, "the server sees the connection close")
    lab.view(0).get_by_text("Stopped").wait_for()
    assert log.inner_text() == COUNT


def test_a_hidden_page_catches_up(lab: LabPage, scripted: ScriptedServer) -> None:
    """A page in the background, where nothing is drawn, is complete when it comes back."""
    scripted.add("hidden", pieces(COUNT, 7), rate=300)
    lab.open("hidden", [f"{ASK}\nawait session.stream('x', model='hidden', settle=False)"])
    lab.start(0)
    lab.view(0).get_by_text("word5").wait_for()
    other = lab.page.context.new_page()
    other.bring_to_front()
    lab.wait_done(0)
    lab.page.bring_to_front()
    other.close()
    lab.eventually(lambda: lab.view(0).get_by_role("log").inner_text() == COUNT, "all words")


def test_a_notebook_opened_again_in_mid_stream(lab: LabPage, scripted: ScriptedServer) -> None:
    """A notebook closed and opened again while its kernel runs shows all of the reply, and stops."""
    script = scripted.add("again", pieces(COUNT, 7), rate=60, hold=True)
    lab.open("again", [f"{ASK}\nreply = session.stream('x', model='again')"])
    lab.run(0)
    lab.view(0).get_by_text("word5").wait_for()
    lab.save()
    lab.reopen(kernel=True)
    log = lab.view(0).get_by_role("log")
    lab.eventually(lambda: log.inner_text() == COUNT, "all words")
    lab.view(0).get_by_role("button", name="Stop").click()
    lab.eventually(lambda: script.closed_at, "the server sees the connection close")
    lab.output(0).get_by_text("Stopped").wait_for()


def test_bytes_grow_with_the_text(lab: LabPage, scripted: ScriptedServer) -> None:
    """Every byte to the browser counted, three times the text costs three times as much."""
    # One notebook on a kernel of its own: each one more that was opened on it gets a copy.
    texts = [" ".join(f"word{number}" for number in range(words)) for words in (1_500, 4_500)]
    for number, text in enumerate(texts):
        scripted.add(f"bytes-{number}", pieces(text, 40), rate=300)
    cell = f"{ASK}\nawait session.stream('x', model='bytes-{{}}')"
    lab.open("bytes", [cell.format(0), cell.format(1)], kernel="bytes")
    sizes = []
    for number in range(2):
        with lab.counting() as received:
            lab.run(number)
            lab.output(number).get_by_text("tokens in").wait_for()
            sizes.append(received())
    assert (sizes[1] - sizes[0]) / (len(texts[1]) - len(texts[0])) < 6
