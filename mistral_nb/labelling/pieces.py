"""Cutting tables and requests into pieces of bounded size, whatever one row holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd

__all__ = ["in_pieces", "row_pieces"]

PIECE_ROWS = 5_000
PIECE_BYTES = 16_000_000


class _HasBody(Protocol):
    @property
    def body(self) -> bytes: ...


T = TypeVar("T", bound=_HasBody)


def row_pieces(df: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Cut a table.

    Args:
        df: The table, shape (rows, columns).

    Yields:
        The position of a piece's first row, and the piece.
    """
    if not len(df):
        return
    width = max(1, int(df.memory_usage(index=False).sum()) // len(df))
    rows = max(50, min(PIECE_ROWS, PIECE_BYTES // width))
    for start in range(0, len(df), rows):
        yield start, df.iloc[start : start + rows]


def in_pieces(requests: Iterable[T], rows: int | None = None) -> Iterator[list[T]]:
    """Cut requests, of which each may hold megabytes of images.

    Args:
        requests: What has a body.
        rows: Most requests in a piece; None for as many as a table's piece has.

    Yields:
        Lists of them, in order.
    """
    rows = rows or PIECE_ROWS
    piece: list[T] = []
    size = 0
    for request in requests:
        piece.append(request)
        size += len(request.body)
        if len(piece) >= rows or size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
