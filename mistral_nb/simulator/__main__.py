"""``python -m mistral_nb.simulator``: the simulator in the foreground."""

from __future__ import annotations

import argparse
from pathlib import Path

from mistral_nb.simulator import serve


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m mistral_nb.simulator", description=__doc__)
    parser.add_argument("--home", type=Path, default=None, help="folder to keep files and jobs in")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chunk-delay", type=float, default=0.012, metavar="SECONDS")
    parser.add_argument("--batch-rate", type=float, default=1500.0, metavar="ROWS_A_SECOND")
    parser.add_argument("--requests-per-minute", type=int, default=None)
    parser.add_argument("--tokens-per-minute", type=int, default=None)
    parser.add_argument("--api-key", dest="api_keys", action="append", default=None)
    parser.add_argument("--script", type=Path, default=None, help="replies, .yaml or .json")
    serve(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
