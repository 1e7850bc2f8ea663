"""Images and documents in a table's cells: addresses as they are, local files as data URLs.

Paths come from data, so they are hostile: only a regular file that begins like an image or a
document is read, only up to a limit, and nothing else of it is ever sent.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LIMITS", "Medium", "MediumError", "check_cell", "urls_of"]

Medium = Literal["image", "document"]
LIMITS: dict[Medium, int] = {"image": 10_000_000, "document": 50_000_000}
"""Most bytes of a file."""
LONGEST_ADDRESS = 8_000
ENDS = 65_536
"""Bytes at the beginning and at the end of a file that tell what it is."""
_IMAGES = "PNG, JPEG, GIF, WebP or AVIF"
_BEGINNINGS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftypavif", "image/avif"),
    (0, b"%PDF-", "application/pdf"),
)
_OFFICE = {
    b"word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    b"ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}


class MediumError(Exception):
    """A cell cannot be sent as an image or a document; the message says why, without its row."""


def check_cell(cell: Any, kind: Medium) -> None:
    """Raise what :func:`urls_of` would raise, without reading whole files.

    Raises:
        MediumError: The cell cannot be sent.
    """
    for each in _flat(cell):
        _url(each, kind, whole=False)


def urls_of(cell: Any, kind: Medium) -> list[str]:
    """Turn a cell into what a request can hold.

    Args:
        cell: A web address, a data URL, a path, bytes, a dict of ``bytes`` or ``path`` as image
            data sets have it, or a list of these.
        kind: What it must be. A document may also be an image.

    Returns:
        Addresses and data URLs; none for an empty cell.

    Raises:
        MediumError: It is none of these, or the file is missing, too large or another kind.
    """
    return [_url(each, kind, whole=True) for each in _flat(cell)]


def _flat(cell: Any) -> Iterator[Any]:
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, (list, tuple, np.ndarray)):
        for each in cell:
            yield from _flat(each)
    elif not ((pd.api.types.is_scalar(cell) and pd.isna(cell)) or cell == ""):
        yield cell


def _url(cell: Any, kind: Medium, *, whole: bool) -> str:
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return _encoded(bytes(cell), kind, "the bytes")
    if isinstance(cell, os.PathLike):
        return _of_file(Path(cell), kind, whole=whole)
    if not isinstance(cell, str):
        raise MediumError(f"{_short(cell)} is no address, path or bytes")
    start = cell[:8].lower()
    if start.startswith("data:"):
        return _data_url(cell, kind)
    if start.startswith(("http://", "https://")):
        return _address(cell)
    if "://" in cell[:20]:
        raise MediumError(f"{_short(cell)}: only http, https and data addresses can be sent")
    return _of_file(Path(cell), kind, whole=whole)


def _address(text: str) -> str:
    try:
        known = urlsplit(text)
        named = bool(known.hostname)
    except ValueError:
        named = False
    if not named or not text.isprintable() or " " in text or len(text) > LONGEST_ADDRESS:
        raise MediumError(f"{_short(text)} is no address that can be sent")
    return text


def _data_url(text: str, kind: Medium) -> str:
    head, comma, content = text.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise MediumError(f"{_short(text)} is no data URL in base64")
    if len(content) > LIMITS[kind] * 4 // 3 + 4:
        raise MediumError(f"the data URL holds more than {_size(LIMITS[kind])}")
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise MediumError(f"{_short(text)} is no data URL in base64") from None
    return _encoded(data, kind, "the data URL")


def _of_file(path: Path, kind: Medium, *, whole: bool) -> str:
    shown = _short(str(path))
    if str(path).startswith(("\\\\", "//")):  # would log in at whatever machine it names
        raise MediumError(f"{shown} is on a network share; copy the file here first")
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | _WITHOUT_WAITING), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):  # a device or a pipe may have no end
                raise MediumError(f"{shown} is no file")
            if found.st_size > LIMITS[kind]:
                size = f"{_size(found.st_size)}, more than {_size(LIMITS[kind])}"
                raise MediumError(f"{shown} has {size}")
            data = file.read(LIMITS[kind] + 1 if whole else ENDS)
            if not whole and found.st_size > 2 * ENDS:
                file.seek(-ENDS, os.SEEK_END)
                data += file.read(ENDS)
    except FileNotFoundError:
        raise MediumError(f"there is no file {shown}") from None
    except IsADirectoryError:
        raise MediumError(f"{shown} is a folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise MediumError(f"{shown} cannot be read: {reason}") from None
    return _encoded(data, kind, shown)


_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Opening a pipe that nobody writes to must not wait for a writer."""


def _encoded(data: bytes, kind: Medium, shown: str) -> str:
    if len(data) > LIMITS[kind]:
        size = f"{_size(len(data))}, more than {_size(LIMITS[kind])}"
        raise MediumError(f"{shown} has {size}")
    found = _type(data)
    if found is None or (kind == "image" and not found.startswith("image/")):
        wanted = _IMAGES if kind == "image" else f"PDF, DOCX, PPTX, {_IMAGES}"
        raise MediumError(f"{shown} does not begin as {wanted} does")
    return f"data:{found};base64,{base64.b64encode(data).decode()}"


def _type(data: bytes) -> str | None:
    """Return the MIME type by the file's own beginning; its name may say anything."""
    for place, mark, kind in _BEGINNINGS:
        if data[place : place + len(mark)] == mark:
            return kind
    if data.startswith(b"PK\x03\x04"):
        return next((kind for mark, kind in _OFFICE.items() if mark in data[-ENDS:]), None)
    return None


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."  # noqa: PLR2004 - one line
