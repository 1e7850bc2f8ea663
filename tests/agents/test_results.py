"""What tools return: text, JSON, tables, pictures; cut where it is long."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import struct
import zlib
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from mistral_nb.agents.results import LIMIT, as_result


class Point(BaseModel):
    x: int


@dataclasses.dataclass
class Pair:
    left: int
    right: list[int]


class Odd:
    def __str__(self) -> str:
        return "odd one"


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, "Done; it returned nothing."),
        (3, "3"),
        (True, "true"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ({1: "a"}, '{"1":"a"}'),
        ((1, 2), "[1,2]"),
        ({"a"}, '["a"]'),
        (Point(x=1), '{"x":1}'),
        ([Point(x=1)], '[{"x":1}]'),
        (Pair(1, [2]), '{"left":1,"right":[2]}'),
        (np.arange(3), "[0,1,2]"),
        (np.float64(0.5), "0.5"),
        (dt.date(2026, 3, 7), '"2026-03-07"'),
        (Odd(), '"odd one"'),
        (b"abc", "[3 bytes that are no picture; not shown]"),
        ("\ud800", "?"),
    ],
    ids=str,
)
def test_values_become_text(value: Any, text: str) -> None:
    """Text stays, the rest is JSON, and what JSON cannot carry is its str."""
    assert as_result(value).text == text


def test_an_endless_structure_is_told_somehow() -> None:
    """A list within itself ends as text, not as an error."""
    loop: list[Any] = []
    loop.append(loop)
    assert as_result(loop).text == "[[...]]"


def test_a_table_is_markdown() -> None:
    """Columns and rows; a pipe in a cell is escaped, a missing value is empty."""
    table = pd.DataFrame({"name": ["a|b", None], "n": [1, 2]})
    assert as_result(table).text == "| name | n |\n| --- | --- |\n| a\\|b | 1 |\n|  | 2 |"


def test_an_index_with_meaning_is_shown() -> None:
    """Named rows and Series keep their names."""
    assert as_result(pd.Series([1], index=["x"], name="n")).text.splitlines()[0] == "| index | n |"


def test_a_long_table_is_cut_with_a_note() -> None:
    """Fifty rows are told, and how many there are."""
    text = as_result(pd.DataFrame({"n": range(1000)})).text
    assert text.endswith("[50 of 1,000 rows; 1 columns.]")
    assert text.count("\n| ") == 51


def test_ten_megabytes_are_cut_with_a_note() -> None:
    """The model is told the beginning, and how much there was."""
    text = as_result("x" * 10_485_760).text
    assert len(text) < LIMIT + 100
    assert text.endswith("[Cut: 10,485,760 characters in all, the first 50,000 are here.]")


def test_pictures_are_for_the_person() -> None:
    """The model is told that there is one; its bytes are kept for the screen."""

    class Drawn:
        def _repr_png_(self) -> bytes:
            return png()

    for value in (png(), Drawn()):
        result = as_result(value)
        assert "picture (PNG" in result.text
        assert result.media[0].data == png()
        assert result.media[0].mime == "image/png"


def test_a_figure_is_drawn() -> None:
    """A matplotlib figure becomes a PNG."""
    from matplotlib.figure import Figure

    assert as_result(Figure(figsize=(1, 1))).media[0].data.startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_drawn_is_text() -> None:
    """A failing _repr_png_ is no failure of the tool."""

    class Broken:
        def _repr_png_(self) -> bytes:
            raise RuntimeError

        def __str__(self) -> str:
            return "broken"

    assert json.loads(as_result(Broken()).text) == "broken"
