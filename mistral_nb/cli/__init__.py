"""The command ``mistral-nb``: its words, and how it ends."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from mistral_nb import __version__
from mistral_nb.cli import labelling, servers, tour
from mistral_nb.cli.status import INCOMPLETE, INTERRUPTED, UNUSABLE
from mistral_nb.errors import InputError, MissingPackage, MistralNbError, PortTaken, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after ``mistral-nb``; None takes those of the process.

    Returns:
        Exit status: 0 done, 1 not every row has a result, 2 unusable arguments, 130
        interrupted.
    """
    try:
        try:
            return _obey(arguments)
        finally:
            if arguments is None:  # tidying up has begun: a second Ctrl-C ends it, in silence
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            if sys.stdout is not None:
                sys.stdout.flush()  # a reader that has left is noticed here, not as Python ends
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INCOMPLETE


def _obey(arguments: Sequence[str] | None) -> int:
    """Carry out a command; what went wrong becomes a sentence and an exit status."""
    parser = _parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help()
        return UNUSABLE
    options, rest = parser.parse_known_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    if rest and command is not tour.lab:
        parser.error(f"unknown: {' '.join(rest)}")
    options.rest = rest
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console that knows few characters shows a ?
            stream.reconfigure(errors="replace")
    try:
        return command(options)
    except (InputError, MissingPackage, PortTaken, SettingsError) as error:
        return _complain(error, UNUSABLE)
    except MistralNbError as error:
        return _complain(error, INCOMPLETE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mistral-nb",
        description="Label files with Mistral, and try the toolkit without a key.",
        epilog="The key is read from MISTRAL_API_KEY; without one, the simulator answers.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}", help="say which it is"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[Any], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(command=command)
        return sub

    tour.add_demo(add)
    labelling.add_commands(add)
    servers.add_commands(add)
    tour.add_lab(add)
    return parser


def _complain(error: Exception, status: int) -> int:
    print(f"mistral-nb: {error}", file=sys.stderr)
    return status
