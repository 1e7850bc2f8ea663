"""Files that go with a message: images within it, others through the Files API."""

from __future__ import annotations

import base64
import io
import mimetypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mistral_nb.agents.entries import image_type
from mistral_nb.errors import InputError
from mistral_nb.explaining import explain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mistral_nb.client import Connection

__all__ = ["with_attachments"]

IMAGE_LIMIT = 10 * 1024 * 1024
"""Bytes of one image within a message."""


def with_attachments(
    connection: Connection, text: str, attachments: Sequence[Any]
) -> str | list[dict[str, Any]]:
    """Return the content of a message.

    Args:
        connection: Where files are uploaded to.
        text: Its words.
        attachments: Paths, bytes, pairs of a name and bytes, PIL images, or addresses
            (``https:`` or ``data:``) of images.

    Returns:
        The bare text without attachments, else content chunks.

    Raises:
        InputError: Something is none of these, cannot be read, or is too large.
    """
    if not isinstance(attachments, list | tuple) or _is_named(attachments):
        attachments = [attachments]  # one of them, not in a list
    if not attachments:
        return text
    chunks = [_chunk(connection, each) for each in attachments]
    return [*([{"type": "text", "text": text}] if text.strip() else []), *chunks]


def _chunk(connection: Connection, value: Any) -> dict[str, Any]:
    if isinstance(value, str) and urlsplit(value).scheme in {"http", "https", "data"}:
        return {"type": "image_url", "image_url": value}
    name, data = _read(value)
    mime = image_type(data)
    if mime is None:
        return _document(connection, name, data)
    if len(data) > IMAGE_LIMIT:
        raise InputError(
            f"The image {name} has {len(data) / 1e6:.0f} MB; at most "
            f"{IMAGE_LIMIT // 1024 // 1024} MB go with a message. Make it smaller."
        )
    encoded = base64.b64encode(data).decode()
    return {"type": "image_url", "image_url": f"data:{mime};base64,{encoded}"}


def _read(value: Any) -> tuple[str, bytes]:
    """Return a name and the bytes of an attachment."""
    if _is_named(value):
        return Path(value[0]).name, bytes(value[1])
    if isinstance(value, bytes | bytearray | memoryview):
        return "attachment", bytes(value)
    if isinstance(value, str | os.PathLike):
        path = Path(value).expanduser()
        try:
            return path.name, path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if hasattr(value, "save") and hasattr(value, "mode"):  # a PIL image
        target = io.BytesIO()
        value.save(target, format="PNG")
        return "image.png", target.getvalue()
    raise InputError(
        f"{type(value).__name__} is no attachment: pass a path, bytes, a pair of a name and "
        "bytes, an image or an address."
    )


def _is_named(value: Any) -> bool:
    """Return True for a pair of a name and bytes."""
    match value:
        case (str(), bytes() | bytearray() | memoryview()):
            return True
    return False


def _document(connection: Connection, name: str, data: bytes) -> dict[str, Any]:
    """Upload a file and return the chunk that points to it."""
    if not data:
        raise InputError(f"The file {name} is empty.")

    async def uploaded() -> str:
        files = connection.sdk.files
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        try:
            sent = await files.upload_async(
                file={"file_name": name, "content": data, "content_type": kind}, purpose="ocr"
            )
            return (await files.get_signed_url_async(file_id=sent.id)).url
        except Exception as error:
            raise explain(error, connection) from error

    url = connection.portal.call(uploaded)
    return {"type": "document_url", "document_url": url, "document_name": name}
