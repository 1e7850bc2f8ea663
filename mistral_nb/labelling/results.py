"""What each endpoint answers: brought into one text, and read by a schema of fixed columns.

So the ledger, the engines and the merge need not know which endpoint it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.errors import InputError, SchemaError
from mistral_nb.labelling.answers import TOO_DEEP, chat_answer, failed, used
from mistral_nb.labelling.schemas import Schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mistral_nb.labelling.endpoints import Endpoint
    from mistral_nb.labelling.ledger import Answer

__all__ = ["reader_at", "result_schema"]

_CATEGORIES_1 = (
    "sexual",
    "hate_and_discrimination",
    "violence_and_threats",
    "dangerous_and_criminal_content",
    "selfharm",
    "health",
    "financial",
    "law",
    "pii",
)
_CATEGORIES_2 = (
    *_CATEGORIES_1[:3],
    "dangerous",
    "criminal",
    *_CATEGORIES_1[4:],
    "jailbreaking",
)
_CATEGORIES = {"mistral-moderation-2411": _CATEGORIES_1, "mistral-moderation-2603": _CATEGORIES_2}
"""By model; another name may stand for either, and then has the columns of both."""
_VECTORS = {"int8": "int8", "uint8": "uint8", "binary": "int8", "ubinary": "uint8"}


def result_schema(
    endpoint: Endpoint,
    schema: Schema | None,
    *,
    model: str,
    column: str | None,
    flatten: bool,
    options: Mapping[str, Any],
) -> Schema | None:
    """Return the schema that reads an endpoint's answers.

    Args:
        endpoint: Who answers.
        schema: The caller's schema, if any.
        model: Model that answers.
        column: New name of the only column, if any.
        flatten: Whether nested values become columns of their own.
        options: Options of the requests.

    Returns:
        A schema with a column for each value, or None for plain text.

    Raises:
        InputError: The endpoint cannot answer in a schema of the caller's.
        SchemaError: ``column`` cannot name several columns.
    """
    if endpoint.name == "chat":
        return schema
    if endpoint.name == "ocr":
        return _Annotated(schema) if schema else _fixed("Document", _OCR, column)
    if schema is not None:
        raise InputError(
            f"endpoint={endpoint.name!r} has columns of its own; schema= and labels= are for "
            "endpoint='chat', and for 'ocr'."
        )
    if endpoint.name == "fim":
        return None
    if endpoint.name == "embeddings":
        kind = _VECTORS.get(str(options.get("output_dtype")), "float32")
        vector = {"embedding": {"type": "array", "format": kind}}
        return _fixed("Embedding", vector, column)
    if "moderations" in endpoint.name:
        return _fixed("Moderation", _moderation(model), column, flatten=flatten)
    return _fixed("Classification", _CLASSIFICATION, column, flatten=flatten)


class _Annotated(Schema):
    """OCR with a schema: the columns of the document's annotation, and its text beside them.

    Args:
        inner: What the annotation must look like.

    Raises:
        SchemaError: A field of it has the name of a column that OCR adds.
    """

    def __init__(self, inner: Schema) -> None:
        whole = _object({**_OCR, "annotation": {"type": "string"}})
        super().__init__("Document", whole)
        self._inner, self._outer = inner, Schema("Document", whole)
        twice = _OCR.keys() & {each.name for each in inner.columns}
        if twice:
            raise SchemaError(
                f"The schema's field {min(twice)!r} has the name of a column that OCR adds. "
                "Rename the field."
            )
        self.columns = (*inner.columns, *self._outer.columns[:-1])

    def parse(self, text: str) -> tuple[Any, ...]:
        """Check the reply and the annotation in it, and read both."""
        *own, annotation = self._outer.parse(text)
        return (*self._inner.parse(annotation), *own)

    def read(self, text: str) -> tuple[Any, ...]:
        """Read a reply that was checked before."""
        *own, annotation = self._outer.read(text)
        return (*self._inner.read(annotation), *own)

    def fault(self, text: str) -> str | None:
        """Return what is wrong with the reply or the annotation in it, or None."""
        wrong = self._outer.fault(text)
        return wrong or self._inner.fault(self._outer.read(text)[-1])


def reader_at(path: str) -> Callable[[dict[str, Any], int | None], Answer]:
    """Return what makes an answer of the body and status of a reply from an endpoint's path."""
    return _READERS.get(path, chat_answer)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _fixed(
    name: str, properties: dict[str, Any], column: str | None, *, flatten: bool = True
) -> Schema:
    return Schema(name, _object(properties), rename=column, flatten=flatten)


