"""Laws of foreseeing cost: the true figures lie between low and high."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mistral_nb import tokens
from mistral_nb.labelling import cost
from mistral_nb.labelling.cost import Amount, Guess, Tally, body_tokens, forecast, guess_reply
from mistral_nb.labelling.schemas import compile_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

CHAT = "/v1/chat/completions"
MODEL = "mistral-large-latest"
REPLY = Guess(Amount(5, 10), "a rule")


def body(text: str, system: str = "") -> bytes:
    messages = [{"role": "system", "content": system}] if system else []
    return orjson.dumps({"messages": [*messages, {"role": "user", "content": text}]})


def tally(bodies: Iterable[bytes], **options: int) -> Tally:
    made = Tally(**options)
    for each in bodies:
        made.add(hashlib.blake2b(each, digest_size=16).digest(), each)
    return made


def exact(bodies: list[bytes]) -> int:
    name, _ = tokens.tokenizer_of(MODEL)
    return sum(body_tokens(orjson.loads(each), name) for each in set(bodies))


@settings(deadline=None)  # the tokenizer is read in the first example
@given(st.lists(st.sampled_from([body(f"row {n}") for n in range(20)]), max_size=60))
def test_equal_requests_count_once(bodies: list[bytes]) -> None:
    """Requests, bytes and tokens are those of the different ones, however they are mixed."""
    made = tally(bodies)
    assert made.rows == len(bodies)
    assert made.distinct() == (len(set(bodies)), sum(map(len, set(bodies))))
    assert sorted(made.sample) == sorted(set(bodies))
    cast = forecast(made, MODEL, REPLY, batch=True)
    assert cast.prompt == (exact(bodies), exact(bodies))


def test_requests_answered_before_and_rows_unsent_cost_nothing() -> None:
    """They are counted apart, and no token of theirs is."""
    bodies = [body(f"row {n}") for n in range(10)]
    digests = [hashlib.blake2b(each, digest_size=16).digest() for each in bodies]
    made = Tally(lambda asked: [each for each in asked if each in digests[:4]])
    for digest, each in zip(digests, bodies, strict=True):
        made.add(digest, each)
    made.add(None, b"")
    assert (made.rows, made.unsent, made.reused, made.distinct()[0]) == (11, 1, 4, 6)
    assert forecast(made, MODEL, REPLY, batch=True).prompt.low == exact(bodies[4:])


@pytest.mark.parametrize("spread", ["equal", "mixed"])
def test_a_sample_says_within_its_bounds_what_all_come_to(spread: str) -> None:
    """The true number of tokens lies within three standard errors, and these are narrow."""
    random = np.random.default_rng(7)
    words = ["parcel", "Rechnung", "déjà", "refund", "🃏", "x1", "the", "invoice 4711"]
    bodies = [
        body(" ".join(random.choice(words, 20 if spread == "equal" else random.integers(1, 60))))
        for _ in range(3000)
    ]
    cast = forecast(tally(bodies, counted=500), MODEL, REPLY, batch=True)
    assert cast.counted == 500
    assert cast.prompt.low <= exact(bodies) <= cast.prompt.high
    assert cast.prompt.high - cast.prompt.low < 0.1 * exact(bodies)


def test_a_sample_is_the_same_whatever_the_order() -> None:
    """The requests counted depend on the contents alone."""
    bodies = [body(f"row {n} " * (n % 7)) for n in range(2000)]
    one, other = tally(bodies, counted=100), tally(reversed(bodies), counted=100)
    assert sorted(one.sample) == sorted(other.sample)
    assert len(one.sample) == 100


def test_large_requests_do_not_fill_the_memory() -> None:
    """The sample is bounded in bytes, too, but never empty."""
    bodies = [body(f"{n} " * 50_000) for n in range(10)]
    made = tally(bodies, counted_bytes=600_000)
    assert 1 <= len(made.sample) < 10
    assert sum(map(len, made.sample)) <= 600_000
    one = tally(bodies, counted_bytes=10)
    cast = forecast(one, MODEL, REPLY, batch=True)
    assert cast.counted == 1
    assert cast.prompt.low <= exact(bodies) <= cast.prompt.high


def test_a_common_beginning_may_be_cached() -> None:
    """Low is lower where all prompts begin alike; high is what it would be without a cache."""
    long = [body(f"row {n}", "Label with care. " * 100) for n in range(50)]
    cast = forecast(tally(long), MODEL, REPLY, batch=False)
    assert cast.cost
    assert cast.shared > 300
    assert cast.cost.low < 0.5 * cast.cost.high
    short = forecast(
        tally([body(f"row {n}", "Label.") for n in range(50)]), MODEL, REPLY, batch=False
    )
    assert short.shared == 0


def test_a_model_with_another_tokenizer_is_an_estimate() -> None:
    """The bounds are wider by a tenth on either side, and an unknown price is None."""
    bodies = [body("hello there")]
    cast = forecast(tally(bodies), "mistral-medium-latest", REPLY, batch=True)
    assert not cast.own
    assert cast.prompt == pytest.approx((0.9 * exact(bodies), 1.1 * exact(bodies)))
    assert forecast(tally(bodies), "mine", REPLY, batch=True).cost is None


def test_images_are_taken_as_small_and_as_large() -> None:
    """Nobody looks at an image before it is sent, so the bounds are far apart."""
    chunk = {"type": "image_url", "image_url": "https://example.com/a.png"}
    content = [{"type": "text", "text": "What is it?"}, chunk, chunk]
    made = tally([orjson.dumps({"messages": [{"role": "user", "content": content}]})])
    cast = forecast(made, MODEL, REPLY, batch=True)
    assert cast.images == 2
    text = exact([body("What is it?")])
    assert cast.prompt == (text + 2 * cost.IMAGE[0], text + 2 * cost.IMAGE[1])


@pytest.mark.parametrize(
    "given",
    [
        {"input": "hello there"},
        {"input": ["hello there", "hello there"]},
        {"input": [{"role": "user", "content": "hello there"}]},
        {"input": {"messages": [{"role": "user", "content": "hello there"}]}},
        {"prompt": "hello there", "suffix": "end"},
        {"messages": [{"role": "user"}, 7]},
        {"document": {"type": "document_url", "document_url": "https://example.com/a.pdf"}},
    ],
)
def test_every_endpoints_body_has_a_count(given: dict) -> None:
    """Bodies of other endpoints are counted, and malformed ones break nothing."""
    counted = body_tokens(given, "tekken_240911")
    assert counted >= (0 if "document" in given else 2)


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


@dataclass
class Answer:
    mood: Mood
    sure: bool
    stars: int
    price: float


@pytest.mark.parametrize(
    ("schema", "replies"),
    [
        (
            Literal["a", "a much longer label"],
            ['{"label":"a"}', '{"label": "a much longer label"}'],
        ),
        (
            Answer,
            [
                '{"mood":"bad","sure":true,"stars":1,"price":2.0}',
                '{\n  "mood": "good",\n  "sure": false,\n  "stars": 12345,\n  "price": 1.2345\n}',
            ],
        ),
    ],
)
def test_a_reply_of_a_schema_is_within_the_guess(schema: type, replies: list[str]) -> None:
    """Short and long replies that fit the schema have no fewer and no more tokens."""
    guess = guess_reply(compile_schema(schema), {}, MODEL, CHAT)
    for reply in replies:
        assert guess.tokens.low <= tokens.count(reply) + 1 <= guess.tokens.high


def test_the_rule_says_where_the_figures_are_from() -> None:
    """Limits, free texts, thinking and endpoints that write nothing are each told."""
    free = guess_reply(None, {}, MODEL, CHAT)
    assert free.tokens == (1, cost.REPLY_TOKENS)
    assert "no max_tokens" in free.rule
    assert guess_reply(None, {"max_tokens": 7}, MODEL, CHAT).tokens == (1, 7)
    thinking = guess_reply(None, {"max_tokens": 7}, "magistral-small-latest", CHAT)
    assert thinking.tokens == (1, 7)
    assert "thinking" in thinking.rule
    text = {"type": "object", "properties": {"why": {"type": "string"}}}
    assert "a guess of up to" in guess_reply(compile_schema(text), {}, MODEL, CHAT).rule
    cut = guess_reply(compile_schema(text), {"max_tokens": 3}, MODEL, CHAT)
    assert cut.tokens == (3, 3)
    assert guess_reply(None, {}, "mistral-embed", "/v1/embeddings").tokens == (0, 0)
