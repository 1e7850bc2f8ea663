"""Labelling through every endpoint: what goes out, and which columns come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
import orjson
import pandas as pd
import polars as pl
import pytest
from pydantic import BaseModel

from mistral_nb.errors import InputError, SchemaError
from mistral_nb.labelling import resume
from mistral_nb.labelling.endpoints import endpoint_at, find_endpoint
from mistral_nb.labelling.recipe import Recipe
from mistral_nb.labelling.results import reader_at, result_schema
from tests.pictures import pdf, png

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.labelling import Run

TICKETS = "ft:classifier:ministral-3b-latest:simulator:20260101:tickets"
TEXTS = pd.DataFrame(
    {"text": ["I will kill you", "refund my invoice", None, "refund my invoice"]},
    index=["a", "b", "b", "c"],
)
MODES = pytest.mark.parametrize("mode", ["batch", "online"])


@MODES
def test_embeddings_become_vectors(label: Callable[..., Run], mode: str) -> None:
    """A column of numpy vectors: alike for alike texts, none where there is no text."""
    run = label(TEXTS, "{text}", endpoint="embeddings", labels=None, mode=mode)
    done = run.result()
    assert list(done.columns) == ["text", "embedding", "_error"]
    assert done.index.equals(TEXTS.index)
    first, second, none, fourth = done["embedding"]
    assert first.dtype == np.float32
    assert first.shape == (1024,)
    assert none is None
    assert np.array_equal(second, fourth)
    assert not np.array_equal(first, second)
    assert run.usage.prompt_tokens > 0


@MODES
def test_moderations_become_flags_and_scores(label: Callable[..., Run], mode: str) -> None:
    """Booleans and floats of the model's own categories, and whether any is flagged."""
    model = "mistral-moderation-2603"
    asked: dict[str, Any] = {
        "endpoint": "moderations",
        "labels": None,
        "mode": mode,
        "model": model,
    }
    done = label(TEXTS, "{text}", **asked).result()
    assert done["flagged"].tolist() == [True, False, pd.NA, False]
    assert done["categories.violence_and_threats"].dtype == "boolean"
    assert done["scores.violence_and_threats"].dtype == "Float64"
    assert len([name for name in done if name.startswith("categories.")]) == 11
    whole = label(TEXTS, "{text}", flatten=False, **asked).result()
    assert list(whole.columns) == ["text", "flagged", "categories", "scores", "_error"]
    assert whole["categories"].iloc[0]["violence_and_threats"] is True


@MODES
def test_classifications_become_a_label_and_scores(label: Callable[..., Run], mode: str) -> None:
    """The best label of the first target with its score; all targets' scores beside it."""
    for endpoint in ("classifications", "/v1/chat/classifications"):
        done = label(
            TEXTS, "{text}", endpoint=endpoint, model=TICKETS, labels=None, mode=mode
        ).result()
        assert done["label"].iloc[1] == "billing"
        scores = done["scores"].iloc[1]
        assert scores.keys() == {"topic", "urgency"}
        assert done["score"].iloc[1] == max(scores["topic"].values())


@MODES
def test_fim_fills_the_gap(label: Callable[..., Run], mode: str) -> None:
    """Prompt and suffix are templates; the text between them is the reply."""
    df = pd.DataFrame({"name": ["add", "multiply"], "result": ["total", "product"]})
    done = label(
        df,
        "def {name}(a, b):",
        suffix="    return {result}",
        endpoint="fim",
        labels=None,
        mode=mode,
        column="code",
    ).result()
    assert done["code"].tolist() == ["\n    total = a + b\n", "\n    product = a * b\n"]


class Bill(BaseModel):
    total: int
    kind: Literal["invoice", "receipt"]


