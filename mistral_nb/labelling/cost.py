"""What a run will cost, before anything is sent: requests, tokens and dollars, from low to high.

Every row's request is made, which is quick and finds rows that cannot be sent; repeated and
already answered requests cost nothing and are left out. Tokens are counted in all of them, or
in a sample that is the same in every process: the requests with the smallest content hashes.
"""

from __future__ import annotations

import heapq
import os
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from mistral_nb import tokens
from mistral_nb.labelling.prices import Price, price_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mistral_nb.labelling.schemas import Column, Schema

__all__ = ["Amount", "Forecast", "Guess", "Tally", "forecast", "guess_reply"]

COUNTED = 10_000
"""Up to so many requests all are counted; of more, so many at most."""
COUNTED_BYTES = 16_000_000
"""Most bytes of requests counted: 0.7 s of work."""
ERRORS = 3.0
"""Standard errors on either side of what a sample says."""
ESTIMATED = 0.1
"""Share that the tokenizer at hand may be off for a model that has another one."""
TEXT_TOKENS = 100
"""Longest text of a schema's field, as a guess."""
REPLY_TOKENS = 1000
"""Longest free reply where max_tokens sets no limit, as a guess."""
THOUGHT_TOKENS = 4000
"""Longest thinking of a model that reasons, likewise."""
IMAGE = (64, 4160)
"""Tokens of a small and of the largest image: nobody looks at them before they are sent."""
SHARED = 64
"""A beginning that all requests share may be cached by the server from so many tokens on."""
_BLOCK = 2_000


class Amount(NamedTuple):
    """Something known within bounds."""

    low: float
    high: float

    def times(self, low: float, high: float | None = None) -> Amount:
        """Return it multiplied, at each end by its own factor."""
        return Amount(self.low * low, self.high * (low if high is None else high))


class Guess(NamedTuple):
    """Tokens of one reply, and in words where the figures are from."""

    tokens: Amount
    rule: str


@dataclass(frozen=True)
class Forecast:
    """What requests will come to.

    Attributes:
        requests: How many there are.
        bytes: Their bytes.
        counted: In how many of them tokens were counted.
        tokenizer: What counted them.
        own: Whether it is the model's own; else its counts are an estimate.
        prompt: Tokens of all prompts.
        completion: Tokens of all replies.
        shared: Tokens at the beginning of each prompt that all have in common.
        images: How many images there are.
        cost: US dollars; None where the model's price is not known.
    """

    requests: int
    bytes: int
    counted: int
    tokenizer: str
    own: bool
    prompt: Amount
    completion: Amount
    shared: int
    images: int
    cost: Amount | None


