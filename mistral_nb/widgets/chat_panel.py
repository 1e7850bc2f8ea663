"""A panel to talk in: the kernel's half. The browser's half is `static/chat_panel.js`.

Two outputs stand below the cell: the transcript as static content, which is what stays in the
notebook file, and the panel, which hides the transcript while it is alive.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mistral_nb import portal as portals
from mistral_nb.errors import InputError, MistralNbError
from mistral_nb.replies import current_cell
from mistral_nb.widgets.channel import Channel, front_end_may_show_widgets
from mistral_nb.widgets.chat_screen import ChatScreen
from mistral_nb.widgets.chat_static import bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.agents.consent import Screen
    from mistral_nb.agents.conversation import Conversation

__all__ = ["ChatPanel"]

INTERVAL = 0.05
"""Seconds between frames."""
STATIC_PAUSE = 1.0
"""Seconds after a turn's end until the transcript in the file follows."""
STATIC_PACE = 50_000
"""Characters of the transcript for which it waits another second: all of it is sent each time."""
BEGUN = '<div class="mnb-transcript"></div>'
"""The transcript until it is written."""
AWAY = 150.0
"""Seconds of silence after which a page is taken for closed; hidden pages speak once a minute."""
FILE_LIMIT = 20_000_000
"""Bytes of a file that a panel takes or hands out."""

log = logging.getLogger(__name__)


