"""What tests of the online engine share: requests, and a ledger that keeps them in memory."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from mistral_nb.labelling.online import Outcome, Outgoing, Sender, Summary
from mistral_nb.labelling.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mistral_nb.client import Connection

CHAT = "/v1/chat/completions"


def request(name: str) -> Outgoing:
    """Make a chat request whose prompt is its name."""
    body = {"model": "mistral-small-latest", "messages": [{"role": "user", "content": name}]}
    return Outgoing(name, json.dumps(body).encode())


def requests(count: int) -> Iterator[Outgoing]:
    """Make requests named r0, r1, ..."""
    return (request(f"r{number}") for number in range(count))


class Ledger:
    """Keeps what is committed, and holds the engine to its word.

    Attributes:
        begun: Names that were about to be sent, in order.
        outcomes: Name -> outcome.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.outcomes: dict[str, Outcome] = {}

    async def commit(self, begins: Sequence[str], ends: Sequence[Outcome]) -> None:
        """Take a group."""
        await asyncio.sleep(0)
        self.begun += begins
        for outcome in ends:
            assert outcome.custom_id in self.begun or outcome.undone
            assert outcome.error is not None or not outcome.undone
            assert outcome.custom_id not in self.outcomes, "two outcomes for one request"
            self.outcomes[outcome.custom_id] = outcome

    @property
    def uncertain(self) -> set[str]:
        """Names that were perhaps sent, of which nothing is known."""
        return set(self.begun) - set(self.outcomes)

    @property
    def errors(self) -> dict[str, str]:
        """Name -> error, of those that failed."""
        return {n: str(o.error) for n, o in self.outcomes.items() if o.error and not o.undone}


def sender(connection: Connection, ledger: Ledger, **options: Any) -> Sender:
    """Make an engine that does not wait long between attempts."""
    options.setdefault("backoff", 0.01)
    if "throttle" not in options:
        limits = {name: options.pop(name) for name in ("rpm", "tpm") if name in options}
        options["throttle"] = Throttle(
            options.pop("concurrency", 32),
            hold=lambda: connection.wait_until,
            first_rest=0.01,
            **limits,
        )
    return Sender(connection, CHAT, **{"commit": ledger.commit, **options})


def send(
    connection: Connection, ledger: Ledger, sent: Iterable[Outgoing] | int, **options: Any
) -> Summary:
    """Send all, and wait."""
    named = requests(sent) if isinstance(sent, int) else sent
    return connection.portal.call(sender(connection, ledger, **options).send, named)