@MODES
def test_ocr_reads_documents(label: Callable[..., Run], tmp_path: Path, mode: str) -> None:
    """Local files go along; their text comes back, and with a schema its columns too."""
    (tmp_path / "a.pdf").write_bytes(pdf("Invoice over 30 EUR", "page two"))
    (tmp_path / "b").write_bytes(png("a receipt for 5"))  # its name says nothing
    paths = [str(tmp_path / "a.pdf"), tmp_path / "b", None, "https://example.com/receipt-9.pdf"]
    df = pd.DataFrame({"file": pd.Series(paths, dtype=object)})
    asked: dict[str, Any] = {"endpoint": "ocr", "documents": "file", "labels": None, "mode": mode}
    plain = label(df, None, **asked).result()
    assert list(plain.columns) == ["file", "markdown", "pages", "_error"]
    assert plain["markdown"].tolist()[:2] == ["Invoice over 30 EUR\n\npage two", "a receipt for 5"]
    assert plain["pages"].tolist() == [2, 1, pd.NA, 1]
    assert plain["_error"].iloc[2] == "empty value in column 'file'"
    del asked["labels"]
    bills = label(df, None, schema=Bill, **asked).result()
    assert list(bills.columns) == ["file", "total", "kind", "markdown", "pages", "_error"]
    assert bills["total"].tolist() == [30, 5, pd.NA, 9]
    assert bills["kind"].tolist()[:2] == ["invoice", "receipt"]
    assert bills["kind"].dtype == "category"


@MODES
def test_chats_see_images_and_documents(
    label: Callable[..., Run], tmp_path: Path, mode: str
) -> None:
    """Images and documents stand beside the text, several in a cell; an empty cell is not sent."""
    (tmp_path / "cat.png").write_bytes(png("a cat"))
    (tmp_path / "dog.pdf").write_bytes(pdf("about a dog"))
    df = pd.DataFrame(
        {
            "picture": [
                str(tmp_path / "cat.png"),
                "https://example.com/dog.jpg",
                None,
                [png("cat")],
            ],
            "paper": ["https://example.com/x.pdf"] * 4,
        }
    )
    asked: dict[str, Any] = {"labels": ["cat", "dog"], "mode": mode}
    done = label(df, "Which animal is it?", images="picture", **asked).result()
    assert done["label"].tolist()[:2] + done["label"].tolist()[3:] == ["cat", "dog", "cat"]
    assert done["_error"].iloc[2] == "empty value in column 'picture'"
    both = label(df.iloc[:1], "Which?", images="picture", documents="paper", **asked).result()
    assert both["label"].tolist() == ["cat"]


@pytest.mark.parametrize("library", [pd, pl])
def test_a_run_of_vectors_is_drawn_without_labels(label: Callable[..., Run], library: Any) -> None:
    """Time and cost remain; vectors are no labels to count, or to compare."""
    mpl.use("Agg")
    table = library.DataFrame({"text": ["a", "b"]})
    run = label(table, "{text}", endpoint="embeddings", labels=None, mode="online")
    assert len(run.plot().axes) == 2
    with pytest.raises(InputError, match="holds lists or objects"):
        run.evaluate(gold=["a", "b"])


def test_a_run_of_any_endpoint_goes_on_in_another_process(
    label: Callable[..., Run], connection: Any, bus: Any
) -> None:
    """What reads the answers is made again from the ledger alone."""
    asked: dict[str, Any] = {"labels": None, "name": "vectors", "endpoint": "embeddings"}
    done = label(TEXTS, "{text}", output_dtype="int8", column="v", **asked).result()
    again = resume(connection, bus, "vectors").result()
    assert again["v"].iloc[0].dtype == np.int8
    assert np.array_equal(again["v"].iloc[0], done["v"].iloc[0])
    other = {**asked, "endpoint": "moderations"}
    with pytest.raises(InputError, match="its endpoint is '/v1/embeddings', not '/v1/moderations'"):
        label(TEXTS, "{text}", **other).result()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"endpoint": "embedding"}, "Did you mean 'embeddings'"),
        ({"endpoint": "/v1/audio/transcriptions"}, "cannot label rows. Choose one of chat, emb"),
        ({"endpoint": 3}, "cannot label rows"),
        ({"endpoint": "classifications"}, "needs model="),
        ({"endpoint": "embeddings", "system": "x"}, "system= is for endpoint='chat'"),
        ({"endpoint": "embeddings", "examples": [{"text": "a", "reply": "b"}]}, "examples= is for"),
        ({"endpoint": "embeddings", "images": "text"}, "images= and documents= are for"),
        ({"endpoint": "embeddings", "temperature": 1}, "temperature is no option .*'embeddings'"),
        ({"endpoint": "embeddings", "encoding_format": "base64"}, "encoding_format is no option"),
        ({"endpoint": "embeddings", "output_dimension": 0.5}, "output_dimension"),
        ({"endpoint": "moderations", "schema": Bill}, "has columns of its own"),
        ({"endpoint": "moderations", "column": "x"}, "can name only one column"),
        ({"suffix": "{text}"}, "suffix= is for endpoint='fim'"),
        ({"endpoint": "fim", "stream": True}, "stream is no option"),
        ({"endpoint": "fim", "prompt": "x", "suffix": "y"}, "names no column"),
        ({"endpoint": "ocr", "documents": "text"}, "OCR has no prompt"),
        ({"endpoint": "ocr", "prompt": None}, "needs documents= or images="),
        ({"endpoint": "ocr", "prompt": None, "documents": "txt"}, "Did you mean 'text'"),
        ({"images": "nothing"}, "images='nothing' is no column of the table"),
        ({"prompt": None}, "prompt is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_at_once(
    label: Callable[..., Run], options: dict, words: str
) -> None:
    """Before anything is built, with what to do instead."""
    asked = {"prompt": "{text}", "labels": None, **options}
    with pytest.raises(InputError, match=words):
        label(TEXTS, **asked)


