"""A process that labels files and kills itself at the n-th step.

Usage: python files_victim.py SERVER_URL HOME STEP IN OUT

A step is the moment before or after a commit to the ledger, a request to the server, or the
renaming of a finished file. STEP 0 lives to the end.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from batch_victim import Fate, watch

from mistral_nb.session import connect


def main() -> None:
    url, home, step, source, out = sys.argv[1:]
    fate = Fate(int(step))
    watch(fate)
    rename = Path.replace

    def watched_rename(self: Path, target: Any) -> Path:
        fate.step()
        renamed = rename(self, target)
        fate.step()
        return renamed

    Path.replace = watched_rename
    session = connect("key", url, home=home)
    run = session.label_files(
        source,
        out,
        "Which topic? {text}",
        labels=["billing", "delivery", "other"],
        name="victim",
        shard_lines=20,
        show=False,
    )
    run.result(60)


if __name__ == "__main__":
    main()
