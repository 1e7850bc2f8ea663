"""Laws of request files: every row once, identical ones shared, within the limits."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import orjson
import pandas as pd
import pytest

from mistral_nb.errors import InputError, StoreError
from mistral_nb.labelling import requests as module
from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.ledger import Answer, Ledger
from mistral_nb.labelling.prompts import compile_prompt
from mistral_nb.labelling.recipe import Recipe, custom_id
from mistral_nb.labelling.requests import (
    Limits,
    ShardWriter,
    content_digest,
    make_requests,
    write_requests,
)
from mistral_nb.labelling.schemas import compile_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECIPE = Recipe("m", "Be brief.", compile_schema(labels=["a", "b"]), {"temperature": 0})


_open: list[Ledger] = []


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_an_empty_prompt_is_not_sent(text: str) -> None:
    """There is nothing to answer: the row says so, and costs nothing."""
    df = pd.DataFrame({"text": [text, "a"]})
    made = list(make_requests(df, compile_prompt("{text}", ["text"]), RECIPE))
    assert made[0].error == "the prompt is empty"
    assert made[0].digest is None
    assert made[1].digest is not None


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close()


class Built:
    """Requests written to a folder."""

    def __init__(self, home: Path, texts: list[Any], limits: Limits | None = None, **kw: Any):
        df = pd.DataFrame({"text": pd.Series(texts, dtype=object)})
        self.folder = RunFolder.fresh(home)
        self.ledger = Ledger(self.folder.ledger)
        _open.append(self.ledger)
        prompt = compile_prompt(kw.pop("prompt", "<{text}>"), ["text"])
        self.writer = ShardWriter(self.folder, limits or Limits())
        made = make_requests(df, prompt, kw.pop("recipe", RECIPE))
        self.digest = write_requests(made, self.ledger, self.writer, **kw)
        self.shards = self.ledger.shards()

    def lines(self) -> list[dict[str, Any]]:
        paths = [self.folder.requests(shard.id) for shard in self.shards]
        return [orjson.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def test_a_body_is_what_the_sdk_would_send() -> None:
    """The spliced body equals the request encoded in one piece, and the SDK takes it."""
    from mistralai.client.models import ChatCompletionRequest

    body = orjson.loads(RECIPE.body('Tricky "text"\n{x} \u2028 ✓'))
    assert body == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": 'Tricky "text"\n{x} \u2028 ✓'},
        ],
        "temperature": 0,
        "response_format": compile_schema(labels=["a", "b"]).response_format,
    }
    ChatCompletionRequest(model="m", **body)


def test_a_body_without_anything_special() -> None:
    """No system prompt, no options: just the user's message."""
    assert orjson.loads(Recipe("m").body("hi")) == {"messages": [{"role": "user", "content": "hi"}]}


def test_messages_keep_their_own_system_prompt() -> None:
    """The run's system prompt stands before messages that have none of their own."""
    own = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "x"}]
    assert orjson.loads(RECIPE.body(own))["messages"] == own
    assert orjson.loads(RECIPE.body(own[1:]))["messages"][0]["content"] == "Be brief."


def test_the_content_hash_tells_model_and_body_apart() -> None:
    """The same body for another model is another request."""
    body = Recipe("m").body("x")
    assert Recipe("m").digest(body) == Recipe("m", None).digest(body)
    assert len({Recipe(m).digest(b) for m in ("m", "n") for b in (body, body + b" ")}) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperatur": 1}, "Did you mean temperature"),
        ({"stream": True}, "stream is no option"),
        ({"temperature": "hot"}, "temperature"),
        ({"metadata": {"a": object()}}, "not JSON"),
    ],
)
def test_options_are_judged_by_the_sdk(options: dict[str, Any], words: str) -> None:
    """An unknown option or a wrong value is named before anything is sent."""
    with pytest.raises(InputError, match=words):
        Recipe("m", options=options)


def test_every_row_is_written_once(home: Path) -> None:
    """Each line has the row's own id and text, in order."""
    built = Built(home, ["x", "y", "z"])
    assert [line["body"]["messages"][1]["content"] for line in built.lines()] == [
        "<x>",
        "<y>",
        "<z>",
    ]
    digests = dict(built.ledger.requests_of(0))
    assert [line["custom_id"] for line in built.lines()] == [
        custom_id(row, digest) for row, digest in digests.items()
    ]


