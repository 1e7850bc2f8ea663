"""Mistral at home in JupyterLab: replies stream live, DataFrames come back labelled.

    import mistral_nb as mnb

    reply = mnb.stream("Explain SSE in three lines")         # shows as it arrives
    run = mnb.label(df, "Which topic? {text}", labels=["billing", "delivery"])
    labelled = await run                                     # df with a `label` column

Without a key everything runs on a built-in simulator. Importing this costs little: the
SDK, pandas and widgets are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    import pandas as pd

    from mistral_nb import agents, errors, jobs, simulator, webhooks
    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.event_source import sse
    from mistral_nb.events import EventBus
    from mistral_nb.labelling import Estimate, ListRun, Run
    from mistral_nb.portal import allow_nested_run, run
    from mistral_nb.relay import Relay
    from mistral_nb.session import Session, connect
    from mistral_nb.streaming import Reply, StreamHandle, ToolCall, Usage
    from mistral_nb.widgets.chat_panel import ChatPanel
    from mistral_nb.widgets.job_board import job_board
    from mistral_nb.widgets.review import Review

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
    "Reply": "streaming",
    "Run": "labelling",
    "Session": "session",
    "StreamHandle": "streaming",
    "ToolCall": "streaming",
    "Usage": "streaming",
    "allow_nested_run": "portal",
    "connect": "session",
    "job_board": "widgets.job_board",
    "run": "portal",
    "sse": "event_source",
}


def stream(messages: Any, **options: Any) -> StreamHandle:
    """Ask the default session for a reply: see :meth:`mistral_nb.Session.stream`."""
    return _session().stream(messages, **options)


@overload
def label(df: Any, prompt: Any = ..., *, dry_run: Literal[True], **options: Any) -> Estimate: ...
@overload
def label(df: Any, prompt: Any = ..., *, dry_run: Literal[False] = ..., **options: Any) -> Run: ...
def label(df: Any, prompt: Any = None, **options: Any) -> Run | Estimate:
    """Label a table in the default session: see :meth:`mistral_nb.Session.label`."""
    made: Run | Estimate = _session().label(df, prompt, **options)
    return made


def label_files(
    source: str | PathLike[str], out: str | PathLike[str], prompt: Any, **options: Any
) -> Any:
    """Label files larger than memory: see :meth:`mistral_nb.Session.label_files`."""
    return _session().label_files(source, out, prompt, **options)


def process_batch(prompts: Iterable[Any], concurrency: int = 5, **options: Any) -> ListRun:
    """Ask many prompts at once: see :meth:`mistral_nb.Session.process_batch`."""
    return _session().process_batch(prompts, concurrency, **options)


def review(run: Run, column: str | None = None, **options: Any) -> Review:
    """Review a run's labels row by row: see :meth:`mistral_nb.Session.review`."""
    return _session().review(run, column, **options)


def Queue(url: str | None = None, name: str = "jobs", **options: Any) -> jobs.Queue:  # noqa: N802 - reads as what it gives
    """Open a queue of background jobs: see :meth:`mistral_nb.Session.queue`."""
    return _session().queue(url, name, **options)


def conversation(model: str | None = None, **options: Any) -> Conversation:
    """Begin a conversation, or take one up: see :meth:`mistral_nb.Session.conversation`."""
    return _session().conversation(model, **options)


def chat_panel(chat: Conversation | None = None, **options: Any) -> ChatPanel:
    """Open a panel to talk in: see :meth:`mistral_nb.Session.chat_panel`."""
    return _session().chat_panel(chat, **options)


def conversations() -> pd.DataFrame:
    """Return all conversations: see :meth:`mistral_nb.Session.conversations`."""
    return _session().conversations()


def WebhookNotifier(secret: Any = None, **options: Any) -> webhooks.WebhookNotifier:  # noqa: N802 - reads as what it gives
    """Open a sender of signed webhooks: see :meth:`mistral_nb.Session.webhooks`."""
    return _session().webhooks(secret, **options)


def webhook_receiver(secret: Any, port: int = 0, **options: Any) -> webhooks.WebhookReceiver:
    """Receive webhooks on this machine: see :class:`mistral_nb.webhooks.WebhookReceiver`."""
    from mistral_nb.webhooks import WebhookReceiver

    return WebhookReceiver(secret, port, **options)


def serve(**options: Any) -> Relay:
    """Start a relay of chats and jobs: see :meth:`mistral_nb.Session.serve`."""
    return _session().serve(**options)


def resume(name: str, df: pd.DataFrame | None = None, **options: Any) -> Run:
    """Go on with a labelling run: see :meth:`mistral_nb.Session.resume`."""
    return _session().resume(name, df, **options)


def forget(name: str) -> None:
    """Delete what is kept about a labelling run: see :meth:`mistral_nb.Session.forget`."""
    _session().forget(name)


def runs() -> pd.DataFrame:
    """Return all labelling runs: see :meth:`mistral_nb.Session.runs`."""
    return _session().runs()


def _session() -> Session:
    from mistral_nb.session import default_session

    return default_session()


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics: ``%load_ext mistral_nb``, then ``%%mistral`` and ``%mistral``."""
    from mistral_nb.magics import register

    register(ipython)


def __getattr__(name: str) -> Any:
    if name in {"agents", "errors", "jobs", "simulator", "webhooks"}:
        return import_module(f"mistral_nb.{name}")
    if name in _HOMES:
        return getattr(import_module(f"mistral_nb.{_HOMES[name]}"), name)
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