class ChatPanel:
    """A conversation on screen: show it below as many cells as you like.

    While a page shows it, calls that need consent ask there; with nobody to ask they are denied.

    Args:
        chat: The conversation.

    Attributes:
        chat: As given.
    """

    def __init__(self, chat: Conversation) -> None:
        self.chat = chat
        self._portal = portals.shared()
        self._screen = ChatScreen(chat)
        self._names = {part: f"mistral-nb-{uuid.uuid4().hex}" for part in ("static", "panel")}
        self._channel: Channel | None = None
        self._shown_in: set[object] = set()
        self._pages: dict[object, float] = {}
        self._asking: Screen | None = None
        self._news = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._acting: set[Any] = set()
        self._static_due: asyncio.TimerHandle | None = None
        self._static_size = 0
        self._settled = False

    def __repr__(self) -> str:
        return f"ChatPanel({self.chat.name!r}, {len(self.chat.turns)} turns)"

    def _ipython_display_(self) -> None:
        """Show the panel below the running cell, unless it is there already."""
        if not portals.in_kernel():
            print(self.chat.to_markdown() or repr(self))
            return
        if current_cell() in self._shown_in:
            return
        self._shown_in.add(current_cell())
        if self._settled or not front_end_may_show_widgets():
            self._publish("static", self._portal.call(self._transcript), update=False)
        else:
            if self._channel is None:
                self._channel = Channel(self._on_message, "chat_panel")
            # The panel hides the transcript: a long one need not be laid out before it.
            self._publish("static", {"text/html": BEGUN, "text/plain": repr(self)}, update=False)
            self._publish("panel", self._live(), update=False)
            self._portal.call_soon(self._write_later)
        self._portal.call_soon(self._follow)

    def settle(self) -> None:
        """Replace the panel by the transcript, for good; the conversation itself goes on."""
        self._settled = True
        if self._shown_in:
            self._publish("static", self._portal.call(self._transcript))
            if self._channel is not None:
                self._publish("panel", {"text/plain": ""})
        self._portal.call_soon(self._leave)

    def _live(self) -> dict[str, Any]:
        assert self._channel is not None
        text = f"A chat panel was here: mnb.chat_panel(name={self.chat.name!r}) opens it again."
        return {**self._channel.bundle(), "text/plain": text}

    def _publish(self, part: str, data: dict[str, Any], *, update: bool = True) -> None:
        from IPython.display import display

        display(data, raw=True, display_id=self._names[part], update=update)

    # What follows runs on the portal's loop, except for _on_message.

    def _follow(self) -> None:
        """Begin to listen to the conversation, once."""
        if self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._keep_up())

    async def _keep_up(self) -> None:
        """Bring what changes to the screen, a frame at a time."""

        async def hear(_: object) -> None:
            self._news.set()

        bus = self.chat.bus
        listeners = [bus.on(name, hear, maxsize=10) for name in ("turn:*", "conversation:*")]
        try:
            while not self._settled:
                await self._hear()
                begun = time.perf_counter()
                try:
                    self._show_news()
                except Exception:  # the conversation is unharmed, whatever a panel stumbles over
                    log.exception("The chat panel could not show what is new; the chat goes on")
                # A frame that took long to make makes the next one wait longer.
                await asyncio.sleep(max(INTERVAL, 4 * (time.perf_counter() - begun)))
        finally:
            for listener in listeners:
                bus.off(listener)

    async def _hear(self) -> None:
        """Wait for news; meanwhile notice pages that are gone."""
        while not self._news.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(AWAY / 5):
                    await self._news.wait()
            self._forget_pages()
        self._news.clear()

    def _show_news(self) -> None:
        frame = self._next_frame()
        ended = any(
            "h" in changes and changes["h"]["s"] not in {"queued", "running"}
            for changes in frame.get("t", {}).values()
        )
        if ended or ("o" in frame and self.chat.running is None):
            self._write_later()

    def _next_frame(self) -> dict[str, Any]:
        """Send what is new, and return it; empty if nothing is."""
        frame = self._screen.frame() or {}
        if frame and self._channel is not None:
            self._channel.send(frame)
        return frame

    async def _transcript(self) -> dict[str, str]:
        """Return the transcript as it is now."""
        return self._static()

    def _static(self) -> dict[str, str]:
        self._next_frame()
        data = bundle(self._screen)
        self._static_size = len(data["text/html"])
        return data

    def _write_later(self) -> None:
        """Have the transcript in the file follow soon."""
        if self._static_due is None:

            def write() -> None:
                self._static_due = None
                if not self._settled:
                    self._publish("static", self._static())

            pause = STATIC_PAUSE + self._static_size / STATIC_PACE
            self._static_due = asyncio.get_running_loop().call_later(pause, write)

    def _leave(self) -> None:
        self._news.set()
        self._pages.clear()
        self._ask_here()

    def _forget_pages(self) -> None:
        now = time.monotonic()
        self._pages = {page: at for page, at in self._pages.items() if now - at < AWAY}
        self._ask_here()

    def _ask_here(self) -> None:
        """Let calls ask for consent here exactly while a page shows the panel."""
        if self._pages and self._asking is None:
            self._asking = self.chat.attach()
        elif not self._pages and self._asking is not None:
            self._asking.detach()
            self._asking = None

    def _on_message(self, message: dict[str, Any]) -> None:
        """Take a message of the front end, on whatever thread it comes."""
        self._portal.call_soon(self._take, message)

    def _take(self, message: dict[str, Any]) -> None:
        page, action = message.get("p"), message.get("a")
        if action == "gone":
            self._pages.pop(page, None)
            self._ask_here()
            return
        if self._settled:
            return
        self._pages[page] = time.monotonic()
        self._ask_here()
        if action in {"ready", "resync"}:
            assert self._channel is not None
            self._channel.send(self._screen.whole())
        elif action != "here":
            task = asyncio.get_running_loop().create_task(self._act(message))
            self._acting.add(task)
            task.add_done_callback(self._acting.discard)

    async def _act(self, message: dict[str, Any]) -> None:
        """Do what a button asks, beside the loop: it may read files or ask the server."""
        problem, result = "", None
        try:
            result = await asyncio.to_thread(self._do, message)
        except MistralNbError as error:
            problem = str(error)
        except Exception:
            log.exception("The chat panel could not do what was asked")
            problem = "The kernel could not do this; its log says why."
        self._news.set()
        if self._channel is not None:
            answer = [message.get("p"), message.get("k"), problem, result]
            self._channel.send({**(self._screen.frame() or {}), "q": answer})

    def _do(self, message: dict[str, Any]) -> Any:
        """Carry out an action; what it returns goes to the page that asked."""
        chat, turn = self.chat, str(message.get("i", ""))
        text = str(message.get("t", ""))
        actions: dict[str, Callable[[], Any]] = {
            "send": lambda: chat.send(text, _attachments(message)),
            "edit": lambda: chat.edit(turn, text),
            "again": lambda: chat.regenerate(turn),
            "switch": lambda: chat.switch(turn),
            "stop": self._stop,
            "clear": chat.clear,
            "allow": lambda: self._consent(message).approve(_arguments(text)),
            "deny": lambda: self._consent(message).deny(text),
            "copy": lambda: self._text(turn),
            "file": lambda: self._download(str(message.get("f", ""))),
        }
        action = actions.get(str(message.get("a")))
        result = action() if action is not None else None
        return result if isinstance(result, str) else None

    def _stop(self) -> str:
        """End the turn and those that wait; return the words of these, which were never sent."""
        words = [handle.turn.question for handle in self.chat.queued]
        self.chat.stop()
        return "\n\n".join(words)

    def _consent(self, message: dict[str, Any]) -> Any:
        handle = self.chat.handle(str(message.get("i", "")))
        for consent in handle.pending if handle is not None else ():
            if consent.id == message.get("c"):
                return consent
        raise InputError("This call does not wait for an answer any more.")

    def _text(self, turn_id: str) -> str:
        return next((turn.text for turn in self.chat.turns if turn.id == turn_id), "")

    def _download(self, file_id: str) -> str:
        """Return a file that a connector made, as base64."""
        known = {file.file_id for turn in self.chat.turns for file in turn.files}
        if file_id not in known:
            raise InputError("The file is not one of this conversation's.")
        data = self.chat.download(file_id)
        if len(data) > FILE_LIMIT:
            raise InputError("The file is too large for the page: use chat.download(file).")
        return base64.b64encode(data).decode()


def _attachments(message: dict[str, Any]) -> list[tuple[str, bytes]]:
    """Return the files that came with a message, as pairs of name and bytes."""
    found = []
    for name, encoded in message.get("f") or ():
        try:
            data = base64.b64decode(str(encoded), validate=True)
        except binascii.Error as error:
            raise InputError(f"The file {name!r} did not arrive whole: attach it again.") from error
        if len(data) > FILE_LIMIT:
            raise InputError(f"{name!r} is larger than {FILE_LIMIT // 1_000_000} MB.")
        found.append((str(name), data))
    return found


def _arguments(text: str) -> dict[str, Any] | None:
    """Read arguments that a person has edited; empty text leaves them as they are."""
    import orjson

    if not text:
        return None
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(f"The arguments are no JSON: {error}.") from error
    if not isinstance(arguments, dict):
        raise InputError('The arguments must be a JSON object, such as {"city": "Paris"}.')
    return arguments
