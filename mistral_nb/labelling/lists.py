"""Plain lists: `process_batch` asks many prompts at once and gives results in their order."""

from __future__ import annotations

import asyncio
import enum
import inspect
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from mistral_nb.errors import InputError, MistralNbError, RunError
from mistral_nb.labelling.online import Outcome, Outgoing, Sender
from mistral_nb.labelling.recipe import Recipe
from mistral_nb.labelling.schemas import Invalid, compile_schema
from mistral_nb.labelling.verdicts import Fault
from mistral_nb.portal import Handle, in_kernel
from mistral_nb.replies import Reply, WrongShapeError, whole_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mistral_nb.client import Connection
    from mistral_nb.labelling.schemas import Schema
    from mistral_nb.usage import Usage

__all__ = ["ListRun", "Result", "process_batch", "reader"]

PROGRESS_EVERY = 0.1
"""Seconds between two calls of ``on_progress``."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one prompt.

    Attributes:
        index: Its place in the list.
        content: The reply's text, or with a schema its value; None where there is an error.
        error: Why there is none; None if all is well.
        reply: The reply with its tokens; also one that does not fit the schema.
        attempts: How often it was sent.
    """

    index: int
    content: Any = None
    error: MistralNbError | None = None
    reply: Reply | None = field(default=None, repr=False)
    attempts: int = 0

    @property
    def usage(self) -> Usage | None:
        """Tokens of the reply."""
        return self.reply.usage if self.reply else None


def process_batch(
    connection: Connection,
    prompts: Iterable[Any],
    concurrency: int = 5,
    *,
    model: str | None = None,
    system: str | None = None,
    schema: Any = None,
    labels: Any = None,
    rpm: int | None = None,
    tpm: int | None = None,
    attempts: int = 6,
    on_progress: Callable[[int, int], Any] | None = None,
    **options: Any,
) -> ListRun:
    """Ask many prompts, several at once, under the server's rate limits.

    For results that are kept on disk and never paid for twice, use `label`.

    Args:
        connection: The server.
        prompts: Texts, or lists of messages (dicts with role and content).
        concurrency: Most requests at once.
        model: Model to ask; else the connection's default.
        system: System prompt.
        schema: What replies must look like: pydantic model, dataclass, JSON schema, ...
        labels: Labels to choose from, in place of a schema.
        rpm: Most requests a minute; None leaves it to the server's limits.
        tpm: Most tokens a minute; likewise.
        attempts: Most attempts a prompt, the first included.
        on_progress: Called with (prompts through, prompts in all) now and then and at the
            end; a plain function in a thread, a coroutine function on the toolkit's loop.
        **options: Options of a chat request: temperature, max_tokens, random_seed, ...

    Returns:
        A handle: ``await`` it or call ``.result()`` for one :class:`Result` a prompt, in
        the prompts' order. A prompt that fails has an ``error`` and stops no other.

    Raises:
        InputError: An argument cannot be used; nothing was sent.
        SchemaError: The schema cannot be used.
    """
    if isinstance(prompts, (str, bytes, Mapping)) or not isinstance(prompts, Iterable):
        raise InputError("prompts must be a list of texts or of message lists.")
    compiled = compile_schema(schema, labels)
    recipe = Recipe(model or connection.settings.model, system, compiled, options)
    read = reader(labels if schema is None else schema, compiled)
    return ListRun(
        connection,
        list(prompts),
        recipe,
        read,
        on_progress=on_progress,
        concurrency=concurrency,
        rpm=rpm,
        tpm=tpm,
        attempts=attempts,
    )