def test_identical_requests_are_written_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row with the same content points to the first, however far apart they are."""
    monkeypatch.setattr("mistral_nb.labelling.pieces.PIECE_ROWS", 7)
    monkeypatch.setattr(module._Seen, "RECENT", 5)
    dice = random.Random(4)
    texts = [f"text {dice.randrange(30)}" for _ in range(300)]
    built = Built(home, texts)
    firsts = {text: texts.index(text) for text in texts}
    assert len(built.lines()) == len(firsts)
    rows = built.ledger._db.execute("SELECT row, twin FROM request ORDER BY row").fetchall()
    assert [row["twin"] for row in rows] == [
        None if firsts[text] == row else firsts[text] for row, text in enumerate(texts)
    ]


def test_shards_keep_both_limits(home: Path) -> None:
    """A shard ends before it has too many lines or too many bytes."""
    built = Built(home, [f"{n}" * 50 for n in range(100)], Limits(lines=30, bytes=10**6))
    assert [shard.lines for shard in built.shards] == [30, 30, 30, 10]
    size = built.shards[0].bytes // 30
    built = Built(home, [f"{n:02}" * 25 for n in range(100)], Limits(lines=99, bytes=10 * size + 9))
    assert all(s.bytes <= 10 * size + 9 for s in built.shards)
    assert sum(s.lines for s in built.shards) == 100
    assert [built.folder.requests(s.id).stat().st_size for s in built.shards] == [
        s.bytes for s in built.shards
    ]


def test_a_row_larger_than_a_shard_is_named(home: Path) -> None:
    """A request that no file can hold is an error with its row, and nothing is sent."""
    with pytest.raises(InputError, match=r"Row 1: its request has .* Nothing was sent"):
        Built(home, ["x", "y" * 5000], Limits(bytes=3000))


def test_large_cells_pass(home: Path) -> None:
    """Cells of a megabyte are written whole."""
    built = Built(home, ["x" * 1_000_000, "y" * 1_000_000])
    assert [len(line["body"]["messages"][1]["content"]) for line in built.lines()] == [
        1_000_002
    ] * 2


def test_what_utf8_cannot_hold_is_not_sent(home: Path) -> None:
    """Half a surrogate pair makes an error row; the others are sent."""
    built = Built(home, ["a", "b\ud800", "c"])
    assert len(built.lines()) == 2
    assert "UTF-8" in built.ledger.failures()[0]["error"]


def test_messages_that_are_no_json_name_the_row(home: Path) -> None:
    """A prompt function's message with an object in it fails with its row."""
    with pytest.raises(InputError, match="Row 0: the prompt function's messages are not JSON"):
        Built(home, ["a"], prompt=lambda _: [{"role": "user", "content": object()}])


def test_earlier_answers_are_taken_over(home: Path) -> None:
    """A request with a known answer is not written; its row has the answer."""
    first = Built(home, ["x", "y"])
    known = dict(first.ledger.requests_of(0))[0]
    second = Built(
        home, ["y", "x"], reuse=lambda ds: {known: ("old", Answer("hi"))} if known in ds else {}
    )
    assert len(second.lines()) == 1
    results = [row for block in second.ledger.results() for row in block]
    assert results == [(0, None, "not answered yet"), (1, "hi", None)]
    assert second.ledger.counts() == {"total": 2, "done": 1, "failed": 0, "reused": 1}


def test_the_runs_hash_needs_no_files(home: Path) -> None:
    """Computed alone or while writing, the content hash is the same; any row changes it."""
    texts = ["x", None, "y", "x"]
    df = pd.DataFrame({"text": texts})
    prompt = compile_prompt("<{text}>", ["text"])
    alone = content_digest(make_requests(df, prompt, RECIPE))
    assert Built(home, texts).digest == alone
    assert content_digest(make_requests(df.iloc[::-1], prompt, RECIPE)) != alone
    assert content_digest(make_requests(df, prompt, Recipe("n"))) != alone


def test_a_full_disk_is_a_clear_error(home: Path) -> None:
    """When a file cannot be written, the error names the folder and the way out."""
    folder = RunFolder.fresh(home)
    (folder.path / "requests").rmdir()
    with pytest.raises(StoreError, match="MISTRAL_NB_HOME"):
        ShardWriter(folder, Limits()).write(0, b"0" * 16, b"{}")


@pytest.mark.parametrize("limits", [(0, 1), (1, 0)])
def test_limits_must_be_possible(limits: tuple[int, int]) -> None:
    """A shard of no lines or bytes is refused."""
    with pytest.raises(InputError, match="must be a whole number from 1"):
        Limits(*limits)
