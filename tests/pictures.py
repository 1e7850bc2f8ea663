"""The smallest PDF and PNG files that hold a text, for tests of documents and images."""

from __future__ import annotations

import struct
import zlib

__all__ = ["pdf", "png"]


def pdf(*pages: str) -> bytes:
    """Return a PDF with one line of text a page."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    kids = []
    for text in pages:
        escaped = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        content = zlib.compress(f"BT /F1 12 Tf 72 720 Td ({escaped}) Tj ET".encode("latin-1"))
        kids.append(len(objects) + 1)
        page = f"<< /Type /Page /Parent 2 0 R /Contents {len(objects) + 2} 0 R >>"
        head = f"<< /Length {len(content)} /Filter /FlateDecode >>\nstream\n".encode()
        objects += [page.encode(), head + content + b"\nendstream"]
    listed = " ".join(f"{kid} 0 R" for kid in kids)
    objects[1] = f"<< /Type /Pages /Kids [{listed}] /Count {len(kids)} >>".encode()
    body = b"%PDF-1.4\n"
    for number, each in enumerate(objects, start=1):
        body += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    return body + b"trailer << /Root 1 0 R >>\n%%EOF\n"


def png(text: str, width: int = 3, height: int = 2) -> bytes:
    """Return a grey PNG with a text in its comment."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (width + 1) * height)
    comment = b"Comment\0" + text.encode("latin-1")
    parts = (
        chunk(b"IHDR", head),
        chunk(b"tEXt", comment),
        chunk(b"IDAT", rows),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