class Tally:
    """Takes requests one by one, in little memory: 16 bytes each, and a sample of bodies.

    Args:
        reuse: Finds answers of earlier runs: content hashes -> those that have one.
        counted: Size of the sample.
        counted_bytes: Most bytes in it.

    Attributes:
        rows: Rows seen.
        unsent: Rows that cannot be sent.
        reused: Requests answered in earlier runs.
        first: Bodies of the first requests.
    """

    FIRST = 3

    def __init__(
        self,
        reuse: Callable[[Sequence[bytes]], Iterable[bytes]] | None = None,
        *,
        counted: int = COUNTED,
        counted_bytes: int = COUNTED_BYTES,
    ) -> None:
        self._reuse = reuse
        self._most = counted
        self._most_bytes = counted_bytes
        self._pending: dict[bytes, bytes] = {}
        self._pending_bytes = 0
        self._keys, self._sizes = array("Q"), array("Q")
        self._sample: dict[int, bytes] = {}
        self._heap: list[int] = []  # the keys of the sample, negative: the largest on top
        self._held = 0
        self._below = 1 << 64
        self._reused: set[int] = set()
        self.rows = self.unsent = 0
        self.first: list[bytes] = []

    def add(self, digest: bytes | None, body: bytes) -> None:
        """Take a row's request; ``digest`` is None for a row that cannot be sent."""
        self.rows += 1
        if digest is None:
            self.unsent += 1
            return
        if len(self.first) < self.FIRST:
            self.first.append(body)
        self._pending[digest] = body
        self._pending_bytes += len(body)
        if len(self._pending) >= _BLOCK or self._pending_bytes >= self._most_bytes:
            self._settle()

    @property
    def reused(self) -> int:
        """How many different requests were answered in earlier runs."""
        self._settle()
        return len(self._reused)

    def distinct(self) -> tuple[int, int]:
        """Return how many different requests have to be sent, and their bytes."""
        self._settle()
        keys = np.array(self._keys, dtype=np.uint64)
        _, first = np.unique(keys, return_index=True)
        return int(first.size), int(np.array(self._sizes, dtype=np.uint64)[first].sum())

    @property
    def sample(self) -> list[bytes]:
        """Bodies with the smallest content hashes: a random sample, the same every time."""
        self._settle()
        return list(self._sample.values())

    def _settle(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, {}, 0
        known = set(self._reuse(list(pending))) if self._reuse and pending else set()
        for digest, body in pending.items():
            key = int.from_bytes(digest[:8], "big")
            if digest in known:
                self._reused.add(key)
                continue
            self._keys.append(key)
            self._sizes.append(len(body))
            if key < self._below and key not in self._sample:
                self._take(key, body)

    def _take(self, key: int, body: bytes) -> None:
        self._sample[key] = body
        self._held += len(body)
        heapq.heappush(self._heap, -key)
        while len(self._heap) > self._most or (
            self._held > self._most_bytes and len(self._heap) > 1
        ):
            self._below = -heapq.heappop(self._heap)
            self._held -= len(self._sample.pop(self._below))


def forecast(tally: Tally, model: str, reply: Guess, *, batch: bool) -> Forecast:
    """Work out what requests will come to.

    Args:
        tally: The requests.
        model: Model that answers.
        reply: Tokens of one reply.
        batch: True for the Batch API, at half the price.

    Returns:
        Tokens and dollars from low to high. Low is the least that can be: the beginning that
        all prompts share is taken as cached by the server. Requests that have to be repeated
        are not in it.
    """
    name, own = tokens.tokenizer_of(model)
    bodies = [orjson.loads(body) for body in tally.sample]
    pictures = np.array([_images(body) for body in bodies], dtype=float)
    counts = np.array([body_tokens(body, name) for body in bodies], dtype=float)
    counts -= tokens.IMAGE_TOKENS * pictures
    sizes = np.array([len(body) for body in tally.sample], dtype=float)
    requests, size = tally.distinct()
    prompt = project(sizes, counts, requests, size)
    if not own:
        prompt = prompt.times(1 - ESTIMATED, 1 + ESTIMATED)
    images = float(pictures.sum()) * requests / max(1, len(bodies))
    prompt = Amount(prompt.low + images * IMAGE[0], prompt.high + images * IMAGE[1])
    completion = reply.tokens.times(requests)
    shared = _shared(bodies, name)
    return Forecast(
        requests,
        size,
        len(counts),
        name,
        own,
        prompt,
        completion,
        shared,
        round(images),
        _cost(price_of(model, batch=batch), prompt, completion, shared * max(0, requests - 1)),
    )


def _cost(price: Price | None, prompt: Amount, completion: Amount, cached: int) -> Amount | None:
    if price is None:
        return None
    return Amount(
        price.of(prompt.low, completion.low, cached), price.of(prompt.high, completion.high)
    )


def project(sizes: Any, counts: Any, requests: int, size: int) -> Amount:
    """Carry tokens counted in a sample over to all requests, whose bytes are known.

    Args:
        sizes: Bytes of each request in the sample, shape (sample,).
        counts: Tokens of each, shape (sample,).
        requests: How many requests there are.
        size: Their bytes.

    Returns:
        Tokens of all, three standard errors on either side; exact if all were counted.

    Source:
        The regression estimator of survey sampling (W. G. Cochran, Sampling Techniques, 7).
    """
    sampled = len(counts)
    if sampled == requests:
        return Amount(float(counts.sum()), float(counts.sum()))
    spread = float(((sizes - sizes.mean()) ** 2).sum())
    slope = float(((sizes - sizes.mean()) * counts).sum()) / spread if spread else 0.0
    total = requests * (counts.mean() + slope * (size / requests - sizes.mean()))
    rest = counts - counts.mean() - slope * (sizes - sizes.mean())
    if sampled <= 2:  # noqa: PLR2004 - a line through two points leaves no rest
        return Amount(float(counts.sum()), max(2 * total, float(counts.sum())))
    deviation = (float((rest**2).sum()) / (sampled - 2)) ** 0.5
    error = ERRORS * requests * deviation * ((1 - sampled / requests) / sampled) ** 0.5
    return Amount(max(total - error, float(counts.sum())), total + error)


def body_tokens(body: dict[str, Any], name: str) -> int:
    """Count the prompt of a request body, of any endpoint.

    Args:
        body: The body, parsed.
        name: The tokenizer.
    """
    try:
        if "messages" in body:
            return tokens.count_prompt(body["messages"], body.get("tools"), name)
        return sum(_any(body.get(key), name) for key in ("input", "inputs", "prompt", "suffix"))
    except (KeyError, TypeError, AttributeError):  # messages of the caller's own making
        return len(orjson.dumps(body)) // 4


def _images(body: dict[str, Any]) -> int:
    """Count the images in a request's messages."""
    try:
        contents = [message.get("content") for message in body.get("messages", ())]
        chunks = [each for content in contents if isinstance(content, list) for each in content]
        return sum(1 for each in chunks if each.get("type") == "image_url")
    except AttributeError:
        return 0


def _any(given: Any, name: str) -> int:
    if isinstance(given, str):
        return tokens.count(given, name)
    if isinstance(given, dict):
        return tokens.count_prompt([given] if "content" in given else given["messages"], None, name)
    return sum(_any(each, name) for each in given or ())


def _shared(bodies: list[dict[str, Any]], name: str) -> int:
    """Count the beginning that all chat prompts have in common, if a server would cache it."""
    told = [
        "\n".join(str(message.get("content")) for message in body["messages"])
        for body in bodies
        if isinstance(body.get("messages"), list)
        and all(isinstance(message, dict) for message in body["messages"])
    ]
    if len(told) < 2:  # noqa: PLR2004 - nothing to share with
        return 0
    both = [min(told), max(told)]  # what these two share, all in between do
    found = tokens.count(os.path.commonprefix(both), name)  # noqa: RUF071 - by characters
    return found if found >= SHARED else 0


def guess_reply(schema: Schema | None, options: dict[str, Any], model: str, endpoint: str) -> Guess:
    """Guess how long a reply will be.

    Args:
        schema: What it must look like, or None for free text.
        options: Options of the requests.
        model: Model that answers.
        endpoint: API path that answers.

    Returns:
        Tokens from low to high, and the rule in words.
    """
    if not endpoint.endswith(("/chat/completions", "/fim/completions", "/conversations")):
        return Guess(Amount(0, 0), "this endpoint bills none")
    limit = options.get("max_tokens")
    limit = limit if isinstance(limit, int) else None
    if schema is None:
        low, high, rule = 1, limit or REPLY_TOKENS, "free text up to max_tokens"
        if limit is None:
            rule = f"free text, a guess of up to {REPLY_TOKENS:,} tokens: no max_tokens is set"
    else:
        low, high, texts = _schema_tokens(schema.columns, tokens.tokenizer_of(model)[0])
        rule = "the shortest and the longest JSON that fits the schema"
        if texts:
            rule += f"; each text or list in it is a guess of up to {TEXT_TOKENS} tokens"
    if _reasons(model, options):
        high += THOUGHT_TOKENS
        rule += f"; and thinking, a guess of up to {THOUGHT_TOKENS:,} tokens"
    if limit is not None and limit < high:
        low, high = min(low, limit), limit
        rule += "" if schema is None else "; max_tokens cuts it"
    return Guess(Amount(low, high), rule)


def _reasons(model: str, options: dict[str, Any]) -> bool:
    effort = options.get("reasoning_effort")
    return model.startswith("magistral") or (effort is not None and effort != "none")


def _schema_tokens(columns: Sequence[Column], name: str) -> tuple[int, int, int]:
    """Return tokens of the shortest and the longest reply, and how many parts are a guess."""
    shortest: dict[str, Any] = {}
    longest: dict[str, Any] = {}
    guessed = 0
    for column in columns:
        short, long, free = _values(column, name)
        guessed += free
        _place(shortest, column.path, short)
        _place(longest, column.path, long)
    end = 1
    low = tokens.count(orjson.dumps(shortest).decode(), name)
    high = tokens.count(orjson.dumps(longest, option=orjson.OPT_INDENT_2).decode(), name)
    return low + end, high + guessed * TEXT_TOKENS + end, guessed


def _values(column: Column, name: str) -> tuple[Any, Any, bool]:
    """Return a column's shortest and longest value, and whether the latter is a guess."""
    if column.kind == "category":
        ranked = sorted(
            column.categories, key=lambda each: tokens.count(orjson.dumps(each).decode(), name)
        )
        return ranked[0], ranked[-1], False
    if column.kind == "boolean":
        return True, False, False
    if column.kind == "integer":
        return 1, -(10**9), False
    if column.kind == "number":
        return 1, -0.123456789, False
    return ("", "", True) if column.kind == "string" else ([], [], True)


def _place(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
