"""Mistral at home in JupyterLab: replies stream live, DataFrames come back labelled.

    import mistral_nb as mnb

    reply = mnb.stream("Explain SSE in three lines")         # shows as it arrives
    run = mnb.label(df, "Which topic? {text}", labels=["billing", "delivery"])
    labelled = await run                                     # df with a `label` column

Without a key everything runs on a built-in simulator. `help(mnb.NAME)`, or Shift+Tab in a
notebook, tells each name's arguments, what it gives and what it raises.

Begin
    connect           make a session: key, server, model, folder
    Session           what that gives; all verbs below are its methods, too
    run               run a coroutine from a cell and get its result
    allow_nested_run  let asyncio.run(...) work in a cell
Ask
    stream            a reply, shown as it arrives; gives a StreamHandle, then a Reply
    process_batch     many prompts at once; results in order
    StreamHandle  Reply  ToolCall  Usage
Label
    label             every row of a table; gives a Run, then the table with new columns
    label_files       files larger than memory
    resume runs forget    go on with a run; list them; delete one
    review            accept, correct or skip labels, row by row
    Run  Estimate
Talk
    conversation      a chat with memory, tools and consent; conversations lists them
    chat_panel        a panel to talk in
    agents            agents on the server, tools, MCP servers
Work in the background
    Queue             jobs that outlive the kernel; job_board shows them, jobs has more
    serve             chats and jobs over HTTP; sse reads its streams, or anyone's
    WebhookNotifier   sends signed webhooks; webhook_receiver takes them; webhooks verifies
Look inside
    EventBus          everything that happens, as records; session.events is one
    errors            every exception, as a tree
    simulator         the local server that speaks Mistral's API, with faults on demand

Importing this costs little: the SDK, pandas and widgets are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mistral_nb import agents, errors, jobs, simulator, webhooks
    from mistral_nb.event_source import sse
    from mistral_nb.events import EventBus
    from mistral_nb.labelling import Estimate, Run
    from mistral_nb.portal import allow_nested_run, run
    from mistral_nb.session import Session, connect
    from mistral_nb.streaming import Reply, StreamHandle, ToolCall, Usage
    from mistral_nb.verbs import (
        Queue,
        WebhookNotifier,
        chat_panel,
        conversation,
        conversations,
        forget,
        label,
        label_files,
        process_batch,
        resume,
        review,
        runs,
        serve,
        stream,
        webhook_receiver,
    )
    from mistral_nb.widgets.job_board import job_board

__version__ = "0.1.0"

__all__ = [
    "Estimate",
    "EventBus",
    "Queue",
    "Reply",
    "Run",
    "Session",
    "StreamHandle",
    "ToolCall",
    "Usage",
    "WebhookNotifier",
    "agents",
    "allow_nested_run",
    "chat_panel",
    "connect",
    "conversation",
    "conversations",
    "errors",
    "forget",
    "job_board",
    "jobs",
    "label",
    "label_files",
    "process_batch",
    "resume",
    "review",
    "run",
    "runs",
    "serve",
    "simulator",
    "sse",
    "stream",
    "webhook_receiver",
    "webhooks",
]

_HOMES = {
    "Estimate": "labelling",
    "EventBus": "events",
    "Queue": "verbs",
    "Reply": "streaming",
    "Run": "labelling",
    "Session": "session",
    "StreamHandle": "streaming",
    "ToolCall": "streaming",
    "Usage": "streaming",
    "WebhookNotifier": "verbs",
    "allow_nested_run": "portal",
    "chat_panel": "verbs",
    "connect": "session",
    "conversation": "verbs",
    "conversations": "verbs",
    "forget": "verbs",
    "job_board": "widgets.job_board",
    "label": "verbs",
    "label_files": "verbs",
    "process_batch": "verbs",
    "resume": "verbs",
    "review": "verbs",
    "run": "portal",
    "runs": "verbs",
    "serve": "verbs",
    "sse": "event_source",
    "stream": "verbs",
    "webhook_receiver": "verbs",
}


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics: ``%load_ext mistral_nb``, then ``%%mistral`` and ``%mistral``."""
    from mistral_nb.magics import register

    register(ipython)


def __getattr__(name: str) -> Any:
    if name in {"agents", "errors", "jobs", "simulator", "webhooks"}:
        return import_module(f"mistral_nb.{name}")
    if name in _HOMES:
        found = getattr(import_module(f"mistral_nb.{_HOMES[name]}"), name)
        globals()[name] = found  # asked for once only
        return found
    raise AttributeError(f"module 'mistral_nb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def _register_accessors() -> None:
    from mistral_nb.accessor import watch

    watch()


def _present_errors() -> None:
    from mistral_nb.errors import MistralNbError

    def present(error: MistralNbError) -> list[str]:
        from mistral_nb.widgets.error_panel import present

        return present(error)

    MistralNbError.presenter = present


_register_accessors()
_present_errors()
