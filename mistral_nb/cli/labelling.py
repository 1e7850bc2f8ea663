"""Commands that label: start a run, go on with it, list runs, review and export them."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mistral_nb.cli.arguments import a_schema, labels
from mistral_nb.cli.status import DONE, INCOMPLETE, INTERRUPTED
from mistral_nb.errors import InputError, StoreError

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from mistral_nb.cli.status import Add
    from mistral_nb.labelling import Run
    from mistral_nb.labelling.folder import RunFolder

__all__ = ["add_commands"]

FILES = ".csv, .jsonl or .parquet"
ASKED = (
    *("labels", "schema", "column", "model", "name", "mode", "concurrency", "system"),
    *("max_cost", "dry_run", "sample", "fresh", "images", "documents", "suffix"),
)
"""Options that go to `label` under their own names."""

SPARED = ("updated", "server", "tokens", "model", "mode")
"""Columns of the runs that a narrow terminal does without, in this order."""
LIVES = {
    "batch": "batch jobs go on at the server",
    "online": "nothing is lost",
    "queue": "workers go on with what is in the queue",
}


def add_commands(add: Add) -> None:
    """Add the commands ``label``, ``resume``, ``runs``, ``review`` and ``export``."""
    _add_label_options(add("label", _label, "label every row of a file, or of a folder of files"))
    sub = add("resume", _resume, "go on with a run that was left behind; nothing is paid twice")
    _add_name(sub)
    sub.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"{FILES}; not for a run of a folder, which has one",
    )
    _add_max_cost(sub)
    _add_queue(sub)
    add("runs", _runs, "list the labelling runs of this machine")
    sub = add("review", _review, "accept, correct or skip a run's labels, row by row")
    _add_name(sub)
    sub.add_argument("--column", metavar="NAME", help="result column to review, if it has several")
    sub.add_argument("--text", metavar="NAME", help="column to read; else that of longest texts")
    sub.add_argument(
        "--where", metavar="EXPRESSION", help="rows to review, e.g. \"label == 'spam'\""
    )
    sub.add_argument("--out", type=Path, metavar="FILE", help=f"write the reviewed table: {FILES}")
    sub = add(
        "export", _export, "write a run as it is by now, with each row's raw reply and tokens"
    )
    _add_name(sub)
    sub.add_argument("--out", required=True, type=Path, metavar="FILE", help=FILES)


def _add_label_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "table", type=Path, metavar="TABLE", help=f"{FILES}, or a folder of files of one kind"
    )
    sub.add_argument("--prompt", help="text with {column} places, one prompt a row; not for ocr")
    sub.add_argument("--system", metavar="TEXT", help="system prompt")
    kind = sub.add_mutually_exclusive_group()
    kind.add_argument("--labels", type=labels, metavar="A,B,C", help="labels to choose from")
    kind.add_argument("--schema", type=a_schema, metavar="FILE", help="JSON schema of a result")
    sub.add_argument("--column", metavar="NAME", help="name of the result's column")
    sub.add_argument(
        "--endpoint",
        metavar="NAME",
        help="who answers: chat (default), embeddings, moderations, classifications, fim or ocr",
    )
    sub.add_argument(
        "--examples", type=Path, metavar="FILE", help=f"labelled rows that go first: {FILES}"
    )
    sub.add_argument("--images", metavar="NAME", help="column of images beside the text")
    sub.add_argument(
        "--documents", metavar="NAME", help="column of documents, likewise, or for ocr"
    )
    sub.add_argument("--suffix", metavar="TEXT", help="for fim: what follows the gap, as --prompt")
    sub.add_argument("--model", help="model that labels; else MISTRAL_MODEL, else the default")
    sub.add_argument("--name", help="name of the run, to find it again")
    sub.add_argument(
        "--mode",
        choices=["batch", "online", "queue", "auto"],
        help="batch (default): half the price; online: at once, for a sample the default; "
        "queue: by workers; auto: online up to 200 rows",
    )
    _add_queue(sub)
    sub.add_argument("--concurrency", type=int, metavar="N", help="requests at once, mode online")
    _add_max_cost(sub)
    sub.add_argument("--dry-run", action="store_true", help="send nothing; say what it would cost")
    sub.add_argument(
        "--sample", type=int, metavar="N", help="label so many rows only, as a preview"
    )
    sub.add_argument("--fresh", action="store_true", help="send all again, and pay for it again")
    sub.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE",
        help=f"{FILES}; for a folder, another folder, which gets a parquet file for each file",
    )


def _add_name(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME", help="name of the run, as `runs` shows it")


def _add_max_cost(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--max-cost", type=float, metavar="USD", help="stop at this cost")


def _add_queue(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--queue",
        metavar="URL",
        help="redis://... or sqlite:///...: its workers (`worker`) send the requests",
    )


def _label(options: argparse.Namespace) -> int:
    from mistral_nb import connect
    from mistral_nb.tables import SUFFIXES, check_target, read_table

    if options.prompt is None and options.endpoint != "ocr":
        raise InputError("--prompt is needed: a text with {column} places, one prompt a row.")
    asked: dict[str, Any] = {name: getattr(options, name) for name in ASKED}
    if options.endpoint is not None:
        asked["endpoint"] = options.endpoint
    if options.examples is not None:
        asked["examples"] = read_table(options.examples)
    in_files = options.table.is_dir() or options.out.is_dir()
    if not in_files:
        check_target(options.out, options.table)
    elif options.out.suffix.lower() in SUFFIXES and not options.out.is_dir():
        raise InputError(f"{options.table} is a folder: --out must name a folder, too.")
    table = None if in_files else read_table(options.table)
    session = connect()
    if options.queue is not None:
        asked["queue"] = session.queue(options.queue)
    if in_files:
        made = session.label_files(options.table, options.out, options.prompt, **asked)
    else:
        made = session.label(table, options.prompt, **asked)
    if options.dry_run:
        print(made)
        return DONE
    return _finish(made, options.out, in_files=in_files)


def _resume(options: argparse.Namespace) -> int:
    from mistral_nb import connect
    from mistral_nb.tables import check_target

    if options.out is not None:
        check_target(options.out)
    in_files = _existing(options.name).manifest.exists()
    if in_files and options.out is not None:
        raise InputError(
            f"The run {options.name} writes to the folder it was started with: leave out --out, or "
            "call label again with another folder. Nothing is paid twice."
        )
    if not in_files and options.out is None:
        raise InputError("--out FILE is needed: where is the labelled table to go?")
    session = connect()
    queue = None if options.queue is None else session.queue(options.queue)
    run = session.resume(options.name, max_cost=options.max_cost, queue=queue)
    return _finish(run, options.out, in_files=in_files)


def _existing(name: str) -> RunFolder:
    """Return the folder of a run, or say that there is none."""
    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.settings import resolve

    folder = RunFolder.of(resolve().home, name)
    if not folder.exists:
        raise InputError(f"There is no run named {name}. See: mistral-nb runs")
    return folder


def _finish(run: Run, out: Path | None, *, in_files: bool) -> int:
    """Wait for a run, write its table, and say how it went."""
    from mistral_nb.tables import write_table

    try:
        while not run.done():
            time.sleep(0.05)
    except KeyboardInterrupt:
        said = "Stopped before anything was sent."
        if run.status != "preparing":
            said = f"Stopped waiting; {LIVES[run.mode]}. {_way_on(run, out, in_files)}"
        print(f"\n{said}", file=sys.stderr)
        return INTERRUPTED
    df = run.result()
    if not in_files and out is not None:
        try:
            write_table(df, out)
        except StoreError as error:
            way = _way_on(run, out, in_files)
            raise StoreError(f"{error}\nNothing is lost. {way}") from error
    counts = run.counts
    parts = f" in {len(df)} files" if in_files else ""
    print(f"{counts['total']} rows{parts} -> {out or 'their folder'}", file=sys.stderr)
    if counts["failed"]:
        first = run.errors["error"].iloc[0]
        print(
            f"{counts['failed']} of them have no result; the column _error says why, e.g. {first}",
            file=sys.stderr,
        )
    return INCOMPLETE if counts["failed"] else DONE


def _way_on(run: Run, out: Path | None, in_files: bool) -> str:
    way = f"Go on with: mistral-nb resume {shlex.quote(run.name)}"
    if run.mode == "queue":
        way += " --queue URL"
    return way if in_files else f"{way} --out {shlex.quote(str(out))}"


def _runs(_: argparse.Namespace) -> int:
    from pandas import isna as missing

    from mistral_nb.labelling import list_runs
    from mistral_nb.labelling.prices import dollars
    from mistral_nb.settings import resolve

    table: pd.DataFrame = list_runs(resolve())
    for name in ("created", "updated"):
        table[name] = table[name].dt.strftime("%Y-%m-%d %H:%M UTC")
    table["cost"] = [dollars(None if missing(each) else each) for each in table["cost"]]
    print("No runs yet." if table.empty else _fitting(table))
    return DONE


def _fitting(table: pd.DataFrame) -> str:
    """Return a table as text; in a terminal, without the columns that make its lines wrap."""
    text: str = table.to_string(index=False)
    for name in SPARED if sys.stdout.isatty() else ():
        if text.index("\n") <= shutil.get_terminal_size().columns:
            break
        table = table.drop(columns=name)
        text = table.to_string(index=False)
    return text


def _review(options: argparse.Namespace) -> int:
    from mistral_nb import connect
    from mistral_nb.cli.reviewing import review_in_terminal
    from mistral_nb.tables import check_target, write_table

    if options.out is not None:
        check_target(options.out)
    if _existing(options.name).manifest.exists():
        raise InputError(
            f"The result of {options.name} is not one table. Review a part of it in a notebook: "
            "mistral_nb.widgets.review.review(table, store=FILE)."
        )
    session = connect()
    run = session.resume(options.name)
    chosen = {"text": options.text, "where": options.where}
    review = session.review(run, options.column, **chosen)
    try:
        review_in_terminal(review)
    except KeyboardInterrupt:
        print("\nStopped; what was decided is kept. The same command goes on.", file=sys.stderr)
        return INTERRUPTED
    if options.out is not None:
        write_table(review.table, options.out)
        print(f"{len(review.table)} rows -> {options.out}", file=sys.stderr)
    return DONE


def _export(options: argparse.Namespace) -> int:
    from mistral_nb.labelling.export import export
    from mistral_nb.labelling.ledger import Ledger
    from mistral_nb.tables import check_target

    check_target(options.out)
    folder = _existing(options.name)
    with closing(Ledger(folder.ledger)) as ledger:
        export(ledger, folder, None, options.out, overwrite=True)
        counts = ledger.counts()
    print(f"{counts['total']} rows -> {options.out}", file=sys.stderr)
    return DONE