class ListRun(Handle[list[Result]]):
    """Prompts on their way; ``await`` it or call ``.result()`` for their results in order.

    Args:
        connection: The server.
        prompts: What to ask.
        recipe: Makes request bodies of them.
        read: Makes a reply's content of its text.
        on_progress: Told (through, total).
        limits: Arguments of :class:`~mistral_nb.labelling.online.Sender`.
    """

    def __init__(
        self,
        connection: Connection,
        prompts: list[Any],
        recipe: Recipe,
        read: Callable[[str], Any],
        on_progress: Callable[[int, int], Any] | None,
        **limits: Any,
    ) -> None:
        self._prompts = prompts
        self._recipe = recipe
        self._read = read
        self._on_progress = on_progress
        self._results: dict[int, Result] = {}
        self._news = asyncio.Event()
        self._over = asyncio.Event()
        self._sender = Sender(
            connection, recipe.endpoint, commit=self._take, check=self._check, **limits
        )
        super().__init__(connection.portal, self._work)

    def __repr__(self) -> str:
        failed = sum(1 for each in self.results if each.error is not None)
        about = f", {failed:,} failed" if failed else ""
        return f"ListRun({len(self._results):,} of {len(self._prompts):,} prompts{about})"

    @property
    def results(self) -> list[Result]:
        """The results so far, in the prompts' order."""
        return [self._results[index] for index in sorted(self._results)]

    def stop(self) -> None:
        """Send nothing more; the result then has an error for every prompt left out."""
        self._sender.stop()

    def pause(self) -> None:
        """Send nothing more until :meth:`resume`."""
        self._sender.pause()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._sender.resume()

    def _interrupted(self) -> bool:
        self.stop()
        return in_kernel()

    async def _work(self) -> list[Result]:
        telling = asyncio.create_task(self._tell())
        try:
            rest = await self._send()
        except BaseException:
            telling.cancel()
            raise
        self._over.set()
        self._news.set()
        await telling
        return [
            self._results.get(index) or Result(index, error=rest)
            for index in range(len(self._prompts))
        ]

    async def _send(self) -> MistralNbError:
        """Send all, and return what is to be said of prompts that were not sent."""
        try:
            await self._sender.send(self._requests())
        except MistralNbError as error:
            if not any(each.error is None for each in self._results.values()):
                raise
            return error  # what was answered before is paid for: it is the result
        return RunError("Not answered: the call was stopped first.")

    def _requests(self) -> Iterator[Outgoing]:
        model = orjson.dumps(self._recipe.model)
        for index, prompt in enumerate(self._prompts):
            try:
                body = self._recipe.body(_checked(prompt))
            except (InputError, TypeError, ValueError) as error:
                wrong = InputError(f"Prompt {index} cannot be sent: {error}.")
                self._results[index] = Result(index, error=wrong)
                continue
            yield Outgoing(str(index), b'{"model":%b,%b' % (model, body[1:]))

    def _check(self, reply: dict[str, Any]) -> Fault | None:
        try:
            read = whole_reply(reply, 0.0)
        except WrongShapeError as error:
            return Fault(f"the reply is not of the API's shape ({error})")
        try:
            self._read(read.text)
        except Invalid as error:
            if read.finish_reason == "length":
                return Fault(f"{error}; it was cut at its longest, see max_tokens", again=False)
            return Fault(str(error))
        return None

    async def _take(self, _: Sequence[str], outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if not outcome.undone:
                result = self._result(outcome)
                self._results[result.index] = result
        self._news.set()

    def _result(self, outcome: Outcome) -> Result:
        index = int(outcome.custom_id)
        reply = None
        if outcome.body is not None:
            try:
                reply = whole_reply(orjson.loads(outcome.body), outcome.seconds)
            except WrongShapeError:
                assert outcome.error is not None
        if outcome.error is not None or reply is None:
            return Result(index, None, outcome.error, reply, outcome.attempts)
        return Result(index, self._read(reply.text), None, reply, outcome.attempts)

    async def _tell(self) -> None:
        """Tell of progress until all is over; a callback that fails is not called again."""
        if self._on_progress is None:
            return
        over = False
        while not over:
            await self._news.wait()
            self._news.clear()
            over = self._over.is_set()
            done, total = len(self._results), len(self._prompts)
            try:
                if inspect.iscoroutinefunction(self._on_progress):
                    await self._on_progress(done, total)
                else:
                    await anyio.to_thread.run_sync(self._on_progress, done, total)
            except Exception as error:
                told = f"on_progress failed: {type(error).__name__}: {error}"
                warnings.warn(told, stacklevel=2)
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), PROGRESS_EVERY)


def _checked(prompt: Any) -> str | list[dict[str, Any]]:
    if isinstance(prompt, str):
        if prompt.strip():
            return prompt
        raise InputError("it is empty")
    if isinstance(prompt, list) and prompt and all(isinstance(each, dict) for each in prompt):
        return prompt
    raise InputError(
        "it must be a text or a list of messages (dicts with role and content), "
        f"not {type(prompt).__name__}"
    )


def reader(given: Any, schema: Schema | None) -> Callable[[str], Any]:
    """Return what makes content of a reply's text; it raises Invalid where that fails.

    Args:
        given: The schema or labels as the caller gave them.
        schema: What was made of them.
    """
    if schema is None:
        return str
    if isinstance(given, type) and issubclass(given, enum.Enum):
        return lambda text: given(schema.parse(text)[0])
    if schema.choice:
        return lambda text: schema.parse(text)[0]
    if isinstance(given, Mapping):
        return lambda text: (schema.parse(text), orjson.loads(text))[1]
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Any] = TypeAdapter(given)
    return lambda text: (schema.parse(text), adapter.validate_json(text))[1]
