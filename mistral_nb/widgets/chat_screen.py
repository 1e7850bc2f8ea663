"""What a chat panel shows of a conversation, and the numbered frames that tell what changed.

The keys of a frame are listed at the top of `static/chat_panel.js`. The conversation itself is
read anew for each frame and compared with what was sent: what a panel missed, or what another
panel did, shows all the same.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.agents.entries import results_of
from mistral_nb.agents.results import clean
from mistral_nb.widgets.frames import Area

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mistral_nb.agents.conversation import Conversation
    from mistral_nb.agents.entries import Entry, Turn
    from mistral_nb.usage import Usage
    from mistral_nb.widgets.frames import Frame

__all__ = ["ChatScreen", "TurnScreen", "pretty", "usage_line"]

RESULT_LIMIT = 4_000
"""Characters of a tool's result that are shown."""
MEDIA_LIMIT = 3_000_000
"""Bytes of a tool's picture that are shown."""
ADDRESS_LIMIT = 5_000_000
"""Characters of an image's address; longer ones are left out."""
LIVE = {"queued", "running"}


class TurnScreen:
    """One turn as it was last sent.

    Attributes:
        turn: The turn.
        cards: What is shown of each entry, by its place.
    """

    def __init__(self) -> None:
        self.turn: Turn | None = None
        self.head: dict[str, Any] = {}
        self.cards: dict[int, dict[str, Any]] = {}
        self.areas: dict[tuple[int, int], Area] = {}
        self._fed: dict[tuple[int, int], str] = {}
        self._ended: set[tuple[int, int]] = set()

    @property
    def settled(self) -> bool:
        """True once it cannot change any more."""
        return self.turn is not None and self.turn.status not in LIVE

    def update(self, turn: Turn, branch: list[Any], consents: dict[str, Any]) -> dict[str, Any]:
        """Take the turn as it is now; return what has changed: ``h``, ``e`` and ``p``."""
        self.turn = turn
        news: dict[str, Any] = {}
        head = _sendable(_head(turn, branch))
        if head != self.head:
            self.head = news["h"] = head
        results = results_of(turn.entries)
        for place, entry in enumerate(turn.entries):
            if entry.type == "function.result":
                continue  # shown on the card of its call
            card = _sendable(_card(entry, results.get(place), consents))
            if card != self.cards.get(place):
                self.cards[place] = card
                news.setdefault("e", []).append([place, card])
            if entry.type == "message.output":
                last = turn.status not in LIVE or entry.state != "arriving"
                for kind, text in enumerate((entry.text, entry.thinking)):
                    if patches := self._grow(place, kind, text, last=last):
                        news.setdefault("p", []).append([place, kind, patches])
        return news

    def whole(self) -> dict[str, Any]:
        """Return all of it."""
        patches = [[*key, blocks] for key, area in self.areas.items() if (blocks := area.whole())]
        return {"h": self.head, "e": list(self.cards.items()), "p": patches}

    def html(self, place: int, kind: int) -> str:
        """Return a message's words (0) or thinking (1) for a notebook file."""
        area = self.areas.get((place, kind))
        return area.static_html if area is not None else ""

    def _grow(self, place: int, kind: int, text: str, *, last: bool) -> list[list[object]]:
        """Return the patches that bring a text up to date."""
        key = (place, kind)
        before = self._fed.get(key, "")
        ended = key in self._ended
        if not text or (text == before and (ended or not last)):
            return []
        patches: list[list[object]] = []
        if ended or not text.startswith(before):
            # The server took something back: begin that text anew.
            patches = [[n, 0, ""] for n in range(len(self.areas.pop(key).blocks))]
            before = ""
        area = self.areas.setdefault(key, Area())
        area.feed(text[len(before) :])
        self._fed[key] = text
        if last:
            self._ended.add(key)
        return patches + area.patches(last=last)


class ChatScreen:
    """Everything a panel shows.

    Args:
        chat: The conversation.

    Attributes:
        number: Number of the last frame.
        turns: Turns on the branch that is shown, oldest first.
    """

    def __init__(self, chat: Conversation) -> None:
        self.chat = chat
        self.number = 0
        self._known: dict[str, TurnScreen] = {}
        self._order: list[str] = []
        self._about: dict[str, Any] = {}

    @property
    def turns(self) -> list[TurnScreen]:
        """The turns that are shown, oldest first."""
        return [self._known[name] for name in self._order]

    def frame(self) -> Frame | None:
        """Return the next frame, or None if nothing has changed."""
        news: Frame = {}
        order = []
        for turn in self._now():
            order.append(turn.id)
            screen = self._known.setdefault(turn.id, TurnScreen())
            branch = self._branch(turn)
            if screen.settled and screen.head.get("b") == branch and screen.turn == turn:
                continue
            if changes := screen.update(turn, branch, self._consents(turn.id)):
                news.setdefault("t", {})[turn.id] = changes
        if order != self._order:
            self._order = news["o"] = order
        about = _sendable(self._header())
        if about != self._about:
            self._about = news["a"] = about
        if not news:
            return None
        self.number += 1
        return {"n": self.number, **news}

    def whole(self) -> Frame:
        """Return all there is, for a view that has nothing or missed some."""
        self.frame()
        turns = {name: self._known[name].whole() for name in self._order}
        return {"n": self.number, "w": 1, "o": self._order, "t": turns, "a": self._about}

    def _now(self) -> Iterator[Turn]:
        shown = set()
        for turn in self.chat.turns:
            shown.add(turn.id)
            handle = self.chat.handle(turn.id)
            yield turn if handle is None or handle.over else handle.turn
        for handle in (self.chat.running, *self.chat.queued):
            if handle is not None and handle.request_id not in shown:
                yield handle.turn

    def _branch(self, turn: Turn) -> list[Any]:
        """Return the ids of the turns in the same place, if there are others."""
        if turn.status == "queued":
            return []
        names = self.chat.siblings(turn.id)
        return list(names) if len(names) > 1 else []

    def _consents(self, turn_id: str) -> dict[str, Any]:
        handle = self.chat.handle(turn_id)
        return {} if handle is None else {each.id: each for each in handle.pending}

    def _header(self) -> dict[str, Any]:
        chat = self.chat
        return {
            "name": chat.name,
            "who": chat.agent or chat.model or "",
            "usage": usage_line(chat.usage),
            "running": int(chat.running is not None),
            "queued": len(chat.queued),
        }