_OCR: dict[str, Any] = {"markdown": {"type": "string"}, "pages": {"type": "integer"}}
_CLASSIFICATION: dict[str, Any] = {
    "label": {"type": "string"},
    "score": {"type": "number"},
    "scores": {"type": "object"},
}


def _moderation(model: str) -> dict[str, Any]:
    names = _CATEGORIES.get(model) or tuple(dict.fromkeys([*_CATEGORIES_2, *_CATEGORIES_1]))
    parts = {"categories": "boolean", "scores": "number"}
    return {
        "flagged": {"type": "boolean"},
        **{
            part: {"type": "object", "properties": {name: {"type": kind} for name in names}}
            for part, kind in parts.items()
        },
    }


def _told(body: dict[str, Any], status: int | None, values: dict[str, Any] | None) -> Answer:
    """Return values as the text of an answer."""
    if values is None:
        return failed(used(body, None, status), "the reply holds no result")
    try:
        text = orjson.dumps(values).decode()
    except TypeError:  # orjson reads deeper than it writes
        return failed(used(body, None, status), f"the reply is {TOO_DEEP}")
    return used(body, text, status)


def _embedding(body: dict[str, Any], status: int | None) -> Answer:
    vector = _first(body.get("data")).get("embedding")
    values = {"embedding": vector} if isinstance(vector, list) and vector else None
    return _told(body, status, values)


def _moderated(body: dict[str, Any], status: int | None) -> Answer:
    result = _first(body.get("results"))
    flags, scores = result.get("categories"), result.get("category_scores")
    if not isinstance(flags, dict) or not isinstance(scores, dict):
        return _told(body, status, None)
    flagged = any(each is True for each in flags.values())
    return _told(body, status, {"flagged": flagged, "categories": flags, "scores": scores})


def _classified(body: dict[str, Any], status: int | None) -> Answer:
    """Take the best label of the first target; all scores are kept beside it."""
    result = _first(body.get("results"))
    targets = {
        name: target["scores"]
        for name, target in result.items()
        if isinstance(target, dict) and isinstance(target.get("scores"), dict)
    }
    none: dict[str, Any] = {}
    scores = next(iter(targets.values()), none)
    numbers = {k: v for k, v in scores.items() if isinstance(v, (int, float))}
    if not numbers:
        return _told(body, status, None)
    label = max(numbers, key=lambda name: numbers[name])
    return _told(body, status, {"label": label, "score": numbers[label], "scores": targets})


def _document(body: dict[str, Any], status: int | None) -> Answer:
    pages = body.get("pages")
    found = pages if isinstance(pages, list) else [None]
    texts = [page.get("markdown") if isinstance(page, dict) else None for page in found]
    if not all(isinstance(text, str) for text in texts):
        return _told(body, status, None)
    values: dict[str, Any] = {"markdown": "\n\n".join(map(str, texts)), "pages": len(texts)}
    if isinstance(body.get("document_annotation"), str):
        values["annotation"] = body["document_annotation"]
    return _told(body, status, values)


def _first(results: Any) -> dict[str, Any]:
    found = results[0] if isinstance(results, list) and results else None
    return found if isinstance(found, dict) else {}


_READERS: dict[str, Callable[[dict[str, Any], int | None], Answer]] = {
    "/v1/embeddings": _embedding,
    "/v1/moderations": _moderated,
    "/v1/chat/moderations": _moderated,
    "/v1/classifications": _classified,
    "/v1/chat/classifications": _classified,
    "/v1/ocr": _document,
}
