"""A process that sends requests online and keeps a ledger in a file; made to be killed.

python -m tests.faults.online_victim URL LEDGER ROWS CONCURRENCY
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mistral_nb.client import Connection
from mistral_nb.settings import resolve
from tests.labelling.sending import CHAT, request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mistral_nb.labelling.online import Outcome


def done(ledger: Path) -> set[str]:
    """Return the names that the ledger has an answer for."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return {line[2:] for line in lines if line.startswith("+ ")}


def begun(ledger: Path) -> set[str]:
    """Return the names that were about to be sent."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return {line[2:] for line in lines if line.startswith("> ")}


def main() -> None:
    """Send what has no answer yet."""
    from mistral_nb.labelling.online import Sender

    url, path, rows, concurrency = sys.argv[1:]
    ledger = Path(path)
    known = done(ledger)
    file = ledger.open("a")

    def write(begins: Sequence[str], ends: Sequence[Outcome]) -> None:
        file.write("".join(f"> {name}\n" for name in begins))
        file.write("".join(f"+ {each.custom_id}\n" for each in ends if each.error is None))
        file.flush()
        os.fsync(file.fileno())

    async def commit(begins: Sequence[str], ends: Sequence[Outcome]) -> None:
        await asyncio.to_thread(write, begins, ends)

    connection = Connection(resolve(api_key="key", server_url=url))
    sender = Sender(connection, CHAT, commit=commit, concurrency=int(concurrency))
    names = (f"r{number}" for number in range(int(rows)))
    connection.portal.call(sender.send, (request(name) for name in names if name not in known))


if __name__ == "__main__":
    main()
