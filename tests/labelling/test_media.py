"""Images and documents in cells: what is sent, and what hostile cells come to."""

from __future__ import annotations

import base64
import io
import os
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from mistral_nb.errors import InputError
from mistral_nb.labelling import media
from mistral_nb.labelling.composing import compose
from mistral_nb.labelling.endpoints import CHAT
from mistral_nb.labelling.media import MediumError, check_cell, urls_of
from tests.pictures import pdf, png

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.labelling import Run

IMAGE = png("x")


def office(folder: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("[Content_Types].xml", "<Types/>")
        file.writestr(f"{folder}/document.xml", "<w/>" * 1000)
    return made.getvalue()


def content(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2])


@pytest.mark.parametrize(
    ("data", "kind", "mime"),
    [
        (IMAGE, "image", "image/png"),
        (b"\xff\xd8\xff\xe0" + b"x" * 9, "image", "image/jpeg"),
        (b"GIF89a" + b"x" * 9, "image", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image", "image/webp"),
        (b"\0\0\0\x1cftypavif", "image", "image/avif"),
        (IMAGE, "document", "image/png"),
        (pdf("x"), "document", "application/pdf"),
        (office("word"), "document", media._OFFICE[b"word/"]),
        (office("ppt"), "document", media._OFFICE[b"ppt/"]),
    ],
)
def test_files_are_known_by_how_they_begin(
    tmp_path: Path, data: bytes, kind: Any, mime: str
) -> None:
    """A path, its text, bytes, a data URL and a data set's dict all give the same data URL."""
    path = tmp_path / "name.txt"
    path.write_bytes(data)
    (url,) = urls_of(path, kind)
    assert url.startswith(f"data:{mime};base64,")
    assert content(url) == data
    for cell in (str(path), data, bytearray(data), url, {"bytes": data, "path": "a"}):
        assert urls_of(cell, kind) == [url]
    assert urls_of({"bytes": None, "path": str(path)}, kind) == [url]


def test_lists_hold_several_and_empty_cells_none() -> None:
    """Nested lists and arrays are flattened; missing values of every kind are no image."""
    one, two = "https://example.com/1.png", "http://example.com/2.png"
    assert urls_of([one, (two, None)], "image") == [one, two]
    assert urls_of(np.array([one, two], dtype=object), "image") == [one, two]
    for cell in (None, float("nan"), pd.NA, pd.NaT, "", [], [None, ""], {"bytes": None}):
        assert urls_of(cell, "image") == []


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("file:///etc/passwd", "only http, https and data"),
        ("FTP://example.com/a.png", "only http, https and data"),
        ("javascript:alert(1)", "there is no file"),
        ("https://", "no address"),
        ("https://exa mple.com/a b", "no address"),
        ("https://example.com/\x1b[2J", "no address"),
        ("https://[::1", "no address"),
        ("https://example.com/" + "a" * 9000, "no address"),
        ("data:image/png,abc", "no data URL in base64"),
        ("data:image/png;base64,%%%", "no data URL in base64"),
        ("data:image/png;base64,AAAA", "does not begin as PNG"),
        ("data:text/html;base64,PGh0bWw+", "does not begin as PNG"),
        ("/etc/passwd", "does not begin as PNG"),
        ("/dev/zero", "is no file"),
        ("/", "is a folder|is no file"),
        ("nowhere/at\0all.png", "cannot be read"),
        ("a" * 5000, "cannot be read"),
        ("no-such-file.png", "there is no file 'no-such-file.png'"),
        (r"\\evil.test\share\a.png", "network share"),
        ("//evil.test/share/a.png", "network share"),
        (b"<svg onload=alert(1)>", "the bytes does not begin|the bytes"),
        (b"", "does not begin"),
        (3, "3 is no address, path or bytes"),
        (True, "True is no address"),
    ],
)  # fmt: skip
def test_hostile_cells_are_refused(cell: Any, words: str) -> None:
    """Nothing but an image is ever read; the message says why, in one printable line."""
    with pytest.raises(MediumError, match=words) as caught:
        urls_of(cell, "image")
    with pytest.raises(MediumError, match=words):
        check_cell(cell, "image")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    """A named pipe that nobody writes to does not hang the run."""
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(MediumError, match="is no file"):
        urls_of(tmp_path / "pipe.png", "image")


