"""What a run came to: tokens as billed, and its end in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mistral_nb.labelling.prices import PRICES_OF, cost
from mistral_nb.replies import Usage

if TYPE_CHECKING:
    from mistral_nb.labelling.ledger import Ledger, RunRecord

__all__ = ["summary", "usage_of"]


def usage_of(ledger: Ledger) -> Usage:
    """Return the tokens billed so far, those of failed and repeated requests included."""
    sent, received, cached = ledger.usage()
    return Usage(sent, received, sent + received, cached)


def summary(ledger: Ledger, record: RunRecord) -> str:
    """Sum up a run in one line.

    Args:
        ledger: The run's ledger.
        record: What the run is.

    Returns:
        Rows, tokens and cost; failures, reuse and findings where there are any.
    """
    counts, usage = ledger.counts(), usage_of(ledger)
    parts = [f"{counts['done']:,} of {counts['total']:,} rows labelled"]
    if counts["failed"]:
        parts.append(f"{counts['failed']:,} failed (see the error column and run.errors)")
    if counts["reused"]:
        parts.append(f"{counts['reused']:,} answers taken over from earlier runs at no cost")
    dollars = cost(usage, record.model, batch=record.mode == "batch")
    price = (
        "price not known" if dollars is None else f"${dollars:,.4f} by list price of {PRICES_OF}"
    )
    parts.append(f"{usage.total_tokens:,} tokens, {price}")
    uncertain = ledger.count_findings("uncertain")
    if uncertain:
        parts.append(
            f"{uncertain:,} requests were sent again: their end was uncertain when the run was "
            "left (see run.report)"
        )
    findings = len(ledger.findings()) - uncertain
    if findings:
        parts.append(f"{findings:,} oddities in the answers (see run.report)")
    return "; ".join(parts) + "."
