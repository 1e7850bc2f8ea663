"""What a run came to: tokens as billed, and its end in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mistral_nb.labelling.prices import PRICES_OF, dollars, price_of
from mistral_nb.usage import Usage

if TYPE_CHECKING:
    from mistral_nb.labelling.ledger import Ledger, RunRecord

__all__ = ["cost_parts", "spent", "summary", "usage_of"]


def usage_of(ledger: Ledger) -> Usage:
    """Return the tokens billed so far, those of failed and repeated requests included."""
    sent, received, cached = ledger.usage()
    return Usage(sent, received, sent + received, cached)


def spent(ledger: Ledger, model: str) -> float | None:
    """Return what was billed so far, in US dollars by list price.

    Args:
        ledger: The run's ledger.
        model: Model that answered.

    Returns:
        US dollars, or None where they are not known: see :func:`cost_parts`.
    """
    parts = cost_parts(ledger, model)
    return None if parts is None else sum(parts.values())


def cost_parts(ledger: Ledger, model: str) -> dict[str, float] | None:
    """Return what was billed so far by kind of token, in US dollars by list price.

    A run that was moved from one engine to the other has answers of both prices: those of
    the Batch API have a shard.

    Args:
        ledger: The run's ledger.
        model: Model that answered.

    Returns:
        ``prompt``, ``reply`` and, where there is any, ``cached prompt`` -> US dollars; None
        where the model's price is not known, or an answer came without its tokens, as those
        of moderations and classifications do.
    """
    sql = (
        "SELECT shard IS NOT NULL, SUM(prompt_tokens), SUM(completion_tokens), "
        "SUM(cached_tokens), SUM(text IS NOT NULL AND prompt_tokens = 0) "
        "FROM attempt WHERE number > 0 GROUP BY 1"
    )
    with ledger.reading() as db:
        bills = [tuple(row) for row in db.execute(sql)]
    parts = {"prompt": 0.0, "cached prompt": 0.0, "reply": 0.0}
    for batch, prompt, completion, kept, uncounted in [*bills, (0, 0, 0, 0, 0)]:
        price = price_of(model, batch=bool(batch))
        if price is None or uncounted:
            return None
        cached = min(kept, prompt)
        parts["prompt"] += price.of(prompt - cached, 0)
        parts["cached prompt"] += price.of(cached, 0, cached)
        parts["reply"] += price.of(0, completion)
    return {kind: paid for kind, paid in parts.items() if paid or kind != "cached prompt"}


def summary(ledger: Ledger, record: RunRecord) -> str:
    """Sum up a run in one line.

    Args:
        ledger: The run's ledger.
        record: What the run is.

    Returns:
        Rows, tokens and cost; failures, reuse and findings where there are any, and the way
        on where it was cancelled.
    """
    counts, usage = ledger.counts(), usage_of(ledger)
    parts = [f"{counts['done']:,} of {counts['total']:,} rows labelled"]
    if counts["failed"]:
        parts.append(f"{counts['failed']:,} failed (see the error column and run.errors)")
    if counts["reused"]:
        parts.append(f"{counts['reused']:,} answers taken over from earlier runs at no cost")
    paid = spent(ledger, record.model)
    if paid is not None:
        price = f"{dollars(paid)} by list price of {PRICES_OF}"
    elif price_of(record.model, batch=False) is None:
        price = "price not known"
    else:
        price = "cost not known: the server does not say how many tokens it bills here"
    parts.append(f"{usage.total_tokens:,} tokens, {price}")
    if extended := _extended(ledger, record, usage):
        parts.append(extended)
    uncertain = ledger.count_findings("uncertain")
    if uncertain:
        parts.append(
            f"{uncertain:,} requests were sent again: their end was uncertain when the run was "
            "left (see run.report)"
        )
    findings = len(ledger.findings()) - uncertain
    if findings:
        odd = "1 oddity" if findings == 1 else f"{findings:,} oddities"
        parts.append(f"{odd} in the answers (see run.report)")
    if record.status == "cancelled" and counts["failed"]:
        parts.append("it was cancelled: run.retry_failed() sends what has no answer")
    return "; ".join(parts) + "."


def _extended(ledger: Ledger, record: RunRecord, usage: Usage) -> str:
    """Say of a sample what all rows would cost, if they are like those that were billed."""
    whole = record.spec.get("sample_of")
    with ledger.reading() as db:
        sql = "SELECT COUNT(DISTINCT row) FROM attempt WHERE number > 0 AND prompt_tokens > 0"
        billed = db.execute(sql).fetchone()[0]
    if not whole or not billed:
        return ""
    price = price_of(record.model, batch=whole["mode"] == "batch")
    factor = whole["rows"] / billed
    amount = None
    if price is not None:
        amount = price.of(
            usage.prompt_tokens * factor,
            usage.completion_tokens * factor,
            usage.cached_tokens * factor,
        )
    return (
        f"all {whole['rows']:,} rows would cost about {dollars(amount)} in {whole['mode']} mode, "
        "where these answers are taken over"
    )
