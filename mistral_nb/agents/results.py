"""What tools return, as the text a model reads and the pictures a person sees."""

from __future__ import annotations

import base64
import io
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from pydantic import BaseModel

from mistral_nb.agents.entries import Media, image_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["LIMIT", "ROWS", "ToolResult", "as_result", "clean", "markdown_table"]

LIMIT = 50_000
"""Characters of a result that the model is told; the rest is cut, with a note."""
ROWS = 50
"""Rows of a table that the model is told."""
CELL = 200
"""Characters of one cell of a table."""
MEDIA_LIMIT = 8 * 1024 * 1024
"""Bytes of a picture that is kept."""

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS


class ToolResult(NamedTuple):
    """A result, ready to be sent and shown.

    Attributes:
        text: For the model.
        media: Pictures, for the person.
    """

    text: str
    media: tuple[Media, ...] = ()


def as_result(value: Any) -> ToolResult:
    """Turn whatever a tool returned into text, and pictures where it is some.

    Args:
        value: Text, anything JSON can carry, a DataFrame (Markdown, at most 50 rows), a
            pydantic model, a picture (PIL, matplotlib, PNG or JPEG bytes, anything with
            ``_repr_png_``), a result that is ready; of everything else, its ``str``.

    Returns:
        Text of at most 50,000 characters, a note in it where it was cut.
    """
    if isinstance(value, ToolResult):
        return value._replace(text=cut(clean(value.text)))
    picture = _picture(value)
    if picture is not None:
        return ToolResult(f"[{picture.alt}, shown to the user]", (picture,))
    return ToolResult(cut(clean(_text(value))))


def clean(text: str) -> str:
    """Replace what UTF-8 cannot carry."""
    return text.encode("utf-8", "replace").decode()


def cut(text: str, limit: int = LIMIT) -> str:
    """Cut a long text, and say so."""
    if len(text) <= limit:
        return text
    return (
        f"{text[:limit]}\n\n[Cut: {len(text):,} characters in all, the first {limit:,} are here.]"
    )


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return "Done; it returned nothing." if value is None else value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value):,} bytes that are no picture; not shown]"
    table = _as_table(value)
    if table is not None:
        return markdown_table(table)
    try:
        return orjson.dumps(value, default=_plain, option=_OPTIONS).decode()
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _plain(value: Any) -> Any:
    """Return what JSON can carry in place of what it cannot."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if isinstance(value, dict):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _as_table(value: Any) -> pd.DataFrame | None:
    """Return a DataFrame or Series as a table; None if it is none, without loading pandas."""
    module = type(value).__module__.partition(".")[0]
    if module == "polars" and hasattr(value, "to_pandas"):
        value = value.to_pandas()
    elif module != "pandas":
        return None
    if hasattr(value, "to_frame") and not hasattr(value, "columns"):
        value = value.to_frame()
    return value if hasattr(value, "columns") and hasattr(value, "iloc") else None


def markdown_table(table: pd.DataFrame, rows: int = ROWS) -> str:
    """Write a table as Markdown.

    Args:
        table: Shape (rows, columns).
        rows: Rows written; a note tells of the rest.
    """
    import pandas as pd

    head = table.head(rows)
    plain = isinstance(head.index, pd.RangeIndex) and head.index.name is None
    if not plain:
        head = head.reset_index()
    lines = [_row([str(name) for name in head.columns]), _row(["---"] * len(head.columns))]
    lines += [_row([_cell(value) for value in row]) for row in head.itertuples(index=False)]
    text = "\n".join(lines)
    if len(table) > rows:
        text += f"\n\n[{rows} of {len(table):,} rows; {len(table.columns)} columns.]"
    return text


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = " ".join(str(value).split())
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"


def _picture(value: Any) -> Media | None:
    data = _picture_bytes(value)
    if data is None or len(data) > MEDIA_LIMIT:
        return None
    mime = image_type(data)
    if mime is None:
        return None
    return Media(
        mime, data, f"a picture ({mime.removeprefix('image/').upper()}, {len(data):,} bytes)"
    )


def _picture_bytes(value: Any) -> bytes | None:
    """Return the bytes of what is, or draws, a picture."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str | int | float | dict | list | tuple) or value is None:
        return None
    module = type(value).__module__.partition(".")[0]
    try:
        if module == "matplotlib" and hasattr(value, "savefig"):
            target = io.BytesIO()
            value.savefig(target, format="png")
            return target.getvalue()
        draw = getattr(value, "_repr_png_", None)  # PIL, IPython, plotting libraries
        found = draw() if callable(draw) else None
    except Exception:  # a picture that cannot be drawn is told as text
        return None
    if isinstance(found, tuple):  # IPython: data and metadata
        found = found[0]
    if isinstance(found, str):
        found = base64.b64decode(found)
    return found if isinstance(found, bytes) else None
