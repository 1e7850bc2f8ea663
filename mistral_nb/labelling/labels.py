"""Labels to choose from: what may be given for them, and which one an answer means."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from mistral_nb.errors import InputError

__all__ = ["encodable", "fold", "is_choice", "label_schema", "meant"]


def is_choice(schema: Any) -> bool:
    """Return True for what lists its values: a `Literal`, an `Enum` or a plain collection."""
    if get_origin(schema) is Literal or isinstance(schema, (list, tuple, set, frozenset)):
        return True
    return isinstance(schema, type) and issubclass(schema, enum.Enum)


def label_schema(labels: Any) -> dict[str, Any]:
    """Return the JSON schema of an answer that is one of some labels, in the field `label`.

    Args:
        labels: Texts or whole numbers: any iterable of them, a `Literal` or an `Enum`.

    Raises:
        InputError: There are none, or some that cannot be used.
    """
    values = _values(labels)
    if not values:
        raise InputError("labels is empty: give at least one label to choose from.")
    for position, each in enumerate(values):
        if not isinstance(each, (str, int)) or (isinstance(each, str) and not each.strip()):
            raise InputError(
                f"labels must be texts or whole numbers, not {each!r}. Of a column with gaps, "
                "take its .dropna().unique()."
            )
        if isinstance(each, str) and not encodable(each):
            raise InputError(f"labels has {each!r}, which holds half a character; mend its text.")
        if each in values[:position]:
            raise InputError(f"labels has {each!r} twice.")
    choice: dict[str, Any] = {"enum": values}
    kinds = {type(each) for each in values}
    if len(kinds) == 1:
        choice["type"] = {str: "string", int: "integer", bool: "boolean"}[kinds.pop()]
    return {"type": "object", "properties": {"label": choice}, "required": ["label"]}


def meant(labels: Iterable[Any]) -> dict[str, str]:
    """Return how answers may spell labels that are texts: folded spelling -> label.

    Labels that differ only in case or spaces are not among them: those must be met exactly.
    """
    found: dict[str, str] = {}
    twice = set()
    for label in labels:
        if isinstance(label, str):
            folded = fold(label)
            if folded in found:
                twice.add(folded)
            found[folded] = label
    return {folded: label for folded, label in found.items() if folded not in twice}


def fold(text: str) -> str:
    """Return a text without what does not tell labels apart: case, and spaces around it."""
    return text.strip().casefold()


def encodable(text: str) -> bool:
    """Return False for a text with half of a surrogate pair, which UTF-8 has no form for."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _values(labels: Any) -> list[Any]:
    if get_origin(labels) is Literal:
        labels = get_args(labels)
    elif isinstance(labels, type) and issubclass(labels, enum.Enum):
        labels = [member.value for member in labels]
    elif isinstance(labels, (set, frozenset)):
        labels = sorted(labels, key=str)  # a set's own order changes from process to process
    if isinstance(labels, (str, bytes, Mapping)) or not isinstance(labels, Iterable):
        raise InputError("labels must be a list of names, e.g. labels=['billing', 'delivery'].")
    return [each.item() if hasattr(each, "item") else each for each in labels]
