"""OCR: a document's pages as Markdown, with blocks, and annotations by a schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mistral_nb.simulator import tokens
from mistral_nb.simulator.bodies import OcrRequest
from mistral_nb.simulator.catalogue import find_model
from mistral_nb.simulator.documents import open_document
from mistral_nb.simulator.encoding import encoded
from mistral_nb.simulator.filling import fill
from mistral_nb.simulator.validation import (
    ApiProblem,
    check,
    invalid_model,
    unprocessable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.simulator.documents import Document
    from mistral_nb.simulator.equipment import ResponseFormat

__all__ = ["read_document"]

DPI = 200
EMPTY = "(The simulator finds no plain text on this page.)"


def read_document(
    raw: bytes | dict[str, Any],
    *,
    seed: int,
    read_file: Callable[[str], bytes | None] | None = None,
) -> tuple[dict[str, Any], int]:
    """Answer ``/v1/ocr``.

    Args:
        raw: The body, encoded or parsed.
        seed: The simulator's seed.
        read_file: Gives the bytes of an uploaded file; None for one nobody uploaded.

    Returns:
        The body of the reply, and how many tokens it is worth to the rate limit.

    Raises:
        ApiProblem: The API would refuse it.
    """
    request: OcrRequest = check(OcrRequest, raw)
    known = find_model(request.model or "")
    if known is None or "ocr" not in known.can:
        raise invalid_model(request.model)
    found = open_document(request.document.model_dump(mode="json"), read_file)
    chosen = _chosen(request.pages, len(found.pages))
    pages = [_page(found, index, request) for index in chosen]
    text = "\n\n".join(page["markdown"] for page in pages)
    reply = {
        "pages": pages,
        "model": known.id,
        "document_annotation": _annotation(request.document_annotation_format, text, seed),
        "usage_info": {"pages_processed": len(pages), "doc_size_bytes": found.size},
    }
    return reply, tokens.count(text)


def _page(found: Document, index: int, request: OcrRequest) -> dict[str, Any]:
    markdown = found.pages[index] or EMPTY
    width, height = found.pixels
    page: dict[str, Any] = {
        "index": index,
        "markdown": markdown,
        "images": [],
        "tables": [],
        "hyperlinks": [],
        "header": None,
        "footer": None,
        "dimensions": {"dpi": DPI, "height": height, "width": width},
    }
    if request.include_blocks:
        corners = {"top_left_x": 0, "top_left_y": 0}
        corners |= {"bottom_right_x": width, "bottom_right_y": height}
        page["blocks"] = [{"type": "text", "content": markdown, **corners}]
    if request.confidence_scores_granularity is not None:
        sure = {"average_page_confidence_score": 0.98, "minimum_page_confidence_score": 0.9}
        page["confidence_scores"] = sure
    return page


def _annotation(wanted: ResponseFormat | None, text: str, seed: int) -> str | None:
    if wanted is None:
        return None
    if wanted.json_schema is None:
        where = ("body", "document_annotation_format")
        raise unprocessable(where, "Only json_schema is valid", "value_error")
    return encoded(fill(wanted.json_schema.schema_, text, seed)).decode()


def _chosen(pages: str | list[int] | None, count: int) -> list[int]:
    """Return the pages asked for: a list, or numbers and ranges as in ``"0,2-4"``."""
    if pages is None:
        return list(range(count))
    if isinstance(pages, str):
        try:
            pages = [number for part in pages.split(",") for number in _range(part, count)]
        except ValueError as error:
            raise ApiProblem.of(400, f"Invalid pages: {pages}", "invalid_request_error") from error
    return [number for number in dict.fromkeys(pages) if 0 <= number < count]


def _range(part: str, count: int) -> range:
    first, dash, last = part.partition("-")
    end = int(last) if dash else int(first)
    return range(int(first), min(end, count) + 1)
