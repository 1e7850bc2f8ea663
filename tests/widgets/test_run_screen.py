"""Laws of what a run's view is told: the pace, frames of news, jobs in the order of need."""

from __future__ import annotations

import asyncio
import threading
import time
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

from mistral_nb.labelling.batch import STILL
from mistral_nb.labelling.ledger import Shard
from mistral_nb.labelling.progress import Details, Example, Failure
from mistral_nb.replies import Usage
from mistral_nb.widgets.run_screen import JOBS, Pace, RunScreen, clock
from mistral_nb.widgets.run_summary import cost_words, headline, summary
from tests.xss_corpus import VECTORS


def screen(**values: Any) -> RunScreen:
    """A screen of a run in some state: only what a screen asks of it."""
    counts = {"total": 100, "done": 40, "failed": 5, "running": 10, "waiting": 45, "reused": 4}
    run: Any = SimpleNamespace(
        **{
            "name": "x",
            "model": "m",
            "mode": "batch",
            "status": "running",
            "paused": False,
            "cancelling": False,
            "message": "",
            "counts": counts,
            **values,
        }
    )
    return RunScreen(run)


def details(**values: Any) -> Details:
    """Details with some parts given."""
    usage = Usage(900, 100, 1000, 0)
    return Details(**{"created": 0.0, "usage": usage, "cost": 0.5, "projected": 1.0, **values})


def job(number: int, **values: Any) -> Shard:
    """A batch job that moved a moment ago."""
    now = time.time()
    usual = {"state": "submitted", "job_status": "RUNNING", "submitted": now, "changed": now}
    return Shard(number, 0, 10, 100, "", **{**usual, **values})


def test_the_pace_is_that_of_a_window() -> None:
    """Rows a second are those of the last while, however the run began."""
    pace = Pace()
    assert pace.rate is None
    for second in range(40):
        pace.note(second, 0)
    assert pace.rate is None
    for second in range(40, 80):
        pace.note(second, 5 * (second - 40))
    assert pace.rate == pytest.approx(5, rel=0.01)
    pace.forget()
    assert pace.rate is None


def test_the_window_grows_with_the_run() -> None:
    """Jumps far apart, as batch jobs make them, still give a pace."""
    pace = Pace()
    for second in range(0, 3600, 10):
        pace.note(second, 100 * (second // 300))
    assert pace.rate == pytest.approx(1 / 3, rel=0.2)


def test_a_frame_holds_only_news() -> None:
    """The first frame is all, the next only what changed, and none comes without news."""
    shown = screen()
    first = shown.frame()
    assert first["n"] == 1
    assert first["c"] == [100, 36, 4, 5, 10, 45]
    assert shown.frame() is None
    shown.run.counts = {**shown.run.counts, "done": 41, "waiting": 44}
    second = shown.frame()
    assert set(second) == {"n", "y", "c"}
    assert second["n"] == 2
    whole = shown.whole()
    assert (whole["n"], whole["w"]) == (2, 1)
    assert whole["c"] == second["c"]
    assert shown.frame() is None


def test_a_silent_run_still_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without news a frame comes every few seconds, so that a page knows the kernel lives."""
    shown = screen()
    shown.frame()
    now = time.monotonic()
    monkeypatch.setattr("mistral_nb.widgets.run_screen.time.monotonic", lambda: now + 6)
    assert set(shown.frame()) == {"n", "y"}


def test_wishes_stand_before_the_status() -> None:
    """Paused and cancelling are told while the run is still running."""
    assert screen().status() == "running"
    assert screen(paused=True).status() == "paused"
    assert screen(paused=True, cancelling=True).status() == "cancelling"
    assert screen(status="done").status() == "done"


def test_a_slow_ledger_keeps_no_result_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look under way at the end is not waited for long; the last word comes when it can."""
    monkeypatch.setattr("mistral_nb.widgets.run_screen.LAST_LOOK", 0.05)
    readable = threading.Event()
    looks = iter([details(cost=0.5), details(cost=0.9)])

    def read() -> Details:
        readable.wait(30)
        return next(looks)

    async def end() -> float | None:
        shown = screen(details=read)
        shown.update()
        assert not await asyncio.wait_for(shown.last_update(), 20)
        readable.set()
        await shown.settled()
        return shown.details and shown.details.cost

    assert asyncio.run(end()) == 0.9


def test_jobs_that_need_a_look_come_first() -> None:
    """Stalled jobs lead, then those at work, and ended ones last; the rest is counted."""
    shown = screen()
    old = time.time() - STILL - 1
    ended = [job(number, state="done", job_status="SUCCESS") for number in range(20)]
    jobs = (*ended, job(20), job(21, changed=old), job(22, state="written", submitted=None))
    shown.details = details(jobs=jobs)
    frame = shown.frame()
    assert [row[0] for row in frame["j"]][:3] == [21, 20, 22]
    assert [row[8] for row in frame["j"]][:2] == [1, 0]
    assert len(frame["j"]) == JOBS
    assert frame["k"] == [23, 20, 1]
    shown.run.status = "detached"  # nobody looks any more: nothing is known to stall
    assert shown.frame()["k"] == [23, 20, 0]


@pytest.mark.parametrize(
    ("cost", "projected", "status", "words"),
    [
        (None, None, "running", "unknown"),
        (0.5, 1.0, "running", "$0.5000 so far, about $1.00 in all"),
        (0.5, None, "running", "$0.5000 so far"),
        (0.5, 0.5, "running", "$0.5000 so far"),
    ],
)
def test_cost_in_words(
    cost: float | None, projected: float | None, status: str, words: str
) -> None:
    """What was paid and what is to come are told apart; unknown is never a number."""
    shown = screen(status=status)
    shown.details = details(cost=cost, projected=projected)
    assert words in cost_words(shown)
    assert ("$" in cost_words(shown)) == (cost is not None)


def test_the_headline_says_where_the_run_is() -> None:
    """Going on, paused, detached and ended read differently."""
    assert "40 of 100 rows" in headline(screen())
    assert "paused" in headline(screen(paused=True))
    assert "mnb.resume('x')" in headline(screen(status="detached"))
    assert headline(screen(status="done", message="All is well.")) == "x: All is well."


class Strange(HTMLParser):
    """Collects what our own summaries never hold."""

    TAGS = frozenset({"div", "p", "b", "span", "table", "thead", "tbody", "tr", "th", "td"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        odd = {name for name, _ in attrs} - {"style"}
        self.found += [tag] * (tag not in self.TAGS) + sorted(odd)
        self.found += [value for _, value in attrs if value and "url" in value]


def strange(html: str) -> list[str]:
    parser = Strange()
    parser.feed(html)
    parser.close()
    return parser.found


def test_a_summary_is_safe_whatever_it_quotes() -> None:
    """No vector in names, messages, errors or questions leaves anything but text."""
    for words in VECTORS.values():
        shown = screen(name=words, message=words, status="failed")
        example = Example(1, words, words, words)
        shown.details = details(failures=(Failure(3, 400, (example,)),), others=2)
        found = summary(shown)
        assert strange(found["text/html"]) == []
        assert "$" not in found["text/html"].replace("<span>$</span>", "")
        assert set(found) == {"text/html", "text/plain"}


def test_clock() -> None:
    """Times read as on a clock."""
    assert [clock(0), clock(61.9), clock(3600), clock(90061)] == [
        "0:00",
        "1:01",
        "1:00:00",
        "25:01:01",
    ]
