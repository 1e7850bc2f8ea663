"""A running simulator: uvicorn in a thread of its own, with everything it needs."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
import threading
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mistral_nb.errors import InputError
from mistral_nb.serving import ServedApp
from mistral_nb.simulator.app import create_app
from mistral_nb.simulator.batch import BatchWorker
from mistral_nb.simulator.faults import Dice, Faults
from mistral_nb.simulator.limits import RateLimiter
from mistral_nb.simulator.replaying import Player
from mistral_nb.simulator.scripted import Script, read_script
from mistral_nb.simulator.state import State
from mistral_nb.simulator.stats import Stats
from mistral_nb.simulator.tokens import PromptCache

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mistral_nb.simulator.recording import Recorder
    from mistral_nb.simulator.replaying import Otherwise, Pace

__all__ = [
    "Core",
    "Simulator",
    "hold",
    "replay",
    "script",
    "serve",
    "shared_simulator",
    "start_simulator",
]


@dataclass
class Core:
    """What the app serves and the options it obeys."""

    state: State
    stats: Stats
    faults: Faults
    limiter: RateLimiter
    api_keys: frozenset[str] | None
    chunk_delay: float
    batch_rate: float | None
    whole_calls: bool
    send_retry_after: bool
    seed: int
    dice: Dice = field(default_factory=Dice)
    prompts: PromptCache = field(default_factory=PromptCache)
    script: Script = field(default_factory=Script)
    player: Player | None = None

    def __post_init__(self) -> None:
        self._numbers = count(1)
        self.worker = BatchWorker(self.state, self.batch_rate, lambda: self.faults)

    def number(self) -> int:
        """Return the number of one more request; it makes ids their own."""
        return next(self._numbers)

    def strikes(self, name: str) -> bool:
        """Throw the dice for a rate among the faults."""
        return self.dice.strikes(self.faults, name)

    def first(self, name: str) -> bool:
        """Count down a number among the faults."""
        return self.dice.first(self.faults, name)

    def set_faults(self, faults: Faults) -> None:
        """Misbehave like this from now on; the dice start again."""
        self.dice.reset()
        self.faults = faults


class Simulator:
    """A running simulator.

    Args:
        core: What to serve.
        host: Address to listen on.
        port: Port; 0 takes any free one.
        temporary: Folder to remove when it stops.

    Attributes:
        url: Where it answers, e.g. ``"http://127.0.0.1:40123"``.
    """

    def __init__(self, core: Core, host: str, port: int, temporary: Path | None = None) -> None:
        self._core = core
        self._temporary = temporary
        self._served = ServedApp(create_app(core), host, port, name="simulator")
        self.url = self._served.url
        core.worker.start()

    def __repr__(self) -> str:
        return f"Simulator({self.url})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def faults(self) -> Faults:
        """What it does wrong; may be set at any time."""
        return self._core.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._core.set_faults(faults)

    def script(self, replies: Sequence[Any] | str | os.PathLike[str]) -> None:
        """Say what chats are answered, in order; after that the rules answer again.

        Args:
            replies: Texts; or objects with ``reply``, ``thinking``, ``tools`` (a list of
                ``name`` and ``arguments``), ``when`` (words that the prompt must hold) and
                ``times`` (how often; None for ever). Or a ``.yaml`` or ``.json`` file with
                such a list. ``[]`` ends a script.

        Raises:
            InputError: A line is not of that form, or the file cannot be read.
        """
        if isinstance(replies, str | os.PathLike):
            replies = read_script(replies)
        self._core.script = Script(replies)

    def replay(
        self,
        recording: str | os.PathLike[str],
        *,
        pace: Pace = "real",
        otherwise: Otherwise = "refuse",
    ) -> None:
        """Answer as a recording says: the n-th time a request comes, with its n-th answer.

        Two requests are the same if method, path, query and body are. The order of a JSON
        object's fields, keys, the boundaries of uploads and ids that a client drew by lot do
        not count. After the last answer to a request it is given again. Any key is right, and
        none.

        Args:
            recording: File or folder that :func:`mistral_nb.simulator.record` wrote; a
                ``.json`` file with the ``request`` and ``response`` of one chat will do too.
            pace: ``"real"`` streams as slowly as the server did, ``"fast"`` at once.
            otherwise: ``"refuse"`` what was not recorded, with a sentence that says what comes
                nearest and how it differs; or let the ``"rules"`` answer it.

        Raises:
            InputError: There is no such recording, or an option is unknown.
        """
        self._core.player = Player(recording, pace, otherwise)

    @property
    def chunk_delay(self) -> float:
        """Seconds between the chunks of a stream; may be set at any time."""
        return self._core.chunk_delay

    @chunk_delay.setter
    def chunk_delay(self, seconds: float) -> None:
        self._core.chunk_delay = seconds

    @property
    def batch_rate(self) -> float | None:
        """Batch rows a second over all jobs; 0 for as many as it can, None holds them all back.

        May be set at any time. A job that is held back still goes from QUEUED to RUNNING,
        and can be cancelled.
        """
        return self._core.worker.rate

    @batch_rate.setter
    def batch_rate(self, rows: float | None) -> None:
        if rows is not None and rows < 0:
            raise ValueError(f"batch_rate must not be negative, not {rows!r}.")
        self._core.worker.rate = rows
        self._core.worker.wake()

    def stats(self) -> dict[str, Any]:
        """Return what it was asked and paid for; the keys are those of Stats.snapshot."""
        return self._core.stats.snapshot()

    @property
    def stopped(self) -> bool:
        """True once it was told to stop."""
        return self._served.stopped

    def wait(self) -> None:
        """Block until it stops."""
        self._served.wait()

    def stop(self) -> None:
        """Stop serving; unfinished batch jobs stay in the home folder for the next start."""
        if not self._served.stop():
            return
        self._core.worker.stop()
        self._core.state.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def start_simulator(
    home: Path | str | None = None,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    faults: Faults | None = None,
    api_keys: Collection[str] | None = None,
    seed: int = 0,
    chunk_delay: float = 0.012,
    batch_rate: float | None = 1500.0,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    send_retry_after: bool = True,
    whole_calls: bool = True,
) -> Simulator:
    """Start a simulator in this process.

    Args:
        home: Folder for files, jobs and counts; None for one that goes when it stops.
        port: Port to listen on; 0 takes any free one.
        host: Address to listen on; only this machine can reach the default.
        faults: What to do wrong; nothing by default.
        api_keys: The only keys that are right; None takes any but those that start with
            ``wrong`` or ``invalid``.
        seed: Same seed and requests, same replies.
        chunk_delay: Seconds between the chunks of a stream; 0 for as fast as it can.
        batch_rate: Batch rows a second over all jobs; 0 for as many as it can, None for none.
        requests_per_minute: Limit for all requests that a model answers; None for none.
        tokens_per_minute: Likewise in tokens.
        send_retry_after: Whether a 429 by these limits says when to come back.
        whole_calls: Stream a tool call's arguments in one chunk, else in pieces.

    Returns:
        The running simulator; stop it with ``stop()``.

    Raises:
        StoreError: The folder cannot be used.
        PortTaken: Nothing can listen at the port.
    """
    temporary = Path(tempfile.mkdtemp(prefix="mistral-simulator-")) if home is None else None
    state = State(Path(home) if home is not None else temporary or Path(), seed)
    core = Core(
        state=state,
        stats=Stats(state),
        faults=faults or Faults(),
        limiter=RateLimiter(requests_per_minute, tokens_per_minute),
        api_keys=None if api_keys is None else frozenset(api_keys),
        chunk_delay=chunk_delay,
        batch_rate=batch_rate,
        whole_calls=whole_calls,
        send_retry_after=send_retry_after,
        seed=seed,
    )
    try:
        return Simulator(core, host, port, temporary)
    except OSError:
        state.close()
        raise


_shared: dict[tuple[int, Path], Simulator] = {}
_shared_lock = threading.Lock()


def shared_simulator(home: Path | str) -> Simulator:
    """Return this process's simulator for a folder, started at first use.

    Args:
        home: Its folder; jobs left there by an earlier process go on.

    Returns:
        The running simulator; it stops when the interpreter exits.
    """
    key = (os.getpid(), Path(home).resolve())
    with _shared_lock:
        running = _shared.get(key)
        if running is None or running.stopped:
            running = _shared[key] = start_simulator(key[1])
            atexit.register(running.stop)
        return running


def script(replies: Sequence[Any] | str | os.PathLike[str]) -> None:
    """Say what the built-in simulator of this process answers: see :meth:`Simulator.script`.

    Args:
        replies: Lines, or a file that holds them.

    Raises:
        InputError: A line is of no use, or no built-in simulator runs.
    """
    with _shared_lock:
        running = [each for each in _shared.values() if not each.stopped]
    if not running:
        raise InputError("No built-in simulator runs here: call mnb.connect() without a key first.")
    for simulator in running:
        simulator.script(replies)


def replay(
    recording: str | os.PathLike[str],
    *,
    pace: Pace = "real",
    otherwise: Otherwise = "refuse",
    port: int = 0,
) -> Simulator:
    """Start a simulator that answers as a recording says: see :meth:`Simulator.replay`.

        with mnb.simulator.replay("lesson.jsonl") as simulator:
            session = mnb.connect(server_url=simulator.url)

    Args:
        recording: File or folder that :func:`mistral_nb.simulator.record` wrote.
        pace: ``"real"`` streams as slowly as the server did, ``"fast"`` at once.
        otherwise: ``"refuse"`` what was not recorded, or let the ``"rules"`` answer it.
        port: Port to listen on; 0 takes any free one.

    Returns:
        The running simulator; stop it with ``stop()`` or use it in a ``with`` block.

    Raises:
        InputError: There is no such recording, or an option is unknown.
        PortTaken: Nothing can listen at the port.
    """
    simulator = start_simulator(port=port)
    try:
        simulator.replay(recording, pace=pace, otherwise=otherwise)
    except BaseException:
        simulator.stop()
        raise
    return simulator


def serve(
    *,
    script: Sequence[Any] | str | os.PathLike[str] | None = None,
    replay: str | os.PathLike[str] | None = None,
    pace: Pace = "real",
    otherwise: Otherwise = "refuse",
    **options: Any,
) -> None:
    """Run a simulator in the foreground until it is interrupted; prints its address first.

    Args:
        script: As for :meth:`Simulator.script`.
        replay: Recording to answer from, as for :meth:`Simulator.replay`.
        pace: Likewise.
        otherwise: Likewise.
        options: As for :func:`start_simulator`.
    """
    simulator = start_simulator(**options)
    try:
        if script is not None:
            simulator.script(script)
        if replay is not None:
            simulator.replay(replay, pace=pace, otherwise=otherwise)
    except BaseException:
        simulator.stop()
        raise
    said = "simulated" if replay is None else f"those of {replay}"
    hold(simulator, f"Simulator at {simulator.url} (replies are {said}; Ctrl+C stops it)")


def hold(server: Simulator | Recorder, sentence: str) -> None:
    """Let a server run until this process is interrupted or told to end.

    Args:
        server: A running one; it is stopped in the end.
        sentence: What to print first.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a kill also tidies up
    print(sentence, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.wait()
    server.stop()