def _sendable(value: Any) -> Any:
    """Return JSON without halves of surrogate pairs, which a message to the browser cannot hold."""
    if isinstance(value, str):
        return value if value.isascii() else clean(value)
    if isinstance(value, dict):
        return {_sendable(key): _sendable(each) for key, each in value.items()}
    return [_sendable(each) for each in value] if isinstance(value, list) else value


def _head(turn: Turn, branch: list[Any]) -> dict[str, Any]:
    return {
        "s": turn.status,
        "f": _footer(turn),
        "x": turn.error,
        "b": branch,
    }


def _footer(turn: Turn) -> str:
    if turn.status in LIVE:
        return ""
    words = {"stopped": "Stopped", "failed": "Failed"}.get(turn.status, "")
    if turn.finish_reason == "max_rounds":
        words = "Ended after the most rounds it may take (max_rounds)"
    parts = [words, turn.model, usage_line(turn.usage), f"{turn.seconds:.1f} s"]
    return " · ".join(part for part in parts if part)


def usage_line(usage: Usage | None) -> str:
    """Return token counts in words; empty where none are known."""
    if usage is None or not usage.total_tokens:
        return ""
    return f"{usage.prompt_tokens:,} tokens in, {usage.completion_tokens:,} out"


def _card(entry: Entry, result: Entry | None, consents: dict[str, Any]) -> dict[str, Any]:
    """Return what is shown of an entry, and of its result, besides its growing texts."""
    kind = entry.type
    if kind == "message.input":
        return {"k": "user", "t": entry.text, "i": _images(entry), "d": _documents(entry)}
    if kind == "message.output":
        return {
            "k": "answer",
            "i": _images(entry),
            "r": [[c.title or c.url or c.tool, c.url or ""] for c in entry.citations],
            "d": [[each.file_id, each.name or each.file_id, each.type] for each in entry.files],
        }
    if kind == "agent.handoff":
        data = entry.data
        return {
            "k": "handoff",
            "a": str(data.get("previous_agent_name") or ""),
            "b": str(data.get("next_agent_name") or ""),
        }
    if kind in {"function.call", "tool.execution"}:
        waits = entry.state == "waiting"
        return _call(entry, result, consents.get(entry.call_id) if waits else None)
    return {"k": "other", "c": kind, "j": pretty(dict(entry.data))[:RESULT_LIMIT]}


def _call(entry: Entry, result: Entry | None, consent: Any) -> dict[str, Any]:
    """Return the card of a tool call, of ours or of the server's."""
    text = result.text if result is not None else pretty(entry.data.get("info"))
    card: dict[str, Any] = {
        "k": "call",
        "c": entry.name,
        "j": pretty(entry.data.get("changed_arguments") or entry.arguments),
        "s": _call_state(entry),
        "z": round(entry.seconds, 1),
        "x": text[:RESULT_LIMIT],
        "m": max(0, len(text) - RESULT_LIMIT),
        "g": [_picture(media) for media in (result.media if result is not None else ())],
    }
    if consent is not None:
        card["w"] = {"id": consent.id, "server": int(consent.server), "d": consent.description}
    return card


def _call_state(entry: Entry) -> str:
    """Return the state; a call that was let through runs on the server, as an entry of its own."""
    allowed = entry.state == "done" and entry.data.get("confirmation_status") == "allowed"
    return "allowed" if allowed else entry.state


def _picture(media: Any) -> list[str]:
    if len(media.data) > MEDIA_LIMIT or not media.mime.startswith("image/"):
        return ["", media.alt or "A picture that is too large to show"]
    return [f"data:{media.mime};base64,{base64.b64encode(media.data).decode()}", media.alt]


def _images(entry: Entry) -> list[str]:
    return [url for url in entry.images if len(url) < ADDRESS_LIMIT]


def _documents(entry: Entry) -> list[str]:
    """Return the names of the files that a person attached."""
    chunks = (*entry.chunks("document_url"), *entry.chunks("file"))
    return [str(each.get("document_name") or each.get("file_id") or "file") for each in chunks]


def pretty(value: Any) -> str:
    """Return arguments or other JSON in readable lines; a text as it is."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:
        return str(value)
