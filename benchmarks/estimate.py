"""Foreseeing the cost of 1,000,000 rows: requests, tokens and dollars before anything is sent.

    python benchmarks/estimate.py [ROWS]

Ours makes every request, finds repeated ones and counts tokens in a sample; the last lines
count them all, to show how far off the sample is, and how long mistral-common's own way takes
(a hundredth of the rows, scaled up). Seconds are of CPU.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings

import pandas as pd
from jsonl import Meter

import mistral_nb as mnb
from mistral_nb import tokens

LABELS = ["billing", "delivery", "returns", "other"]
SYSTEM = "You sort messages of customers."
MODEL = "mistral-large-latest"
PEER_SHARE = 100
WORDS = ("order", "invoice", "parcel", "refund", "late", "please", "Lyon", "été", "4711", "thanks")


def table(rows: int) -> pd.DataFrame:
    """Texts of five to sixty words, all different."""
    texts = (" ".join(WORDS[(n * k) % 10] for k in range(1, 6 + n % 55)) for n in range(rows))
    return pd.DataFrame({"text": [f"{n}: {text}" for n, text in enumerate(texts)]})


def messages(text: str) -> list[dict[str, str]]:
    """What is asked of a row."""
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"Which topic? {text}"},
    ]


def peer(texts: list[str]) -> float:
    """CPU seconds of mistral-common's own class for these rows."""
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    tokenizer = MistralTokenizer.v3(is_tekken=True, is_mm=True)
    began = time.process_time()
    for text in texts:
        tokenizer.encode_chat_completion(ChatCompletionRequest(messages=messages(text)))
    return time.process_time() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    df = table(parser.parse_args().rows)
    tokens.load()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        session = mnb.connect(home=home)
        options = {"labels": LABELS, "system": SYSTEM, "model": MODEL}
        with Meter() as meter:
            found = session.label(df, "Which topic? {text}", dry_run=True, **options)
    low, high = found.forecast.prompt
    began = time.process_time()
    name, _ = tokens.tokenizer_of(MODEL)
    exact = sum(tokens.count_prompt(messages(text), None, name) for text in df["text"])
    all_seconds = time.process_time() - began
    with warnings.catch_warnings(action="ignore"):
        own = PEER_SHARE * peer(df["text"].iloc[::PEER_SHARE].tolist())
    print(f"{len(df):,} rows, {found.forecast.bytes / 1e6:,.0f} MB of requests")
    print(f"dry_run=True             {meter.cpu:6.1f} s, {meter.extra:,.0f} MB on top of the table")
    print(f"every token counted      {all_seconds:6.1f} s")
    print(f"mistral-common's way     {own:6.1f} s")
    print(f"tokens: {low:,.0f} to {high:,.0f}, really {exact:,}; bounds {high / low - 1:.2%} apart")


if __name__ == "__main__":
    main()