def test_a_schema_beside_ocr_may_not_hide_its_columns(label: Callable[..., Run]) -> None:
    """A field of the name of a column that OCR adds is refused."""
    schema = {"type": "object", "properties": {"pages": {"type": "string"}}}
    with pytest.raises(SchemaError, match="'pages'"):
        label(TEXTS, None, endpoint="ocr", documents="text", schema=schema)


def test_messages_are_for_chats_only(label: Callable[..., Run]) -> None:
    """A prompt function that returns messages is told so where a text is wanted."""
    ask = [{"role": "user", "content": "hi"}]
    with pytest.raises(InputError, match="takes a text, not messages"):
        label(TEXTS, lambda _: ask, endpoint="embeddings", labels=None).result()


def bodies(name: str, prompt: Any, **options: Any) -> Any:
    made = Recipe("m", endpoint=find_endpoint(name), options=options)
    return orjson.loads(made.body(prompt))


def test_bodies_are_as_each_endpoint_wants_them() -> None:
    """The row's part under the endpoint's own name, options beside it, no model."""
    chat = [{"role": "user", "content": "x"}]
    assert bodies("embeddings", "x") == {"input": "x"}
    assert bodies("embeddings", "x", output_dimension=8) == {"input": "x", "output_dimension": 8}
    assert bodies("moderations", "x", metadata={"a": 1}) == {"input": "x", "metadata": {"a": 1}}
    assert bodies("chat/moderations", "x") == {"input": chat}
    assert bodies("chat/moderations", chat * 2) == {"input": chat * 2}
    assert bodies("chat/classifications", "x") == {"input": {"messages": chat}}
    assert bodies("chat/classifications", chat) == {"input": {"messages": chat}}
    assert bodies("fim", "x", max_tokens=3) == {"prompt": "x", "max_tokens": 3}
    assert bodies("fim", {"prompt": "x", "suffix": "y"}, max_tokens=3) == {
        "prompt": "x", "suffix": "y", "max_tokens": 3,
    }  # fmt: skip
    assert bodies("ocr", {"document": {"a": 1}}) == {"document": {"a": 1}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"data": []}),
        ("/v1/embeddings", {"data": [{"embedding": "AAAA"}]}),
        ("/v1/embeddings", {"data": [3]}),
        ("/v1/moderations", {"results": [{"categories": {}}]}),
        ("/v1/classifications", {"results": [{"topic": {"scores": {}}}]}),
        ("/v1/classifications", {"results": [{"topic": 3}]}),
        ("/v1/ocr", {"pages": [{"markdown": None}]}),
        ("/v1/ocr", {"pages": [3]}),
        ("/v1/ocr", {"pages": 3}),
        ("/v1/fim/completions", {"choices": []}),
    ],
)
def test_replies_without_a_result_are_failures(path: str, body: dict) -> None:
    """A reply of the wrong shape fails its row; its tokens still count."""
    answer = reader_at(path)({**body, "usage": {"prompt_tokens": 7}}, 200)
    assert answer.error
    assert answer.again
    assert answer.prompt_tokens == 7


def test_hostile_results_fail_their_row_only() -> None:
    """Values of a wrong type inside a well-formed reply do not fit the schema."""
    scores = {"results": [{"categories": {"pii": "yes"}, "category_scores": {"pii": 1}}]}
    answer = reader_at("/v1/moderations")(scores, 200)
    endpoint = endpoint_at("/v1/moderations")
    schema = result_schema(endpoint, None, model="x", column=None, flatten=True, options={})
    assert schema is not None
    assert "categories.pii" in (schema.fault(answer.text or "") or "")
