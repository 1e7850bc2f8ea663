"""Prompts of several parts: images and documents beside a text, or the text after a gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mistral_nb.errors import InputError
from mistral_nb.labelling.media import MediumError, check_cell, urls_of
from mistral_nb.labelling.pairing import position_of
from mistral_nb.labelling.prompts import (
    Filled,
    Prompt,
    TemplatePrompt,
    Unsent,
    compile_prompt,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    import pandas as pd

    from mistral_nb.labelling.endpoints import Endpoint
    from mistral_nb.labelling.media import Medium

__all__ = ["compose"]

NAMED = 5
"""So many bad cells are named in a message."""


@dataclass(frozen=True)
class _Media:
    """A column of images or documents."""

    name: Hashable
    position: int
    kind: Medium

    def of(self, rows: pd.DataFrame, first: int) -> Iterator[list[dict[str, Any]]]:
        """Turn the column's cells into parts of a message.

        All are looked at before any is read whole: together they may be very large.

        Args:
            rows: Part of the table, shape (rows, columns).
            first: Position of its first row in the whole table.

        Yields:
            The parts of each row; none for an empty cell.

        Raises:
            InputError: Some of them cannot be sent; the message names rows and reasons.
        """
        cells = rows.iloc[:, self.position].tolist()
        wrong = []
        for row, cell in enumerate(cells, start=first):
            try:
                check_cell(cell, self.kind)
            except MediumError as error:
                wrong.append(f"row {row}: {error}")
        if wrong:
            raise self._refusal(wrong)
        for row, cell in enumerate(cells, start=first):
            try:
                yield [self._chunk(url) for url in urls_of(cell, self.kind)]
            except MediumError as error:  # it has changed since
                raise self._refusal([f"row {row}: {error}"]) from error

    def _refusal(self, wrong: list[str]) -> InputError:
        count = f"{len(wrong)} cells of column {self.name!r}" if wrong[1:] else "A cell"
        more = "; ..." if len(wrong) > NAMED else ""
        return InputError(
            f"{count} cannot be sent as {self.kind}: {'; '.join(wrong[:NAMED])}{more}. "
            "Empty a cell to leave its row out. Nothing was sent."
        )

    def _chunk(self, url: str) -> dict[str, Any]:
        if self.kind == "document" and not url.startswith("data:image/"):
            return {"type": "document_url", "document_url": url}
        return {"type": "image_url", "image_url": url}


class _Illustrated:
    """A text, and images or documents beside it: one message with several parts."""

    def __init__(self, prompt: Prompt, media: Sequence[_Media]) -> None:
        self._prompt, self._media = prompt, media

    @property
    def source(self) -> str:
        """The text's prompt and the columns beside it."""
        return " + ".join([self._prompt.source, *(f"{m.kind} {m.name!r}" for m in self._media)])

    def fill(self, rows: pd.DataFrame, first: int) -> Iterator[Filled]:
        """Yield one message a row, in a list."""
        beside = [m.of(rows, first) for m in self._media]
        for number, (made, *parts) in enumerate(
            zip(self._prompt.fill(rows, first), *beside, strict=True), start=first
        ):
            empty = next((m for m, part in zip(self._media, parts, strict=True) if not part), None)
            if isinstance(made, Unsent):
                yield made
            elif empty is not None:
                yield Unsent(f"empty value in column {empty.name!r}")
            elif isinstance(made, str):
                content = [{"type": "text", "text": made}]
                yield [{"role": "user", "content": content + [c for part in parts for c in part]}]
            else:
                raise InputError(
                    f"Row {number}: beside images= or documents= the prompt must be a text. "
                    "Put them into the messages yourself, or let the prompt function return a "
                    "text. Nothing was sent."
                )


class _Document:
    """A document to be read, without a prompt."""

    def __init__(self, media: _Media) -> None:
        self._media = media

    @property
    def source(self) -> str:
        """The column's name."""
        return f"{self._media.kind} {self._media.name!r}"

    def fill(self, rows: pd.DataFrame, first: int) -> Iterator[Filled]:
        """Yield one document a row, as a field of the request's body."""
        for number, chunks in enumerate(self._media.of(rows, first), start=first):
            if len(chunks) > 1:
                raise InputError(
                    f"Row {number}: OCR reads one document a request, and column "
                    f"{self._media.name!r} holds {len(chunks)}. Use df.explode(). "
                    "Nothing was sent."
                )
            name = self._media.name
            yield {"document": chunks[0]} if chunks else Unsent(f"empty value in column {name!r}")


class _Gap:
    """The text before a gap and the text after it."""

    def __init__(self, before: Prompt, after: Prompt) -> None:
        self._before, self._after = before, after

    @property
    def source(self) -> str:
        """Both prompts."""
        return f"{self._before.source} [...] {self._after.source}"

    def fill(self, rows: pd.DataFrame, first: int) -> Iterator[Filled]:
        """Yield prompt and suffix of each row, as fields of the request's body."""
        both = zip(self._before.fill(rows, first), self._after.fill(rows, first), strict=True)
        for before, after in both:
            unsent = [each for each in (before, after) if isinstance(each, Unsent)]
            yield unsent[0] if unsent else {"prompt": before, "suffix": after}


def compose(
    endpoint: Endpoint,
    prompt: Any,
    columns: Sequence[Hashable],
    *,
    suffix: Any = None,
    images: Any = None,
    documents: Any = None,
) -> Prompt:
    """Make one prompt of everything that is asked of a row.

    Args:
        endpoint: Who answers.
        prompt: Template or function of a row; None where a document is all.
        columns: All column labels of the table, in order.
        suffix: Template or function for the text after the gap.
        images: Column of images.
        documents: Column of documents.

    Returns:
        Something whose `fill` makes what is asked of each row.

    Raises:
        InputError: The endpoint has no use for one of them, or lacks one.
    """
    kinds: tuple[tuple[str, Any, Medium], ...] = (
        ("images", images, "image"),
        ("documents", documents, "document"),
    )
    media = [
        _Media(name, position_of(columns, name, argument), kind)
        for argument, name, kind in kinds
        if name is not None
    ]
    if endpoint.name == "ocr":
        return _to_read(prompt, media)
    if media and endpoint.name != "chat":
        raise InputError(f"images= and documents= are for chat and ocr, not for {endpoint.name!r}.")
    if suffix is not None and endpoint.name != "fim":
        raise InputError(f"suffix= is for endpoint='fim', not for {endpoint.name!r}.")
    if prompt is None:
        raise InputError("prompt is missing: give a template such as 'Which topic? {text}'.")
    beside = bool(media) or (suffix is not None and _varies(suffix, columns))
    made = compile_prompt(prompt, columns, may_be_constant=beside)
    if media:
        return _Illustrated(made, media)
    if suffix is None:
        return made
    return _Gap(made, compile_prompt(suffix, columns, may_be_constant=True))


def _varies(prompt: Any, columns: Sequence[Hashable]) -> bool:
    made = compile_prompt(prompt, columns, may_be_constant=True)
    return not (isinstance(made, TemplatePrompt) and made.constant)


def _to_read(prompt: Any, media: list[_Media]) -> Prompt:
    if prompt is not None:
        raise InputError(
            "OCR has no prompt: name the column of files with documents= (or images=). With "
            "schema=, document_annotation_prompt= says what to look for."
        )
    if len(media) != 1:
        raise InputError("endpoint='ocr' needs documents= or images=: the column of files to read.")
    return _Document(media[0])
