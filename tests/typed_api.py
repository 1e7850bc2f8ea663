"""The public API as a caller's type checker sees it: checked by mypy, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, assert_type

from pydantic import BaseModel

import mistral_nb as mnb

if TYPE_CHECKING:
    import pandas as pd


class Ticket(BaseModel):
    """A result schema."""

    topic: Literal["refund", "delivery"]
    urgent: bool


def connects() -> mnb.Session:
    """A session is made from arguments or none."""
    assert_type(mnb.connect(), mnb.Session)
    return mnb.connect("key", server_url="http://localhost:1", model="m", home="x", timeout=1.5)


def streams(session: mnb.Session) -> str:
    """A handle is iterated, waited for, stopped; the reply's parts have types."""
    handle = session.stream("hello", model="m", system="be brief", temperature=0.1)
    assert_type(handle, mnb.StreamHandle)
    for text in handle:
        assert_type(text, str)
    reply = handle.result(timeout=3)
    assert_type(reply, mnb.Reply)
    assert_type(reply.tool_calls, tuple[mnb.ToolCall, ...])
    assert_type(reply.usage, mnb.Usage | None)
    handle.stop()
    return reply.text


async def streams_async() -> mnb.Reply:
    """The same handle is awaited and iterated asynchronously."""
    handle = mnb.stream([{"role": "user", "content": "hello"}])
    async for text in handle:
        assert_type(text, str)
    return await handle


def labels(df: pd.DataFrame) -> pd.DataFrame:
    """A run is a handle for a table."""
    run = mnb.label(df, "Which topic? {text}", schema=Ticket, name="tickets")
    assert_type(run, mnb.Run)
    assert_type(run.name, str)
    assert_type(run.counts, dict[str, int])
    assert_type(run.cost, float | None)
    run.pause()
    run.unpause()
    assert_type(run.paused, bool)
    mnb.resume("tickets").stop()
    assert_type(mnb.runs(), "pd.DataFrame")
    return run.result()


def weighs_cost(df: pd.DataFrame) -> pd.DataFrame:
    """A dry run is an estimate; what follows on a run is a run."""
    estimate = mnb.label(df, "{text}", labels=["a", "b"], dry_run=True)
    assert_type(estimate, mnb.Estimate)
    assert_type(estimate.high, float | None)
    run = mnb.label(df, "{text}", labels=["a", "b"], max_cost=5, sample=20)
    assert_type(run.retry_failed(), mnb.Run)
    assert_type(run.resubmit(0, 1), mnb.Run)
    run.export("run.parquet", overwrite=True)
    return run.move_to_online().result()


def reads_documents(df: pd.DataFrame) -> pd.DataFrame:
    """Where documents are all that is asked there is no prompt."""
    assert_type(mnb.label(df, endpoint="ocr", documents="scan", dry_run=True).low, float | None)
    known = [{"text": "a", "label": "b"}]
    mnb.label(df, "{text}", labels=["b", "c"], examples=known, images="picture", flatten=False)
    return mnb.label(df, endpoint="ocr", documents="scan").result()


async def labels_async(df: pd.DataFrame) -> pd.DataFrame:
    """A run is awaited, too."""
    return await mnb.label(df, prompt="{text}", labels=["a", "b"], show=False)


async def number() -> int:
    """Stand for any coroutine."""
    return 1


def runs_coroutines() -> int:
    """`mnb.run` gives back what the coroutine returns."""
    assert_type(mnb.run(number(), timeout=2), int)
    return mnb.run(number())


def listens(session: mnb.Session) -> None:
    """Listeners are plain or asynchronous functions of an event."""
    subscription = session.events.on("chat:*", print, policy="drop_oldest", maxsize=10)
    session.events.off(subscription)


def catches() -> str:
    """Errors are caught by name, and a broken stream's partial reply may be None."""
    try:
        return streams(connects())
    except mnb.errors.StreamError as error:
        assert_type(error.partial, mnb.Reply | None)
        return error.partial.text if error.partial else ""


def get_weather(city: str) -> str:
    """Look at the weather."""
    return city


def converses(session: mnb.Session) -> str:
    """A turn is waited for, answered, branched and exported."""
    chat = session.conversation(tools=[get_weather, "web_search"], approve="ask", name="notes")
    assert_type(chat, mnb.agents.Conversation)
    with chat.attach():
        handle = chat.send("Weather in Paris?")
        assert_type(handle, mnb.agents.TurnHandle)
        for consent in handle.pending:
            assert_type(consent, mnb.agents.Consent)
            assert_type(consent.approve({"city": "Rome"}), bool)
    turn = handle.result(timeout=3)
    assert_type(turn, mnb.agents.Turn)
    assert_type(turn.entries, tuple[mnb.agents.Entry, ...])
    assert_type(chat.edit(turn, "Weather in Oslo?"), mnb.agents.TurnHandle)
    assert_type(chat.to_frame(), "pd.DataFrame")
    assert_type(mnb.conversations(), "pd.DataFrame")
    return turn.text


async def jobs(session: mnb.Session) -> None:
    """A queue takes jobs and handlers, and a worker is a context manager."""
    queue = session.queue("redis://localhost:6379/0", "mail", lease=10.0)
    assert_type(queue, mnb.jobs.Queue)
    assert_type(mnb.Queue(), mnb.jobs.Queue)

    @queue.handler("send")
    async def send(data: dict[str, str], context: mnb.jobs.JobContext) -> str:
        context.progress(0.5)
        raise mnb.jobs.RetryLater(3, data["to"])

    job = await queue.add("send", {"to": "Ada"}, job_id="1a", attempts=5, priority=2)
    assert_type(job, mnb.jobs.Job)
    with queue.work(concurrency=2, limiter=(10, 1.0), on_uncertain="retry") as worker:
        assert_type(worker.done, int)
        async for event in job.events():
            assert_type(event.at, float)
    assert_type(await job.refresh(), mnb.jobs.Snapshot)
    assert_type(await job.cancel(), bool)
    assert_type(queue.add_many([{"name": "send"}]).result(), list[mnb.jobs.Job])
    mnb.job_board(queue).settle()
