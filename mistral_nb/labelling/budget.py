"""What a run may spend: refused before it begins, held back on the way, never passed lightly.

What is under way is paid for whatever happens, so it is reserved: at the most that can be
foreseen, and once there are answers at what these cost, online at the dearest of them. What does
not fit beside it waits until it is settled.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio

from mistral_nb.errors import CostLimitError, InputError
from mistral_nb.labelling.cost import Amount, Tally, forecast, guess_reply
from mistral_nb.labelling.flights import Flights
from mistral_nb.labelling.folder import open_requests
from mistral_nb.labelling.prices import PRICES_OF, dollars, price_of
from mistral_nb.labelling.recipe import read_line
from mistral_nb.labelling.totals import spent

if TYPE_CHECKING:
    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.labelling.ledger import Answer, Ledger, RunRecord, Shard
    from mistral_nb.labelling.prices import Price
    from mistral_nb.labelling.schemas import Schema

__all__ = ["Budget", "require_price"]

UNSENT = frozenset({"written", "uploading", "uploaded"})
"""States of a shard that nothing was paid for."""
MARGIN = 1.1
"""What answers cost so far is taken a little higher for those to come."""


class Budget:
    """What a run may still spend.

    Args:
        limit: US dollars for the whole run.
        price: Of the model in this engine.
        paid: US dollars billed so far.
        each: US dollars of one request, from low to high.
    """

    def __init__(self, limit: float, price: Price, paid: float, each: Amount) -> None:
        self._limit = limit
        self._price = price
        self._paid = paid
        self._each = each
        self._answers = 0
        self._cost = self._largest = 0.0
        self._reserved: dict[int, float] = {}
        self._lost: set[int] = set()
        self._settled = anyio.Event()

    @classmethod
    def of(
        cls, folder: RunFolder, ledger: Ledger, schema: Schema | None, limit: float | None
    ) -> Budget | None:
        """Make the budget of a run, if it has a limit.

        Args:
            folder: The run's files.
            ledger: The run's ledger.
            schema: What its replies look like.
            limit: US dollars; None for no limit.

        Returns:
            The budget; None without a limit.

        Raises:
            CostLimitError: What is still to be sent costs more in any case.
            InputError: The model's price is not known.
        """
        if limit is None or math.isinf(limit):
            return None
        record = ledger.run()
        price = require_price(record.model, batch=record.mode == "batch")
        options = record.spec.get("options_sent", {})
        reply = guess_reply(schema, options, record.model, record.endpoint)
        cast = forecast(
            _open(folder, ledger, record), record.model, reply, batch=record.mode == "batch"
        )
        assert cast.cost is not None
        count = max(1, cast.requests)
        each = cast.cost.times(1 / count)
        paid = spent(ledger, record.model)
        if paid is None:
            paid = each.high * _answered(ledger)
        if paid + cast.cost.low > limit:
            raise CostLimitError(_refusal(cast.requests, cast.cost, paid, limit, record.mode))
        return cls(limit, price, paid, each)

    @property
    def _left(self) -> float:
        return self._limit - self._paid

    @property
    def _one(self) -> float:
        """What one more request is reserved at."""
        if self._answers:
            return MARGIN * self._cost / self._answers
        return self._each.high

    def error(self, counts: dict[str, int], name: str) -> CostLimitError:
        """Say that the run has reached its limit, and how to go on."""
        rest = counts["total"] - counts["done"] - counts["failed"]
        return CostLimitError(
            f"The run {name!r} has cost {dollars(self._paid)}, and what is left of "
            f"max_cost=${self._limit:g} may not pay for more: {counts['done']:,} of "
            f"{counts['total']:,} rows are labelled and kept, {rest:,} were not sent. Go on with "
            f"mnb.resume({name!r}, max_cost=...) and a higher limit, or take what there is with "
            f"run.export()."
        )

    # Online

    def affordable(self, under_way: int) -> bool:
        """Return True if there is money for another request beside those under way."""
        if not under_way and not self._answers:  # the first one finds out what one costs
            return self._each.low <= self._left
        return (under_way + 1) * max(self._one, self._largest) <= self._left

    def take(self, answer: Answer) -> None:
        """Count what an answer cost; one without token counts, at the most it can."""
        amount = self._each.high
        if answer.prompt_tokens:
            amount = self._price.of(
                answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens
            )
        self._largest = max(self._largest, amount)
        self._paid += amount
        self._cost += amount
        self._answers += 1

    # Batches

    def reserve(self, shard: Shard) -> None:
        """Set aside what a shard that is under way may cost."""
        self._reserved[shard.id] = self._one * shard.lines

    async def afford(self, shard: Shard) -> bool:
        """Wait until there is money for a shard.

        Returns:
            True with its cost set aside; False if nothing under way can change that there
            is none.
        """
        while True:
            need = self._one * shard.lines
            if need <= self._left - sum(self._reserved.values()):
                self.reserve(shard)
                return True
            if not set(self._reserved) - self._lost:
                # Its answers may cost less than the most that can be foreseen: the first shard
                # finds out, unless even the least is too much.
                if self._answers or self._lost or self._each.low * shard.lines > self._left:
                    return False
                self.reserve(shard)
                return True
            await self._settled.wait()

    def settle(self, shard: Shard, paid: float | None) -> None:
        """Take note that a shard has ended, and what the run has cost with it, if known."""
        if paid is None:
            paid = self._paid + self._each.high * shard.lines
        self._cost += paid - self._paid
        self._answers += shard.lines
        self._paid = paid
        self._reserved.pop(shard.id, None)
        self._stir()

    def lose(self, shard: Shard) -> None:
        """Take note that a shard can be followed no longer; what it may cost stays set aside."""
        self._lost.add(shard.id)
        self._stir()

    def _stir(self) -> None:
        self._settled.set()
        self._settled = anyio.Event()


def require_price(model: str, *, batch: bool = False) -> Price:
    """Return a model's price.

    Raises:
        InputError: It is not known, so no limit can be kept.
    """
    price = price_of(model, batch=batch)
    if price is None:
        raise InputError(
            f"max_cost= cannot be kept: the price of {model!r} is unknown, it is not in the list "
            f"of {PRICES_OF}. Leave max_cost= out, or choose another model. Nothing was sent."
        )
    return price


def _answered(ledger: Ledger) -> int:
    """Count the answers that were paid for."""
    with ledger.reading() as db:
        sql = "SELECT COUNT(*) FROM attempt WHERE number > 0 AND text IS NOT NULL"
        return int(db.execute(sql).fetchone()[0])


def _open(folder: RunFolder, ledger: Ledger, record: RunRecord) -> Tally:
    """Read the requests that are still to be sent."""
    tally = Tally()
    flights = Flights(ledger)
    for shard in ledger.shards():
        if record.mode != "online" and shard.state not in UNSENT:
            continue
        rows = flights.open(shard.id) if record.mode == "online" else None
        with open_requests(folder.requests(shard.id)) as file:
            for line in file:
                row, name, body = read_line(line)
                if rows is None or row in rows:
                    tally.add(bytes.fromhex(name[-16:].decode()), body)
    return tally


def _refusal(requests: int, cost: Amount, paid: float, limit: float, mode: str) -> str:
    before = f" on top of the {dollars(paid)} paid before" if paid else ""
    cheaper = "" if mode == "batch" else "mode='batch' (half the price), "
    return (
        f"The {requests:,} requests of this run would cost {dollars(cost.low)} to "
        f"{dollars(cost.high)}{before}, by list price of {PRICES_OF}: more than "
        f"max_cost=${limit:g} in any case. Nothing was sent. Raise max_cost=, or choose "
        f"{cheaper}a cheaper model or fewer rows; dry_run=True shows the sum."
    )
