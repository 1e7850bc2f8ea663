"""The command ``mistral-nb``: label files, go on with runs, try things without a key."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mistral_nb.errors import InputError, MistralNbError, SettingsError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from mistral_nb.labelling import Run

__all__ = ["main"]

DONE, INCOMPLETE, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
HIGHEST_PORT = 65_535
PACKAGE = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after ``mistral-nb``; None takes those of the process.

    Returns:
        Exit status: 0 done, 1 not every row has a result, 2 unusable arguments, 130
        interrupted.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    if rest and command is not _lab:
        parser.error(f"unknown: {' '.join(rest)}")
    options.rest = rest
    try:
        return command(options)
    except (InputError, SettingsError) as error:
        return _complain(error, UNUSABLE)
    except MistralNbError as error:
        return _complain(error, INCOMPLETE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INCOMPLETE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mistral-nb",
        description="Label files with Mistral, and try the toolkit without a key.",
        epilog="The key is read from MISTRAL_API_KEY; without one, the simulator answers.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[Any], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(command=command)
        return sub

    add("demo", _demo, "label a small data set and stream a reply, without a key or a network")
    _add_label_options(add("label", _label, "label every row of a file"))
    sub = add("resume", _resume, "go on with a run that was left behind; nothing is paid twice")
    sub.add_argument("name", metavar="NAME", help="name of the run, as `runs` shows it")
    _add_out(sub)
    add("runs", _runs, "list the labelling runs of this machine")
    sub = add("simulator", _simulator, "run the local server that speaks Mistral's API")
    sub.add_argument("--port", type=_port, default=8000, help="default 8000; 0 takes a free one")
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on; default 127.0.0.1")
    sub.add_argument("--home", type=Path, help="folder that keeps its files and jobs")
    sub.add_argument("--faults", type=_faults, metavar="JSON", help='e.g. {"error_rate": 0.1}')
    _add_worker_options(add("worker", _worker, "carry out the jobs of a queue until it is stopped"))
    add("lab", _lab, "open the lessons in JupyterLab, which gets all further options")
    return parser


def _add_label_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("table", type=Path, metavar="TABLE", help=".csv, .jsonl or .parquet")
    sub.add_argument("--prompt", required=True, help="text with {column} places, one prompt a row")
    kind = sub.add_mutually_exclusive_group()
    kind.add_argument("--labels", type=_labels, metavar="A,B,C", help="labels to choose from")
    kind.add_argument("--schema", type=_schema, metavar="FILE", help="JSON schema of a result")
    sub.add_argument("--column", metavar="NAME", help="name of the result's column")
    sub.add_argument("--model", help="model that labels; else MISTRAL_MODEL, else the default")
    sub.add_argument("--name", help="name of the run, to find it again")
    sub.add_argument(
        "--mode",
        choices=["batch", "online", "auto"],
        default="batch",
        help="batch (default): half the price; online: at once; auto: online up to 200 rows",
    )
    sub.add_argument("--concurrency", type=int, metavar="N", help="requests at once, mode online")
    _add_out(sub)


def _add_worker_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--queue", metavar="URL", help="redis://... or sqlite:///...; else the home's")
    sub.add_argument("--name", default="jobs", help="name of the queue; default jobs")
    sub.add_argument("--concurrency", type=int, default=5, metavar="N", help="jobs at once")
    sub.add_argument("--limit", type=_limit, metavar="N/TIME", help="starts in a time, e.g. 10/1s")
    sub.add_argument("--handlers", metavar="MODULE", help="Python module with handlers of yours")
    sub.add_argument(
        "--lease", type=float, default=30.0, help="seconds until a silent worker is lost"
    )
    sub.add_argument("--grace", type=float, default=30.0, help="seconds to end jobs when stopped")
    sub.add_argument(
        "--on-uncertain",
        choices=["ask", "retry"],
        default="ask",
        help="a paid call that was under way in a crash: list it (default), or make it again",
    )


def _add_out(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help=".csv, .jsonl or .parquet"
    )


def _labels(text: str) -> list[str]:
    return [label.strip() for label in text.split(",") if label.strip()]


def _schema(name: str) -> dict[str, Any]:
    try:
        return _object(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{name} cannot be used: {error}") from error


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text} is no port: give 0 to {HIGHEST_PORT}")
    return int(text)


def _limit(text: str) -> tuple[int, float]:
    from mistral_nb.jobs.model import Limit

    try:
        limit = Limit.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return limit.starts, limit.seconds


def _faults(text: str) -> Any:
    from mistral_nb.simulator import Faults

    known = [field.name for field in dataclasses.fields(Faults)]
    try:
        given = _object(text)
        if unknown := [name for name in given if name not in known]:
            raise InputError(f"no fault is named {unknown[0]}; there are {', '.join(known)}")
        return Faults(**given)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise InputError("it is not a JSON object")
    return found


def _complain(error: Exception, status: int) -> int:
    print(f"mistral-nb: {error}", file=sys.stderr)
    return status


def _label(options: argparse.Namespace) -> int:
    from mistral_nb import connect
    from mistral_nb.tables import check_target, read_table

    check_target(options.out, options.table)
    df = read_table(options.table)
    more = {} if options.concurrency is None else {"concurrency": options.concurrency}
    run = connect().label(
        df,
        options.prompt,
        labels=options.labels,
        schema=options.schema,
        column=options.column,
        model=options.model,
        name=options.name,
        mode=options.mode,
        **more,
    )
    return _finish(run, options.out)


def _resume(options: argparse.Namespace) -> int:
    from mistral_nb import connect
    from mistral_nb.tables import check_target

    check_target(options.out)
    if options.name not in set(_run_table()["name"]):
        raise InputError(f"There is no run named {options.name}. See: mistral-nb runs")
    return _finish(connect().resume(options.name), options.out)


def _finish(run: Run, out: Path) -> int:
    """Wait for a run, write its table, and say how it went."""
    from mistral_nb.tables import write_table

    try:
        while not run.done():
            time.sleep(0.05)
    except KeyboardInterrupt:
        said = "Stopped before anything was sent."
        if run.status != "preparing":
            said = f"Stopped waiting; batch jobs go on at the server. {_way_on(run, out)}"
        print(f"\n{said}", file=sys.stderr)
        return INTERRUPTED
    df = run.result()
    try:
        write_table(df, out)
    except StoreError as error:
        raise StoreError(f"{error}\nNothing is lost. {_way_on(run, out)}") from error
    failed = int(df["_error"].notna().sum())
    print(f"{len(df)} rows -> {out}", file=sys.stderr)
    if failed:
        first = df["_error"].dropna().iloc[0]
        print(
            f"{failed} of them have no result; the column _error says why, e.g. {first}",
            file=sys.stderr,
        )
    return INCOMPLETE if failed else DONE


def _way_on(run: Run, out: Path) -> str:
    return f"Go on with: mistral-nb resume {shlex.quote(run.name)} --out {shlex.quote(str(out))}"


def _run_table() -> pd.DataFrame:
    from mistral_nb.labelling import list_runs
    from mistral_nb.settings import resolve

    return list_runs(resolve())


def _runs(_: argparse.Namespace) -> int:
    table = _run_table()
    for name in ("created", "updated"):
        table[name] = table[name].dt.strftime("%Y-%m-%d %H:%M UTC")
    costs = {"cost": "${:.4f}".format}
    print("No runs yet." if table.empty else table.to_string(index=False, formatters=costs))
    return DONE


def _simulator(options: argparse.Namespace) -> int:
    from mistral_nb.simulator import serve

    try:
        serve(port=options.port, host=options.host, home=options.home, faults=options.faults)
    except OSError as error:
        raise InputError(
            f"Port {options.port} of {options.host} cannot be used: {error}."
        ) from error
    return DONE


def _worker(options: argparse.Namespace) -> int:
    from mistral_nb import connect
    from mistral_nb.jobs.command import work

    return work(connect(), options)


def _lab(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("jupyterlab") is None:
        raise InputError(
            "JupyterLab is not installed. Install it with: pip install mistral-nb[lab]"
        )
    lessons = PACKAGE.parent / "notebooks"
    command = [sys.executable, "-m", "jupyterlab", *options.rest]
    if lessons.is_dir():
        command.append(str(lessons))
    else:
        print("The lessons are in the project's folder notebooks/, which is not here.")
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
        "notebook go to Mistral. Open the lessons with: make lab"
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
