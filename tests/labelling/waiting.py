"""What tests of runs on their way share: waiting for a moment, and looking at shards."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from mistral_nb.labelling.folder import RunFolder
from mistral_nb.labelling.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mistral_nb.labelling.ledger import Shard


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait for something that will be so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


def shards_of(home: Path, name: str) -> list[Shard]:
    """Return a run's shards as its ledger has them."""
    with closing(Ledger(RunFolder.of(home, name).ledger)) as ledger:
        return ledger.shards()
