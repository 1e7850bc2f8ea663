"""What a prompt says: its words, the labels it offers, and the text it is about."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["find_labels", "last_message", "plain_text", "subject"]

LABEL_WORDS = 6
"""A list item of more words than this is a sentence, not a label."""

_BULLET = re.compile(r"^[ \t]*(?:[-*•]|\d{1,3}[.)])[ \t]+(\S.*)$", re.MULTILINE)
_HINT = r"(?:labels?|tags?|categor(?:y|ies)|class(?:es)?|intents?|options?|choices?|sentiments?)"
# Each pattern with signs of it: looking for those first is much faster on long texts.
_LISTS = (
    (
        ("label", "tag", "categor", "class", "intent", "option", "choice", "sentiment"),
        re.compile(rf"{_HINT}\b[^:\n]{{0,40}}:\s*(.+)", re.IGNORECASE),
    ),
    (
        ("one word", "one of", "between", "among", "either", "choose from"),
        re.compile(
            r"\b(?:one (?:word|of)|between|among|either|choose from)\b[:\s]*(.+)", re.IGNORECASE
        ),
    ),
    (
        ("classify", "label", "categori", "tag", "rate", "sort"),
        re.compile(
            r"\b(?:classify|label|categori[sz]e|tag|rate|sort)\b[^:\n]*?\b(?:as|into)\b[:\s]*(.+)",
            re.IGNORECASE,
        ),
    ),
    (
        (" or ",),
        re.compile(
            r"\b(?:is|was|are)\b.*?\b([\w-]+(?:, [\w-]+)*,? or [\w-]+)\s*\?$", re.IGNORECASE
        ),
    ),
)
_BRACKET = re.compile(r"[\[(]([^\])\n]*[,;|][^\])\n]*)[\])]")
_SEGMENT = re.compile(r"(?<=[.?!])\s+|\n+")
_ITEM = re.compile(r"\s*(?:[,;|/]|\bor\b|\band\b)\s*", re.IGNORECASE)
_NAMES = (
    "text|input|ticket|message|review|query|question|comment|sentence|email|e-mail|tweet|document|"
    "title|customer|post|article|feedback|complaint|request"
)
_NAMED = re.compile(
    rf"(?:^|\n|[.?!:;]\s+)\s*(?:the |this |customer )?(?:{_NAMES})\s*$", re.IGNORECASE
)
_MARKED = re.compile(
    r"\"\"\"\s*(.+?)\s*\"\"\"|```\w*\s*(.+?)\s*```|<(\w+)>\s*(.+?)\s*</\3>", re.DOTALL
)


def plain_text(content: Any) -> str:
    """Return the words of a message's content, whichever of its shapes it has."""
    if isinstance(content, str):
        return content
    texts = [chunk.get("text") for chunk in content or () if isinstance(chunk, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def last_message(messages: Sequence[Mapping[str, Any]], role: str) -> str:
    """Return the words of the last message with a role, or nothing."""
    for message in reversed(messages):
        if message["role"] == role:
            return plain_text(message.get("content"))
    return ""


def find_labels(prompt: str) -> list[str]:
    """Find the labels that a prompt offers to choose from.

    Args:
        prompt: Instructions with a list: bullets, brackets, "one of: a, b", "as a or b".

    Returns:
        At least two labels, or none.
    """
    bullets = [_clean(item) for item in _BULLET.findall(prompt)]
    if _are_labels(bullets):
        return bullets
    for segment in _SEGMENT.split(prompt):
        lower = segment.lower()
        for signs, pattern in _LISTS:
            if not any(sign in lower for sign in signs):
                continue
            if found := pattern.search(segment):
                bracket = _BRACKET.search(found.group(1))
                inside = bracket.group(1) if bracket else found.group(1)
                labels = _items(re.split(r"[.?!:](?:\s|$)", inside, maxsplit=1)[0])
                if _are_labels(labels):
                    return labels
    return []


def _items(text: str) -> list[str]:
    cleaned = (_clean(re.sub(r"^(?:either|or|and)\s+", "", item)) for item in _ITEM.split(text))
    return [item for item in cleaned if item]


def _clean(item: str) -> str:
    return item.strip(" \t\r.:`'\"*?![]()")


def _are_labels(items: Sequence[str]) -> bool:
    return len(items) > 1 and all(len(item.split()) <= LABEL_WORDS for item in items)


def _after_name(prompt: str) -> str:
    """Return what follows "Text:", "Ticket:" or the like; nothing if there is no such name."""
    colon = prompt.find(":")
    while colon >= 0:
        if _NAMED.search(prompt[max(0, colon - 40) : colon]) and prompt[colon + 1 :].strip():
            return prompt[colon + 1 :].strip()
        colon = prompt.find(":", colon + 1)
    return ""


def subject(prompt: str, labels: Sequence[str] = ()) -> str:
    """Cut a prompt down to the text it is about, without instructions and label list.

    Args:
        prompt: The user's message.
        labels: What :func:`find_labels` found in it.

    Returns:
        The text between marks, after "Text:" or after a short instruction; else the prompt.
    """
    if marked := _MARKED.search(prompt):
        return (marked.group(1) or marked.group(2) or marked.group(4)).strip()
    if named := _after_name(prompt):
        return named
    if labels:
        kept = [
            segment
            for segment in _SEGMENT.split(prompt)
            if sum(label in segment for label in labels) < 2  # noqa: PLR2004 - the list itself
        ]
        prompt = "\n".join(kept) or prompt
    for mark, longest in ((":\n", 60), ("\n\n", 40), ("? ", 8), (": ", 12)):
        head, found, rest = prompt.partition(mark)
        if found and rest.strip() and len(head.split()) <= longest:
            return rest.strip()
    return prompt
