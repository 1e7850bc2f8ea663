"""Laws of reading answers: all forms understood, nothing dropped, nothing mis-assigned."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from mistral_nb.labelling.answers import Audit, chat_answer, error_text, line_answer
from mistral_nb.labelling.ledger import Answer
from mistral_nb.labelling.recipe import custom_id
from mistral_nb.labelling.results import reader_at
from tests.conftest import SHARED

if TYPE_CHECKING:
    from pathlib import Path

REQUESTS = {row: hashlib.blake2b(b"%d" % row, digest_size=16).digest() for row in range(5)}


def good(row: int, text: str = "hi") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
    response = {"status_code": 200, "body": body}
    name = custom_id(row, REQUESTS[row])
    return {"id": "x", "custom_id": name, "response": response, "error": None}


def read(folder: Path, *lines: object, validate: Any = None) -> tuple[dict[int, Any], Audit]:
    path = folder / "output.jsonl"
    parts = [line if isinstance(line, bytes) else orjson.dumps(line) for line in lines]
    path.write_bytes(b"\n".join(parts) + b"\n")
    audit = Audit(REQUESTS.items(), validate)
    return dict(audit.read(path, "output")), audit


def test_answers_come_in_any_order(tmp_path: Path) -> None:
    """Each line goes to the row in its id, whatever the order."""
    answers, audit = read(tmp_path, *[good(row, f"text {row}") for row in (3, 0, 4, 1, 2)])
    assert {row: answer.text for row, answer in answers.items()} == {
        n: f"text {n}" for n in range(5)
    }
    assert not audit.findings
    assert not audit.open


def test_what_is_odd_is_a_finding(tmp_path: Path) -> None:
    """Duplicates, strangers, other contents, nameless and broken lines are told, with place."""
    other = {**good(1), "custom_id": custom_id(1, b"\x00" * 16)}
    nameless = {**good(2), "custom_id": None}
    stranger = {**good(2), "custom_id": "r99-0123456789abcdef"}
    cut = orjson.dumps(good(2))[:40]
    answers, audit = read(
        tmp_path, good(0, "first"), good(0, "second"), other, nameless, stranger, [1], b"", cut
    )
    assert {row: answer.text for row, answer in answers.items()} == {0: "first"}
    kinds = [finding.kind for finding in audit.findings]
    assert kinds == ["duplicate", "unknown", "unknown", "unknown", "unknown", "unreadable"]
    assert "line 8 of the output file" in audit.findings[-1].detail
    assert sorted(audit.open) == [1, 2, 3, 4]


def test_missing_answers_are_said_to_be_missing(tmp_path: Path) -> None:
    """Every request without a line gets the reason as its error."""
    _, audit = read(tmp_path, good(0))
    missing = dict(audit.missing("gone", again=True))
    assert sorted(missing) == [1, 2, 3, 4]
    assert {answer.error for answer in missing.values()} == {"gone"}
    assert not audit.open


@pytest.mark.parametrize(
    ("response", "error", "words", "again"),
    [
        (None, "It failed", "It failed", True),
        (None, {"message": "It failed", "code": 500}, "It failed (500)", True),
        (None, {"message": "Bad", "code": "1300"}, "Bad", True),
        (
            {"status_code": 422, "body": {"detail": [{"msg": "too long"}]}},
            None,
            "too long (422)",
            False,
        ),
        ({"status_code": 500, "body": {"message": "Oops"}}, None, "Oops (500)", True),
        ({"status_code": 429, "body": "slow down"}, None, "slow down (429)", True),
        ({"status_code": 400, "body": None}, None, "the server gave no reason (400)", False),
        (None, None, "the server gave no reason", True),
        ({"status_code": 200, "body": None}, None, "the server gave no reason (200)", False),
    ],
)
def test_every_form_of_error_is_read(response: Any, error: Any, words: str, again: bool) -> None:
    """The reason is a text, an object, or in the response; only passing ones are repeated."""
    answer = line_answer({"custom_id": "x", "response": response, "error": error})
    assert (answer.error, answer.again) == (words, again)


def test_error_texts_are_short_single_lines() -> None:
    """Nested, listed and endless errors become one short line."""
    assert error_text({"error": {"message": {"detail": "a\n  b"}}}) == "a b"
    assert error_text([{"msg": "a"}, "b"]) == "a; b"
    assert len(error_text("x" * 10_000)) == 500
    assert error_text({"odd": 1}) == '{"odd":1}'
    assert error_text("red \x1b[31malert\x07") == "red [31malert"


def nested(part: bytes, end: bytes) -> Any:
    """A value that can be read, but is nested deeper than it can be written."""
    return orjson.loads(part * 500 + b"1" + end * 500)


@pytest.mark.parametrize("deep", [nested(b'{"a":', b"}"), nested(b"[", b"]")], ids=["{", "["])
def test_nesting_harms_no_other_row(deep: Any) -> None:
    """A reply or an error nested beyond all sense is an error of its own row."""
    assert error_text(deep) == "nested too deeply"
    for path, body in {
        "/v1/embeddings": {"data": [{"embedding": [deep]}]},
        "/v1/moderations": {"results": [{"categories": {}, "category_scores": {"x": deep}}]},
        "/v1/classifications": {"results": [{"topic": {"scores": {"a": 1, "b": deep}}}]},
    }.items():
        assert reader_at(path)(body, 200).error == "the reply is nested too deeply"


@pytest.mark.parametrize("status", [2**70, -1, True, "500", 2.5, [500]])
def test_a_status_that_is_none_is_left_out(status: Any) -> None:
    """What cannot be an HTTP status is none: a ledger could not even hold each of them."""
    for line in (
        {"response": {"status_code": status}, "error": "no"},
        {"response": None, "error": {"message": "no", "code": status}},
    ):
        assert line_answer({"custom_id": "x", **line}) == Answer(error="no", again=True)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "so"},
            ],
            "so",
        ),
        (
            [
                {"type": "text", "text": "a"},
                {"type": "reference", "reference_ids": [1]},
                {"type": "text", "text": "b"},
            ],
            "ab",
        ),
        (None, None),
        ([], None),
        (5, None),
    ],
)
def test_content_of_any_shape_is_read(content: Any, text: str | None) -> None:
    """Texts are joined, thinking is left out, a reply without text is an error."""
    answer = chat_answer({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})
    assert answer.text == text
    assert (answer.error is None) == (text is not None)


def test_a_cut_reply_is_not_a_whole_one() -> None:
    """finish_reason "length" is an error that keeps the text and is not repeated."""
    answer = chat_answer({"choices": [{"message": {"content": "half"}, "finish_reason": "length"}]})
    assert answer.text == "half"
    assert "length" in answer.error
    assert not answer.again


@pytest.mark.parametrize(
    "body", [{}, {"choices": 1}, {"choices": [5]}, {"choices": [{"message": 1}], "usage": [1]}]
)
def test_a_reply_of_another_shape_is_an_error(body: dict[str, Any]) -> None:
    """Whatever the server sends, a row gets an error and the reading goes on."""
    assert chat_answer(body).error == "the reply holds no text"


def test_tokens_are_counted_also_for_unusable_replies(tmp_path: Path) -> None:
    """An invalid reply was paid for: its tokens and its text are kept."""
    answers, _ = read(tmp_path, good(0, "nonsense"), validate=lambda text: f"{text} is wrong")
    answer = answers[0]
    assert (answer.error, answer.text, answer.again) == ("nonsense is wrong", "nonsense", True)
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 2)


@pytest.mark.parametrize(
    "path", sorted((SHARED / "wire" / "recorded").rglob("*.json")), ids=lambda p: p.stem
)
def test_recorded_replies_are_read(path: Path) -> None:
    """Real chat replies recorded elsewhere give a text or a clear reason."""
    data = orjson.loads(path.read_bytes())
    bodies = [each for each in _walk(data) if "choices" in each]
    for body in bodies:
        answer = chat_answer(body)
        assert (answer.text is None) == (answer.error is not None) or answer.finish == "length"


def _walk(data: Any) -> list[dict[str, Any]]:
    if isinstance(data, list):
        return [found for each in data for found in _walk(each)]
    if isinstance(data, dict):
        return [data, *[found for each in data.values() for found in _walk(each)]]
    return []
