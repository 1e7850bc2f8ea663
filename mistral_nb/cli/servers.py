"""Commands that run until they are stopped: simulator, worker of the job queue, relay."""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mistral_nb.cli.arguments import an_object
from mistral_nb.cli.status import DONE
from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from mistral_nb.cli.status import Add

__all__ = ["add_commands"]


def add_commands(add: Add) -> None:
    """Add the commands ``simulator``, ``worker`` and ``relay``."""
    sub = add("simulator", _simulator, "run the local server that speaks Mistral's API")
    sub.add_argument("--port", type=_port, default=8000, help="default 8000; 0 takes a free one")
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on; default 127.0.0.1")
    sub.add_argument("--home", type=Path, help="folder that keeps its files and jobs")
    sub.add_argument("--faults", type=_faults, metavar="JSON", help='e.g. {"error_rate": 0.1}')
    sub.add_argument("--script", type=Path, metavar="FILE", help="replies to give, .yaml or .json")
    _add_recording_options(sub)
    _add_worker_options(add("worker", _worker, "carry out the jobs of a queue until it is stopped"))
    _add_relay_options(add("relay", _relay, "pass replies and jobs on as server-sent events"))


def _add_recording_options(sub: argparse.ArgumentParser) -> None:
    one = sub.add_mutually_exclusive_group()
    one.add_argument(
        "--record",
        metavar="FILE",
        help="pass requests on to a real server and record the answers without keys; a folder "
        "gets a file of its own",
    )
    one.add_argument("--replay", type=Path, metavar="FILE", help="answer from such a recording")
    sub.add_argument(
        "--upstream",
        metavar="URL",
        help="with --record: the real server, asked with MISTRAL_API_KEY or the key of each "
        "request; default https://api.mistral.ai",
    )
    sub.add_argument(
        "--pace",
        choices=["real", "fast"],
        help="with --replay: stream as slowly as the server did (default), or at once",
    )
    sub.add_argument(
        "--otherwise",
        choices=["refuse", "rules"],
        help="with --replay: refuse what was not recorded (default), or make up a reply",
    )


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


def _add_relay_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--port", type=_port, default=8787, help="default 8787; 0 takes a free one")
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on; default 127.0.0.1")
    sub.add_argument(
        "--token",
        default=os.environ.get("MISTRAL_NB_RELAY_TOKEN"),
        help="what callers must bring; else MISTRAL_NB_RELAY_TOKEN, else a random one",
    )
    sub.add_argument("--queue", metavar="URL", help="redis://... or sqlite:///...; else the home's")
    sub.add_argument("--work", type=int, default=0, metavar="N", help="jobs it carries out at once")
    sub.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="an origin whose pages may call it; may be given again",
    )


def _port(text: str) -> int:
    from mistral_nb.serving import HIGHEST_PORT

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
        given = an_object(text)
        if unknown := [name for name in given if name not in known]:
            raise InputError(f"no fault is named {unknown[0]}; there are {', '.join(known)}")
        return Faults(**given)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _simulator(options: argparse.Namespace) -> int:
    from mistral_nb.simulator import serve

    _check_recording_options(options)
    if options.record:
        return _record(options)
    serve(
        port=options.port,
        host=options.host,
        home=options.home,
        faults=options.faults,
        script=options.script,
        replay=options.replay,
        pace=options.pace or "real",
        otherwise=options.otherwise or "refuse",
    )
    return DONE


def _check_recording_options(options: argparse.Namespace) -> None:
    """Refuse an option that would be passed over."""
    from mistral_nb.serving import is_loopback

    idle = [("--upstream", options.upstream)] if not options.record else []
    if not options.replay:
        idle += [("--pace", options.pace), ("--otherwise", options.otherwise)]
    for name, value in idle:
        if value:
            needed = "--record" if name == "--upstream" else "--replay"
            raise InputError(f"{name} says how to {needed.strip('-')}: it needs {needed} FILE.")
    if options.record:
        for name in ("home", "faults", "script"):
            if getattr(options, name):
                raise InputError(
                    f"--{name} is for simulated replies; --record passes on real ones."
                )
        if not is_loopback(options.host):
            raise InputError(
                f"--record listens on this machine only, not on {options.host}: who can reach it "
                "uses your key."
            )


def _record(options: argparse.Namespace) -> int:
    from mistral_nb.simulator.recording import record
    from mistral_nb.simulator.server import hold

    recorder = record(options.record, upstream=options.upstream, port=options.port)
    hold(recorder, f"Recorder at {recorder.url}, writing {recorder.path} (Ctrl+C stops it)")
    print(f"{recorder.count} exchanges recorded.")
    return DONE


def _worker(options: argparse.Namespace) -> int:
    from mistral_nb import connect
    from mistral_nb.jobs.command import work

    return work(connect(), options)


def _relay(options: argparse.Namespace) -> int:
    from mistral_nb import connect

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a kill also tidies up
    session = connect()
    relay = session.serve(
        session.queue(options.queue),
        host=options.host,
        port=options.port,
        token=options.token,
        cors=options.cors,
        work=options.work,
    )
    try:
        relay.wait()
    except KeyboardInterrupt:
        relay.stop()
    return DONE
