"""What `dry_run=True` gives: everything a run would send is made and counted, nothing is sent."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.labelling.cost import IMAGE, Forecast, Guess, Tally, forecast, guess_reply
from mistral_nb.labelling.prices import PRICES_OF, dollars, price_of
from mistral_nb.labelling.reports import Line, Listing, Notes, Table, bundle, count
from mistral_nb.labelling.requests import content_digest
from mistral_nb.labelling.reuse import Reuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mistral_nb.labelling.cost import Amount
    from mistral_nb.labelling.plan import Plan
    from mistral_nb.labelling.reports import Part
    from mistral_nb.labelling.requests import Request

__all__ = ["Estimate", "dry_run"]

TEXT_CUT = 600
"""Characters of a message shown."""


@dataclass(frozen=True, repr=False)
class Estimate:
    """What a run would send and cost; it prints as a table, in notebooks and elsewhere.

    Attributes:
        name: What the run would be called.
        mode: ``"batch"``, ``"online"`` or ``"queue"``.
        model: Model that would answer.
        rows: Rows of the table.
        unsent: Rows that cannot be sent.
        repeated: Rows whose request is the same as another row's, which costs nothing.
        reused: Requests whose answer is taken over from an earlier run at no cost.
        forecast: Requests to send, their tokens and cost.
        reply: Tokens of one reply, and the rule.
        requests: Bodies of the first requests.
        max_cost: The limit given, in US dollars.
        started: True if the run is there already and goes on where it was.
    """

    name: str
    mode: str
    model: str
    rows: int
    unsent: int
    repeated: int
    reused: int
    forecast: Forecast
    reply: Guess
    requests: tuple[dict[str, Any], ...]
    max_cost: float | None = None
    started: bool = False

    @property
    def low(self) -> float | None:
        """Least the run would cost, in US dollars; None where the price is not known."""
        return self.forecast.cost.low if self.forecast.cost else None

    @property
    def high(self) -> float | None:
        """Most the run would cost, as far as can be foreseen; None where not known."""
        return self.forecast.cost.high if self.forecast.cost else None

    def __repr__(self) -> str:
        return bundle(self._parts())["text/plain"]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return bundle(self._parts())

    def _parts(self) -> list[Part]:
        cast = self.forecast
        table = Table(
            f"{count(cast.requests, 'request')} to {self.model}, {self._engine()}",
            ["", "low", "high"],
            [
                ["prompt tokens", *_whole(cast.prompt)],
                ["reply tokens", *_whole(cast.completion)],
                ["cost", dollars(self.low), dollars(self.high)],
            ],
            figures=2,
        )
        shown = Listing(
            f"The first {count(len(self.requests), 'request')}" if self.requests else "",
            [_told(body) for body in self.requests],
        )
        lines = [self._rows(), self._counting(), f"Replies: {self.reply.rule}.", self._prices()]
        limit = self._limit()
        return [
            Line("Dry run: nothing was sent.", strong=True),
            table,
            *([Line(limit, strong=True)] if limit else []),
            Notes(lines),
            *([shown] if self.requests else []),
        ]

    def _engine(self) -> str:
        return "as a batch at half the price" if self.mode == "batch" else "online"

    def _rows(self) -> str:
        parts = [count(self.rows)]
        if self.unsent:
            parts.append(f"{self.unsent:,} cannot be sent")
        if self.repeated:
            parts.append(f"{self.repeated:,} ask the same as another")
        if self.reused:
            parts.append(f"{count(self.reused, 'request')} answered before, at no cost")
        begun = " It is there already and would go on." if self.started else ""
        return f"Run {self.name!r}: {'; '.join(parts)}.{begun}"

    def _counting(self) -> str:
        cast = self.forecast
        where = "in every request"
        if cast.counted < cast.requests:
            where = (
                f"in a sample of {cast.counted:,} requests and carried over, "
                "with three standard errors on either side"
            )
        by = f"Tokens: counted {where}, with the tokenizer {cast.tokenizer}"
        if not cast.own:
            by += " (estimated: the model may have another one, so 10 % on either side)"
        if cast.images:
            by += f". Each of {cast.images:,} images is taken as {IMAGE[0]} to {IMAGE[1]:,} tokens"
        if cast.shared:
            by += (
                f". Low takes the {cast.shared:,} tokens that all prompts begin with as cached by "
                "the server"
            )
        return f"{by}. Requests that must be repeated are not counted."

    def _prices(self) -> str:
        price = price_of(self.model, batch=self.mode == "batch")
        if price is None:
            return (
                f"The price of {self.model} is unknown: it is not in the list of {PRICES_OF}. "
                "Unknown does not mean free."
            )
        return (
            f"Price: ${price.prompt:g} for a million prompt tokens, ${price.completion:g} for a "
            f"million reply tokens, by list price of {PRICES_OF}"
            f"{', the batch discount included' if self.mode == 'batch' else ''}."
        )

    def _limit(self) -> str:
        if self.max_cost is None or self.low is None or self.high is None:
            return ""
        limit = f"${self.max_cost:g}"
        if self.low > self.max_cost:
            return f"max_cost={limit} would refuse this run: it costs more in any case."
        if self.high > self.max_cost:
            return f"max_cost={limit} may stop this run before its end."
        return ""


def dry_run(plan: Plan) -> Estimate:
    """Make all requests of a run and work out what they will come to.

    Args:
        plan: The run as asked for.

    Returns:
        The estimate.

    Raises:
        InputError: The prompt fails on a row, or a run of this name has other content.
    """
    with ExitStack() as stack:
        reuse = None
        if plan.reuse:
            model, endpoint = plan.recipe.model, plan.recipe.endpoint
            reuse = stack.enter_context(Reuse(plan.home, plan.server, model, endpoint))
        tally = Tally(reuse)
        digest = content_digest(_counted(plan, tally))
        reused = tally.reused
    folder = plan.settle(digest)
    reply = guess_reply(plan.schema, plan.recipe.options, plan.recipe.model, plan.recipe.endpoint)
    cast = forecast(tally, plan.recipe.model, reply, batch=plan.mode == "batch")
    return Estimate(
        name=plan.name or "",
        mode=plan.mode,
        model=plan.recipe.model,
        rows=tally.rows,
        unsent=tally.unsent,
        repeated=tally.rows - tally.unsent - reused - cast.requests,
        reused=reused,
        forecast=cast,
        reply=reply,
        requests=tuple(orjson.loads(body) for body in tally.first),
        max_cost=plan.options.max_cost,
        started=folder.exists,
    )


def _counted(plan: Plan, tally: Tally) -> Iterator[Request]:
    for request in plan.source.requests(plan.prompt, plan.recipe):
        tally.add(request.digest, request.body)
        yield request


def _whole(amount: Amount) -> list[str]:
    return [f"{amount.low:,.0f}", f"{amount.high:,.0f}"]


def _told(body: dict[str, Any]) -> str:
    """Show a request body: its messages as a conversation, other bodies as JSON."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return _cut(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
    return "\n".join(
        f"{message.get('role')}: {_cut(_content(message.get('content')))}" for message in messages
    )


def _content(content: Any) -> str:
    return content if isinstance(content, str) else orjson.dumps(content).decode()


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CUT else f"{text[:TEXT_CUT]}…"
