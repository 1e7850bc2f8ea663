"""A conversation with a model or an agent: turns, branches, and a memory that is kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mistral_nb.agents import exports, remote
from mistral_nb.agents.attachments import with_attachments
from mistral_nb.agents.branches import Node, Tree
from mistral_nb.agents.consent import Screen, Screens
from mistral_nb.agents.results import clean
from mistral_nb.agents.turns import TurnHandle
from mistral_nb.errors import InputError
from mistral_nb.records import ConversationChanged
from mistral_nb.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pandas as pd

    from mistral_nb.agents.entries import Entry, File, Turn
    from mistral_nb.agents.history import History, Kept
    from mistral_nb.agents.remote import Ask, Setup
    from mistral_nb.agents.rules import Rules
    from mistral_nb.agents.tools import Tool
    from mistral_nb.client import Connection
    from mistral_nb.events import EventBus
    from mistral_nb.portal import Portal
    from mistral_nb.widgets.chat_panel import ChatPanel

__all__ = ["Conversation"]


class Conversation:
    """Made by :func:`mistral_nb.conversation`; ``send`` is where it begins.

    Args:
        connection: The server.
        bus: Where turns publish their events.
        history: The file that keeps it.
        name: Its name there.
        setup: What it is started with.
        rules: How its turns are carried out.
        kept: What the file has of it already.
        show: Opens a panel on it; a session, which knows of screens, lends it.

    Attributes:
        name: As given.
        connection: As given.
        bus: As given.
        history: As given.
        setup: Model or agent, instructions, tools and options.
        rules: As given.
        head: Id of the last turn of the shown branch; None at a beginning.
        screens: Counts the panels that are shown, where a person can be asked.
        lock: Held by the turn that goes on.
    """

    def __init__(
        self,
        connection: Connection,
        bus: EventBus,
        history: History,
        name: str,
        setup: Setup,
        rules: Rules,
        kept: Kept | None = None,
        show: Callable[[Conversation], ChatPanel] | None = None,
    ) -> None:
        self.name = name
        self.connection = connection
        self.bus = bus
        self.history = history
        self._show = show
        self.screens = Screens()
        self.lock = asyncio.Lock()
        self._tree = Tree()
        self._live: dict[str, TurnHandle] = {}
        self.head = kept.head if kept else None
        for node in kept.nodes if kept else ():
            self._tree.add(node)
        self.configure(setup, rules)

    def configure(self, setup: Setup, rules: Rules) -> None:
        """Change what the next turn is asked with; the turns so far stay."""
        self.setup = setup
        self.rules = rules
        self.history.keep(self.name, setup.as_json(), self.head)
        self._changed("settings")

    def __repr__(self) -> str:
        turns = len(self._tree.path(self.head))
        branches = "" if len(self._tree) == turns else f", {len(self._tree)} with all branches"
        return f"Conversation({self.name!r}, {self.setup.who}, {turns} turns{branches})"

    # -- what it is ----------------------------------------------------------------------

    @property
    def portal(self) -> Portal:
        """The loop it runs on."""
        return self.connection.portal

    @property
    def model(self) -> str | None:
        """Model that is asked, unless it is an agent."""
        return self.setup.model

    @property
    def agent(self) -> str | None:
        """Id of the agent that is asked."""
        return self.setup.agent

    @property
    def instructions(self) -> str | None:
        """System prompt."""
        return self.setup.instructions

    @property
    def tools(self) -> Mapping[str, Tool]:
        """Your tools by name."""
        return self.rules.tools.own

    @property
    def approve(self) -> Any:
        """The rule of consent: ask, always, never, a function, or a dict of them by tool."""
        return self.rules.approve

    @approve.setter
    def approve(self, rule: Any) -> None:
        self.rules = replace(self.rules, approve=rule)

    # -- turns ---------------------------------------------------------------------------

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns of the shown branch, oldest first, one that goes on among them."""
        return tuple(node.turn for node in self._tree.path(self.head))

    @property
    def running(self) -> TurnHandle | None:
        """The turn that goes on."""
        return next((h for h in self._open() if h.state != "queued"), None)

    @property
    def queued(self) -> tuple[TurnHandle, ...]:
        """Turns that wait for it."""
        return tuple(handle for handle in self._open() if handle.state == "queued")

    def _open(self) -> list[TurnHandle]:
        return [handle for handle in list(self._live.values()) if not handle.over]

    @property
    def usage(self) -> Usage:
        """Tokens of the shown branch."""
        return Usage.total(turn.usage for turn in self.turns)

    def send(self, text: str, attachments: Sequence[Any] = ()) -> TurnHandle:
        """Send a message; the handle is there at once.

        While a turn goes on, the message waits for its end; it is not lost.

        Args:
            text: The message.
            attachments: Images (paths, bytes, PIL, addresses) for models that see; other
                files are put into the Files API.

        Returns:
            A handle: ``await`` it or call ``.result()`` for the Turn, iterate it for its
            text, ``.stop()`` it, or ignore it.

        Raises:
            InputError: There is nothing to send, or an attachment cannot be read.
        """
        return self._sent(text, attachments, ...)

    def edit(self, turn: Any, text: str, attachments: Sequence[Any] = ()) -> TurnHandle:
        """Ask something else in place of an earlier message, on a branch of its own.

        Args:
            turn: The turn to replace: itself, its handle or its id. It stays as it was.
            text: The new message.
            attachments: As for :meth:`send`.

        Returns:
            The new turn's handle, as for :meth:`send`.

        Raises:
            InputError: There is no such turn, or nothing to send.
        """
        return self._sent(text, attachments, self._tree.find(turn).parent)

    def regenerate(self, turn: Any = None) -> TurnHandle:
        """Ask the same again, on a branch of its own.

        Args:
            turn: The turn; the last one if it is left out.

        Returns:
            The new turn's handle, as for :meth:`send`.

        Raises:
            InputError: There is no such turn.
        """
        if turn is None and self.head is None:
            raise InputError("There is no turn to ask again: send a message first.")
        node = self._tree.find(turn if turn is not None else self.head)
        content = node.turn.entries[0].data.get("content") or ""
        return self._handle(content, node.parent)

    def _sent(self, text: str, attachments: Sequence[Any], parent: Any) -> TurnHandle:
        if not isinstance(text, str) or not (text.strip() or attachments):
            raise InputError("There is nothing to send: pass some text.")
        content = with_attachments(self.connection, clean(text), attachments)
        return self._handle(content, parent)

    def _handle(self, content: Any, parent: Any) -> TurnHandle:
        self._catch_up()
        handle = TurnHandle(self, content, parent)
        self._live[handle.request_id] = handle
        self._changed("sent")
        return handle

    def _catch_up(self) -> None:
        """Take in turns that another kernel added to the file, as branches beside ours."""
        if self.history.count(self.name) <= len(self._tree):
            return
        kept = self.history.load(self.name)
        for node in kept.nodes if kept else ():
            if self._tree.get(node.id) is None:
                self._tree.add(node)

    def handle(self, turn: Any) -> TurnHandle | None:
        """Return the handle of a turn that was sent in this kernel, or None.

        Args:
            turn: The turn or its id.
        """
        name = getattr(turn, "request_id", None) or getattr(turn, "id", None) or turn
        return self._live.get(str(name))

    def stop(self) -> None:
        """Stop the turn that goes on, and those that wait."""
        for handle in reversed(self._open()):  # else the next one would begin meanwhile
            handle.stop()

    # -- branches ------------------------------------------------------------------------

    def siblings(self, turn: Any) -> tuple[str, ...]:
        """Return the ids of the turns in the same place, the given one among them.

        Args:
            turn: The turn or its id.
        """
        return tuple(node.id for node in self._tree.siblings(self._tree.find(turn)))

    def switch(self, turn: Any) -> None:
        """Show the branch that a turn is on; the next message goes there.

        Args:
            turn: Itself, its handle or its id.

        Raises:
            InputError: There is no such turn, or one is going on.
        """
        node = self._tree.find(turn)
        self._refuse_while_running("switch the branch")
        self._move(self._tree.leaf(node).id, "switched")

    def clear(self) -> None:
        """Begin anew: the next turn knows nothing of the others, which stay as branches.

        Raises:
            InputError: A turn is going on.
        """
        self._refuse_while_running("clear the conversation")
        self._move(None, "cleared")

    def _refuse_while_running(self, what: str) -> None:
        if self._open():
            raise InputError(f"A turn is going on: stop it, or wait for it, to {what}.")

    def _move(self, head: str | None, reason: str) -> None:
        self.head = head
        self.history.keep(self.name, self.setup.as_json(), head)
        self.history.flush()
        self._changed(reason)

    # -- what a turn needs ---------------------------------------------------------------

    def first_ask(self, parent: str | None, question: Entry) -> Ask:
        """Choose how to send a message that follows a turn."""
        (message,) = remote.as_inputs([question])
        node = self._tree.get(parent)
        if node is not None and node.settled and node.setup == self.setup.key:
            last = node.turn.entries[-1].id
            if self._tree.is_last_on(node):
                return remote.append(node.remote, [message])
            if not last.startswith("local-"):
                return remote.restart(node.remote, last, [message])
        return remote.start(self.setup, [*self._inputs(parent), message])

    def start_over(self, parent: str | None, entries: Iterable[Entry]) -> Ask:
        """Begin again on the server, which forgot, with everything that the file knows."""
        self._changed("recovered")
        return remote.start(self.setup, [*self._inputs(parent), *remote.as_inputs(entries)])

    def _inputs(self, head: str | None) -> list[dict[str, Any]]:
        path = self._tree.path(head)
        return [each for node in path for each in remote.as_inputs(node.turn.entries)]

    def begun(self, handle: TurnHandle, node: Node) -> None:
        """Take a turn into the tree, as the end of the shown branch."""
        self._tree.add(node)
        self.head = handle.request_id
        self.history.keep(self.name, self.setup.as_json(), self.head)
        self.history.keep_turn(node, handle.turn)
        self._changed("sent")

    def _changed(self, reason: str) -> None:
        record = ConversationChanged(f"conversation-{self.name}", reason)
        self.portal.call_soon(self.bus.publish_nowait, record)

    # -- a person at a screen ------------------------------------------------------------

    def panel(self) -> ChatPanel:
        """Open a panel to talk in, at the end of a cell, as ``mnb.chat_panel(chat)`` does.

        Returns:
            The panel, which shows itself.

        Raises:
            InputError: It was not opened by a session, so there is no screen to show it on.
        """
        if self._show is None:
            raise InputError("Only a conversation that mnb.conversation opened has a panel.")
        return self._show(self)

    def attach(self) -> Screen:
        """Say that a person can be asked for consent from now on.

        Returns:
            What to leave it with: ``screen.detach()``, or use it as a context.
        """
        return self.screens.attach()

    # -- the way out ---------------------------------------------------------------------

    def to_markdown(self) -> str:
        """Return the shown branch as Markdown text."""
        return exports.to_markdown(self.name, self.turns)

    def to_json(self) -> str:
        """Return the shown branch as JSON text: turns with their entries."""
        return exports.to_json(self.name, self.setup.as_json(), self.turns)

    def to_messages(self) -> list[dict[str, Any]]:
        """Return the shown branch as messages of ``chat.completions``."""
        return exports.to_messages(self.setup.instructions, self.turns)

    def to_frame(self) -> pd.DataFrame:
        """Return the shown branch as a table, one row an entry."""
        return exports.to_frame(self.turns)

    def download(self, file: File | str) -> bytes:
        """Return the content of a file that a connector made.

        Args:
            file: As in ``turn.files``, or its id.

        Raises:
            NotFoundError: The server has it no more.
        """
        return self.portal.call(self.download_async, file)

    async def download_async(self, file: File | str) -> bytes:
        """Like :meth:`download`, for the toolkit's own loop."""
        name = file if isinstance(file, str) else file.file_id
        return await remote.download(self.connection, name)

    def delete(self) -> None:
        """Forget it, on the server and in the file.

        Raises:
            InputError: A turn is going on.
            MistralNbError: The server did not delete it: then it is kept in the file, too.
        """
        self._refuse_while_running("delete the conversation")
        names = {node.remote for node in self._tree if node.remote}
        self.portal.call(remote.forget, self.connection, names)
        self.history.delete(self.name)
        self._tree, self.head = Tree(), None
        self._live.clear()
        self._changed("deleted")