def test_a_link_is_followed_to_what_it_is(tmp_path: Path) -> None:
    """A link's name says nothing either: what it leads to must be an image."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "a.png").symlink_to(tmp_path / "secret")
    with pytest.raises(MediumError, match="does not begin"):
        urls_of(tmp_path / "a.png", "image")


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    """Past the limit, by size on disk, in bytes and in a data URL; a document may be larger."""
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.write(IMAGE)
        file.truncate(media.LIMITS["image"] + 1)
    for cell in (large, large.read_bytes(), "data:image/png;base64," + "A" * 14_000_000):
        with pytest.raises(MediumError, match=r"more than 10\.0 MB"):
            urls_of(cell, "image")
    assert len(urls_of(large, "document")) == 1


def test_an_image_column_takes_no_document() -> None:
    """A PDF is no image."""
    with pytest.raises(MediumError, match="the bytes"):
        urls_of(pdf("x"), "image")


def test_bad_cells_are_listed_before_anything_is_sent(
    label: Callable[..., Run], simulator: Any, tmp_path: Path
) -> None:
    """All of them with row and reason, no run is made, nothing is paid."""
    (tmp_path / "a.png").write_bytes(IMAGE)
    cells = [str(tmp_path / "a.png"), "gone.png", None, "/etc/passwd"]
    df = pd.DataFrame({"text": ["x"] * 4, "image": cells})
    for mode in ("batch", "online"):
        run = label(df, "Which? {text}", images="image", mode=mode)
        with pytest.raises(InputError, match="2 cells of column 'image'") as caught:
            run.result()
        assert "row 1: there is no file 'gone.png'; row 3: '/etc/passwd' does not" in str(
            caught.value
        )
        assert "Nothing was sent." in str(caught.value)
    assert simulator.stats()["files_uploaded"] == 0
    assert simulator.stats()["chat_requests"] == 0


def test_files_are_read_one_at_a_time(tmp_path: Path) -> None:
    """All are looked at first, but each is read only when its row is asked for."""
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path in paths:
        path.write_bytes(IMAGE)
    columns = ["image"]
    prompt = compose(CHAT, "What is it?", columns, images="image")
    made = prompt.fill(pd.DataFrame({"image": pd.Series(paths, dtype=object)}), 5)
    next(made)
    paths[1].unlink()
    with pytest.raises(
        InputError, match=r"A cell cannot be sent as image: row 6: there is no file"
    ):
        next(made)


def test_large_office_files_are_known_by_their_end(tmp_path: Path) -> None:
    """The look before the reading finds what it needs in a file of any size."""
    data = b"PK\x03\x04" + bytes(300_000) + b"word/document.xml"
    (tmp_path / "a.docx").write_bytes(data)
    check_cell(tmp_path / "a.docx", "document")
    assert urls_of(tmp_path / "a.docx", "document")[0].startswith("data:application/vnd")
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04" + bytes(300_000))
    with pytest.raises(MediumError, match="does not begin"):
        check_cell(tmp_path / "b.zip", "document")


def test_prompts_of_messages_bring_their_own_images(label: Callable[..., Run]) -> None:
    """images= beside a function that returns messages is refused, not dropped."""
    df = pd.DataFrame({"text": ["x"], "image": ["https://example.com/a.png"]})
    ask = [{"role": "user", "content": "hi"}]
    with pytest.raises(InputError, match="the prompt must be a text"):
        label(df, lambda _: ask, images="image").result()


def test_ocr_reads_one_document_a_row(label: Callable[..., Run]) -> None:
    """Several in one cell are refused with the way to split them."""
    df = pd.DataFrame({"file": [["https://example.com/a.pdf", "https://example.com/b.pdf"]]})
    run = label(df, None, endpoint="ocr", documents="file", labels=None)
    with pytest.raises(InputError, match=r"df\.explode\(\)"):
        run.result()
