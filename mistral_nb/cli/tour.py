"""Commands for a first look: the demo and the lessons."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from mistral_nb.cli.status import DONE
from mistral_nb.errors import MissingPackage

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from mistral_nb.cli.status import Add

__all__ = ["add_demo", "add_lab", "lab"]

PACKAGE = Path(__file__).resolve().parents[1]
LESSONS = PACKAGE.parent / "notebooks"
"""The lessons, in a checkout; an installed package has none."""


def add_demo(add: Add) -> None:
    """Add the command ``demo``."""
    add("demo", _demo, "label a small data set and stream a reply, without a key or a network")


def add_lab(add: Add) -> None:
    """Add the command ``lab``."""
    add("lab", lab, "open the lessons in JupyterLab, which gets all further options")


def lab(options: argparse.Namespace) -> int:
    """Start JupyterLab on the lessons; see ``mistral-nb lab``."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise MissingPackage("`mistral-nb lab`", "jupyterlab", "lab")
    command = [sys.executable, "-m", "jupyterlab"]
    if LESSONS.is_dir():
        # The checkout is the root: lessons link to its other folders.
        first = f"{LESSONS.name}/00_quickstart.ipynb"
        command += [
            f"--ServerApp.root_dir={LESSONS.parent}",
            f"--LabApp.default_url=/lab/tree/{first}",
        ]
    else:
        print("The lessons are in the project's folder notebooks/, which is not here.")
    command += options.rest
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return subprocess.run(command, check=False).returncode  # noqa: S603 - no shell, own words


def _demo(_: argparse.Namespace) -> int:
    """Show the main job on the simulator, in a home that goes when the demo has ended."""
    from mistral_nb import connect
    from mistral_nb.tables import read_table

    for name in ("MISTRAL_API_KEY", "MISTRAL_SERVER_URL", "MISTRAL_MODEL"):
        os.environ.pop(name, None)  # a demo costs nothing, whoever runs it
    tickets = read_table(_bundled("support_tickets.csv"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        session = connect(home=home)
        print(f"\n1. Label {len(tickets)} support tickets, as one batch\n", flush=True)
        run = session.label(
            tickets,
            "Which topic? {text}",
            labels=sorted(set(tickets["category"])),
            name="demo",
            show=True,
        )
        _show_labelled(run.result())
        print(f"At Mistral's list price this batch would have cost ${run.cost:.4f}.")
        print("\n2. Stream a reply\n", flush=True)
        session.stream("Explain event loops", show=True).result()
    print(
        "\nBoth came from the built-in simulator. With MISTRAL_API_KEY set, the same calls in a\n"
        f"notebook go to Mistral.{' Open the lessons with: make lab' if LESSONS.is_dir() else ''}"
    )
    return DONE


def _bundled(name: str) -> Path:
    """Return a data file: from the checkout, else from the installed package."""
    checkout = PACKAGE.parent / "data" / name
    return checkout if checkout.exists() else PACKAGE / "_data" / name


def _show_labelled(df: pd.DataFrame) -> None:
    """Print a few rows of a merged table, and how it compares with the right labels."""
    shown = df[["id", "text", "category", "label", "_error"]].iloc[:12].astype(object).fillna("")
    shown["text"] = [textwrap.shorten(text, 44, placeholder=" …") for text in shown["text"]]
    for line in [shown.columns.tolist(), *shown.to_numpy().tolist()]:
        print("{:<6} {:<45} {:<20} {:<20} {}".format(*line).rstrip())
    answered = df[df["_error"].isna()]
    right = (answered["label"] == answered["category"]).mean()
    print(f"... {len(df)} rows, {len(answered)} labelled, {right:.0%} as in the column category")
    for reason, rows in df["_error"].dropna().value_counts().items():
        print(f"{rows} without a result: {reason}")
