"""What a session opens besides streams and runs: queues, conversations, webhooks, a relay."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.agents.opening import Conversations
    from mistral_nb.agents.registry import Agents
    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.jobs import Queue
    from mistral_nb.jobs.crew import QueueCrews
    from mistral_nb.relay import Relay
    from mistral_nb.webhooks import WebhookNotifier
    from mistral_nb.widgets.chat_panel import ChatPanel

__all__ = ["Services"]


class Services:
    """The part of a :class:`mistral_nb.Session` that opens services, each at its first use.

    Args:
        connection: The server they ask.
        events: Where they tell what happens.

    Attributes:
        connection: As given.
        events: As given.
    """

    def __init__(self, connection: Connection, events: EventBus) -> None:
        self.connection = connection
        self.events = events
        self._queues: dict[tuple[Any, ...], Queue] = {}
        self._notifier: WebhookNotifier | None = None
        self._conversations: Conversations | None = None
        self._lock = threading.Lock()

    def queue(self, url: str | None = None, name: str = "jobs", **options: Any) -> Queue:
        """Return a queue of background jobs; the same arguments give the same queue.

        Args:
            url: None for a file in the home folder, or ``"redis://host:6379/0"``.
            name: Name of the queue.
            **options: ``lease``: see :class:`mistral_nb.jobs.Queue`.

        Returns:
            The queue: ``queue.add(...)``, ``queue.work()``.
        """
        from mistral_nb import webhooks  # noqa: F401 - a queue's callbacks are its jobs
        from mistral_nb.jobs import Queue

        key = (url, name, *sorted(options.items()))
        with self._lock:
            found = self._queues.get(key)
            if found is None or found.closed:
                found = Queue(url, name, connection=self.connection, bus=self.events, **options)
                self._queues[key] = found
            return found

    def _crews(self, queue: Queue | None) -> QueueCrews:
        """Return those who work on a labelling run's queue: a given one, or the home's."""
        from mistral_nb.jobs.crew import QueueCrews

        if queue is not None and not hasattr(queue, "engine"):
            raise InputError(f"queue must be an mnb.Queue(...), not {type(queue).__name__}.")
        return QueueCrews(lambda: queue or self.queue(), named=queue is not None)

    def conversation(self, model: str | None = None, **options: Any) -> Conversation:
        """Begin a conversation, or take one up by its name.

        It is kept in the home folder, turn by turn. The same name gives the same
        conversation, in another kernel as well: pass its tools again there.

        Args:
            model: Model to ask; else the session's. Or pass ``agent=``.
            **options: ``agent`` (an agent or its id), ``agent_version``, ``instructions``,
                ``tools`` (functions and names of connectors), ``name``, ``approve``
                (``"ask"`` a person at a chat panel, ``"always"`` let calls run or ``"never"``,
                a function of name and arguments, or a dict of those by tool),
                ``max_rounds`` (10), ``tool_timeout`` (60 seconds), and ``temperature``,
                ``max_tokens``, ... of the API's ``completion_args``.

        Returns:
            The conversation: ``send(...)`` is where it begins, ``panel()`` shows it.

        Raises:
            InputError: A tool cannot be one, or an option is unknown.
        """
        return self._opened().open(model, **options)

    def chat_panel(
        self, chat: Conversation | None = None, *, model: str | None = None, **options: Any
    ) -> ChatPanel:
        """Open a panel to talk in, at the end of a cell.

        Args:
            chat: A conversation; None begins one, or takes one up by its ``name=``.
            model: As for :meth:`conversation`.
            **options: Likewise: ``agent``, ``instructions``, ``tools``, ``name``, ...

        Returns:
            The panel, which shows itself; ``panel.chat`` is its conversation.

        Raises:
            InputError: As for :meth:`conversation`; or both a conversation and options for one.
        """
        from mistral_nb.agents.conversation import Conversation
        from mistral_nb.widgets.chat_panel import ChatPanel

        if not isinstance(chat, Conversation | None):
            raise InputError(
                f"chat_panel takes a conversation, not {chat!r}; by a name it is "
                "chat_panel(name=...)."
            )
        if chat is not None and (model is not None or options):
            raise InputError("Pass a conversation, or what to begin one with, not both.")
        return ChatPanel(chat if chat is not None else self.conversation(model, **options))

    def conversations(self) -> pd.DataFrame:
        """Return all conversations of this home folder, the latest first."""
        return self._opened().listing()

    def _opened(self) -> Conversations:
        from mistral_nb.agents.opening import Conversations

        with self._lock:
            if self._conversations is None:
                self._conversations = Conversations(self.connection, self.events, self.chat_panel)
            return self._conversations

    @property
    def agents(self) -> Agents:
        """Agents on the server: create, get, list, update, delete, versions, aliases."""
        from mistral_nb.agents.registry import Agents

        return Agents(self.connection)

    def webhooks(self, secret: Any = None, **options: Any) -> WebhookNotifier:
        """Return a notifier, with a queue of its own and a worker that delivers.

        Args:
            secret: Shared with the receivers; None takes the notifier made before, or
                ``MISTRAL_NB_WEBHOOK_SECRET``.
            **options: ``allow``, ``name``: see :class:`mistral_nb.webhooks.WebhookNotifier`.

        Returns:
            The notifier: ``notifier.notify(url, event, data)``.
        """
        from mistral_nb.webhooks import WebhookNotifier

        if self._notifier is None or secret is not None or options:
            queue = self.queue(name="webhooks")
            self._notifier = WebhookNotifier(secret, queue=queue, **options)
            if not queue.working:
                queue.work()
        return self._notifier

    def serve(self, queue: Queue | None = None, **options: Any) -> Relay:
        """Start a relay: chats and jobs over HTTP, as server-sent events.

        Args:
            queue: Its jobs; None takes the session's.
            **options: ``port``, ``host``, ``token``, ``cors``, ``work``, ...: see
                :class:`mistral_nb.relay.Relay`.

        Returns:
            The running relay; its address and token are printed once.
        """
        from mistral_nb.relay import Relay

        relay = Relay(queue or self.queue(), **options)
        relay.announce()
        return relay

    def _call_back(
        self, url: str, work: Any, kind: str, describe: Callable[[], dict[str, Any]]
    ) -> None:
        from mistral_nb.webhooks.callbacks import call_back

        call_back(self.connection.portal, self.webhooks(), url, work, kind, describe)
