"""What the simulated model sees of an image or a document: what its file says in plain bytes.

It cannot look at pictures. A PDF's page count and its text objects, a PNG's text chunks, and
the words in a web address are enough to give each document its own, repeatable answer.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mistral_nb.simulator.validation import ApiProblem

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Document", "described", "open_document"]

MAX_PAGES = 1000
MAX_INFLATED = 8 * 1024 * 1024
A4 = (1654, 2339)
"""Pixels of a page at 200 dots an inch."""
_PNG = b"\x89PNG\r\n\x1a\n"
_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
_PAGE = re.compile(rb"/Type\s*/Page(?![\w])")
_STREAM = re.compile(rb"(<<[^>]{0,500}>>)?\s*stream\r?\n(.*?)\r?\nendstream", re.DOTALL)
_TEXT = re.compile(rb"\(((?:\\.|[^\\()]){1,2000})\)\s*Tj")
_ESCAPE = re.compile(rb"\\([nrtbf()\\])")
_ESCAPED = {b"n": b"\n", b"r": b"\n", b"t": b"\t", b"b": b"", b"f": b""}


@dataclass(frozen=True)
class Document:
    """A document, as far as it can be read.

    Attributes:
        pages: The text of each page.
        size: Bytes; None where only the address is known.
        pixels: Width and height of a page.
    """

    pages: tuple[str, ...]
    size: int | None = None
    pixels: tuple[int, int] = A4


def open_document(
    chunk: dict[str, Any], read_file: Callable[[str], bytes | None] | None = None
) -> Document:
    """Read the document that a chunk of a request holds or names.

    Args:
        chunk: An ``image_url``, ``document_url`` or ``file`` chunk.
        read_file: Gives the bytes of an uploaded file; None for one nobody uploaded.

    Returns:
        The document.

    Raises:
        ApiProblem: It is not there, or not what it says it is.
    """
    if chunk.get("type") == "file":
        data = read_file(str(chunk["file_id"])) if read_file else None
        if data is None:
            raise ApiProblem.of(404, f"No file matches {chunk['file_id']}", "invalid_file", "3310")
        return _read(data)
    url = chunk.get("document_url") or chunk.get("image_url") or ""
    url = url.get("url", "") if isinstance(url, dict) else str(url)
    if head := _DATA.match(url):
        try:
            return _read(base64.b64decode(url[head.end() :], validate=True))
        except binascii.Error as error:
            raise _unreadable(str(error)) from error
    parts = urlsplit(url[:2000])
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise _unreadable("its address is neither http(s) nor data")
    name = unquote(parts.path.rstrip("/").rsplit("/", maxsplit=1)[-1]) or parts.netloc
    return Document((" ".join(re.findall(r"[^\W_]+", name.rpartition(".")[0] or name)),))


def described(content: object) -> str:
    """Return the words of the images and documents in a message's content."""
    if not isinstance(content, list):
        return ""
    seen = [
        "\n".join(open_document(chunk).pages)
        for chunk in content
        if isinstance(chunk, dict) and chunk.get("type") in {"image_url", "document_url"}
    ]
    return "\n".join(text for text in seen if text)


def _read(data: bytes) -> Document:
    if data.startswith(b"%PDF-"):
        return _pdf(data)
    if data.startswith(_PNG):
        return _png(data)
    if not data:
        raise _unreadable("it is empty")
    return Document(("",), len(data))


def _pdf(data: bytes) -> Document:
    count = min(MAX_PAGES, len(_PAGE.findall(data)) or 1)
    texts = [text for match in _STREAM.finditer(data) if (text := _words(match))]
    pages = [*texts[:count], *[""] * (count - len(texts))]
    if len(texts) > count:
        pages[-1] = "\n".join(texts[count - 1 :])
    return Document(tuple(pages), len(data))


def _words(stream: re.Match[bytes]) -> str:
    content = stream[2]
    if b"FlateDecode" in (stream[1] or b""):
        try:
            content = zlib.decompressobj().decompress(content, MAX_INFLATED)
        except zlib.error:
            return ""
    lines = [
        _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), text)
        for text in _TEXT.findall(content)
    ]
    return b"\n".join(lines).decode("latin-1")


def _png(data: bytes) -> Document:
    texts, place = [], len(_PNG)
    pixels = A4
    while place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        content = data[place + 8 : place + 8 + length]
        if kind == b"IHDR" and length >= 8:  # noqa: PLR2004 - two numbers of four bytes
            pixels = struct.unpack(">II", content[:8])
        if kind == b"tEXt":
            texts.append(content.partition(b"\0")[2].decode("latin-1"))
        place += length + 12
    return Document(("\n".join(texts),), len(data), pixels)


def _unreadable(reason: str) -> ApiProblem:
    return ApiProblem.of(400, f"The document could not be read: {reason}", "invalid_file", "3310")
