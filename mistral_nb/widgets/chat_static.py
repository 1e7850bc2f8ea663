"""The static form of a conversation, which stays in the notebook file: safe HTML and its source.

Made as :mod:`mistral_nb.widgets.settle` makes that of a reply: no script, no style sheet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mistral_nb.agents.results import clean
from mistral_nb.markdown import escape, linked, prose
from mistral_nb.widgets.settle import ALARM, BODY, CALL, FOLDED, QUIET

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.widgets.chat_screen import ChatScreen, TurnScreen

__all__ = ["STATES", "bundle"]

ASKED = "border-left:3px solid var(--jp-brand-color1,#1976d2);padding-left:0.9em;margin:1em 0 0.5em"
SMALL_IMAGE = "max-width:24em;max-height:24em"
STATES = {
    "arriving": "is being asked for",
    "waiting": "asks for your consent",
    "running": "runs",
    "failed": "failed",
    "denied": "denied",
    "stopped": "stopped",
    "allowed": "approved",
}
"""States of a call in words; a call that is done says its seconds."""


def bundle(screen: ChatScreen) -> dict[str, str]:
    """Return what the notebook file keeps of a conversation: MIME type -> data."""
    turns = screen.turns
    chat = screen.chat
    if not turns:
        html = f'<p style="{QUIET}"><small>The conversation has not begun.</small></p>'
    else:
        html = "".join(map(_turn, turns))
    return {
        "text/html": f'<div class="mnb-transcript">{html}</div>',
        "text/plain": clean(chat.to_markdown()),
    }


def _turn(turn: TurnScreen) -> str:
    parts = [_entry(turn, place, card) for place, card in sorted(turn.cards.items())]
    if turn.head.get("x"):
        parts.append(f'<p style="{ALARM}">{prose(turn.head["x"])}</p>')
    if turn.head.get("f"):
        parts.append(f'<p style="{QUIET}"><small>{prose(turn.head["f"])}</small></p>')
    return "".join(parts)


def _entry(turn: TurnScreen, place: int, card: dict[str, Any]) -> str:
    if card["k"] == "answer":
        return _answer(turn, place, card)
    writers: dict[str, Callable[[dict[str, Any]], str]] = {
        "user": _question,
        "call": _call,
        "handoff": _handoff,
        "other": _other,
    }
    return writers[card["k"]](card)


def _question(card: dict[str, Any]) -> str:
    lines = "<br>".join(prose(line) for line in card["t"].splitlines())
    names = "".join(f"<br><small>{prose(name)}</small>" for name in card["d"])
    images = "".join(map(_image, card["i"]))
    return f'<div style="{ASKED}">{lines}{images}{names}</div>'


def _answer(turn: TurnScreen, place: int, card: dict[str, Any]) -> str:
    parts = []
    if thinking := turn.html(place, 1):
        parts.append(
            f'<details style="{QUIET}"><summary>Thinking</summary>'
            f'<div style="{FOLDED}">{thinking}</div></details>'
        )
    if words := turn.html(place, 0):
        parts.append(BODY.format(words))
    parts += map(_image, card["i"])
    if card["r"]:
        items = "".join(
            f"<li>{prose(title)} {linked(url) if url and url != title else ''}</li>"
            for title, url in card["r"]
        )
        parts.append(f'<ol style="{QUIET}">{items}</ol>')
    parts += [f"<p><small>File: {prose(name)}</small></p>" for _, name, _ in card["d"]]
    return "".join(parts)


def _call(card: dict[str, Any]) -> str:
    done = f"done in {card['z']} s" if card["z"] else "done"
    state = done if card["s"] == "done" else STATES.get(card["s"], card["s"])
    pieces = [f"<code>{escape(card['c'])}</code> <small>{escape(state)}</small>"]
    pieces += [f"<pre><code>{escape(text)}</code></pre>" for text in (card["j"], card["x"]) if text]
    pieces += [_image(source) if source else prose(alt) for source, alt in card["g"]]
    return f'<div style="{CALL}">{"".join(pieces)}</div>'


def _handoff(card: dict[str, Any]) -> str:
    return f'<p style="{QUIET}">{prose(card["a"])} hands over to {prose(card["b"])}</p>'


def _other(card: dict[str, Any]) -> str:
    code = f"<pre><code>{escape(card['j'])}</code></pre>"
    return f'<div style="{CALL}"><code>{escape(card["c"])}</code>{code}</div>'


def _image(source: str) -> str:
    """Show a picture that is here; one from elsewhere would tell its server who reads this."""
    if source.startswith("data:image/") and not source.startswith("data:image/svg"):
        return f'<img src="{escape(source)}" alt="" style="{SMALL_IMAGE}">'
    return f"<p>{linked(source)}</p>"
