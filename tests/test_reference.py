"""The reference: every public name tells its arguments, what it returns and what it raises."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import textwrap
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import mistral_nb as mnb
from mistral_nb import errors, records
from mistral_nb.portal import Handle

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.client import Connection
    from mistral_nb.simulator import Simulator


@pytest.fixture
def session(simulator: Simulator) -> mnb.Session:
    """A session with the test's own simulator."""
    return mnb.connect("test-key", simulator.url)


MODULES = ("agents", "jobs", "simulator", "webhooks")
"""Public modules whose names are public too; `errors` has a test file of its own."""
GIVEN = {
    "accessor": ("FrameAccessor", "SeriesAccessor"),
    "agents.entries": ("File",),
    "client": ("Connection", "ModelDeprecated", "RateLimits"),
    "event_source": ("ServerEvent", "ServerEvents"),
    "subscriptions": ("EventStream", "Subscription"),
    "labelling": ("Result", "start_run", "process_batch"),
    "labelling.quality": ("Comparison", "Evaluation", "agreement", "compare", "evaluate"),
    "labelling.plots": ("plot_confusion", "plot_run"),
    "portal": ("Handle",),
    "records": tuple(records.__all__),
    "relay": ("Relay",),
    "settings": ("Settings",),
    "widgets.chat_panel": ("ChatPanel",),
    "widgets.job_board": ("JobBoard",),
    "widgets.review": ("Review", "review"),
}
"""What people are given, or pass on, without importing it from a public module."""
INNER = {
    "mnb.agents.Conversation": ("begun", "configure", "download_async", "first_ask", "start_over"),
    "mnb.agents.TurnHandle": ("add_result", "entry", "mark", "wait_for"),
}
"""What the parts of the package say to each other, though their objects are public."""
SECTIONS = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Source):$", re.MULTILINE)
ITEM = re.compile(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?:(?: |$)", re.MULTILINE)
SAYS_IT = ("Return ", "Yield ", "Give ", "Whether ", "Open ", "Make ")


@dataclass(frozen=True)
class Entry:
    """One documented thing."""

    name: str
    thing: Any
    owner: type | None = None

    @cached_property
    def doc(self) -> str:
        return inspect.cleandoc(self.thing.__doc__ or "")

    @cached_property
    def sections(self) -> dict[str, str]:
        parts = SECTIONS.split(self.doc)
        return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}

    def items(self, section: str) -> set[str]:
        found = ITEM.findall(self.sections.get(section, ""))
        return {name.strip("*") for names in found for name in names.split(", ")}

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        if inspect.isclass(self.thing) and "__init__" not in vars(self.thing):
            return {}
        try:
            found = inspect.signature(self.thing).parameters
        except ValueError:
            return {}
        return {n: p for n, p in found.items() if n not in {"self", "cls"} and n[0] != "_"}

    @cached_property
    def raised(self) -> set[str]:
        """Names of our errors that its own body raises."""
        what = self.thing
        if inspect.isclass(what):
            # A dataclass's own __init__ is made, and raises nothing.
            made = "__post_init__" if is_dataclass(what) else "__init__"
            what = vars(what).get(made)
        if what is None:
            return set()
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(what))))
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                function = node.exc.func
                if isinstance(function, ast.Name) and function.id in errors.__all__:
                    names.add(function.id)
        return names


def members(name: str, kind: type) -> list[Entry]:
    """The public methods and properties of a class that our package defines."""
    found = []
    for each in sorted({n for base in kind.__mro__ for n in vars(base) if n[0] != "_"}):
        static = inspect.getattr_static(kind, each)
        inner = static.__func__ if isinstance(static, (classmethod, staticmethod)) else static
        if isinstance(inner, (property, cached_property)):
            getter = inner.fget if isinstance(inner, property) else inner.func
            if (getter.__module__ or "").startswith("mistral_nb"):
                found.append(Entry(f"{name}.{each}", inner, kind))
        elif inspect.isfunction(inner) and inner.__module__.startswith("mistral_nb"):
            found.append(Entry(f"{name}.{each}", inner, kind))
    return found


def public() -> list[Entry]:
    """Everything public, once."""
    things = {f"mnb.{name}": getattr(mnb, name) for name in mnb.__all__}
    for module in MODULES:
        found = import_module(f"mistral_nb.{module}")
        things |= {f"mnb.{module}.{name}": getattr(found, name) for name in found.__all__}
    for module, names in GIVEN.items():
        found = import_module(f"mistral_nb.{module}")
        things |= {f"{module}.{name}": getattr(found, name) for name in names}
    entries: dict[int, Entry] = {}
    for name, thing in things.items():
        if inspect.isclass(thing) and issubclass(thing, BaseException | tuple):
            continue
        if inspect.isclass(thing):
            entries.setdefault(id(thing), Entry(name, thing))
            for entry in members(name, thing):
                if entry.name.rpartition(".")[2] in INNER.get(name, ()):
                    continue
                entries.setdefault(id(entry.thing), entry)
        elif inspect.isfunction(thing):
            entries.setdefault(id(thing), Entry(name, thing))
    return list(entries.values())


PUBLIC = public()
CALLABLE = [
    each for each in PUBLIC if inspect.isfunction(each.thing) or inspect.isclass(each.thing)
]


def wrong(entries: list[Entry], is_right: Callable[[Entry], object]) -> list[str]:
    """Return the names of those that break a law."""
    return [entry.name for entry in entries if not is_right(entry)]


def test_everything_public_is_looked_at() -> None:
    """The walk finds functions, classes, methods and properties: a law with no cases holds."""
    found = {entry.name for entry in PUBLIC}
    some = {"mnb.stream", "mnb.Session.label", "mnb.Run.cost", "mnb.agents.Conversation.send"}
    assert some <= found
    assert len(found) > 300


def test_all_have_a_sentence() -> None:
    """The first paragraph of each is a sentence that says what it is or does."""

    def is_right(entry: Entry) -> bool:
        first = entry.doc.split("\n\n")[0]
        return first.endswith((".", ":")) and (first[0].isupper() or first[0] in "`%")

    assert wrong(PUBLIC, is_right) == []


def test_arguments_are_told() -> None:
    """`Args` has every parameter and no other; a dataclass may tell its fields as `Attributes`."""

    def is_right(entry: Entry) -> bool:
        told = entry.items("Args")
        fields = set()
        for each in entry.thing.__mro__ if is_dataclass(entry.thing) else ():
            fields |= Entry(entry.name, each).items("Attributes")
        names = set(entry.parameters)
        return names <= told | fields and (told <= names or not names)

    assert wrong(CALLABLE, is_right) == []


def test_what_is_returned_is_told() -> None:
    """What returns something says what, in its first line or in `Returns`."""

    def is_right(entry: Entry) -> bool:
        gives = str(inspect.signature(entry.thing).return_annotation)
        silent = gives in {"None", "Self", "NoReturn"}
        said = entry.doc.startswith(SAYS_IT) or entry.sections.keys() & {"Returns", "Yields"}
        return silent or bool(said)

    assert wrong([each for each in CALLABLE if inspect.isfunction(each.thing)], is_right) == []


def test_what_is_raised_is_told() -> None:
    """`Raises` names each error of ours that a body raises, or a class above it."""

    def is_right(entry: Entry) -> bool:
        told = entry.items("Raises")
        above = ({each.__name__ for each in getattr(errors, n).__mro__} for n in entry.raised)
        return all(told & names for names in above)

    assert any(entry.raised for entry in CALLABLE)
    assert wrong(CALLABLE, is_right) == []


def test_everything_says_what_it_is() -> None:
    """No public object shows as an address in memory."""
    classes = [entry for entry in PUBLIC if inspect.isclass(entry.thing)]
    assert wrong(classes, lambda entry: entry.thing.__repr__ is not object.__repr__) == []


def test_reprs_are_short_and_tell(session: mnb.Session) -> None:
    """What people have in their hands says in a line what it is and how far it got."""
    handle = session.stream("Reply with exactly: hi", show=False)
    frame = pd.DataFrame({"text": ["a", "b"]})
    queue, bus = session.queue(), session.events
    stream = bus.stream("run:*")
    told = {
        handle.result(20): "Reply('hi'",
        handle: "StreamHandle(mistral-small-latest, done, 2 characters)",
        session: f"Session({session.connection.base_url}, model=",
        bus: "EventBus(",
        stream: "EventStream('run:*', 0 waiting, 0 dropped)",
        queue.counts(): "Handle(",
        queue: "Queue(",
        frame.mistral: "FrameAccessor(shape=(2, 1))",
        frame["text"].mistral: "SeriesAccessor(2 texts)",
        mnb.simulator.Faults(cut_after=3): "Faults(cut_after=3)",
        session.conversation(): "Conversation('chat-1', mistral-small-latest, 0 turns)",
    }
    for thing, words in told.items():
        assert repr(thing).startswith(words)
        assert len(repr(thing)) < 200
        assert "0x" not in repr(thing)
        assert "test-key" not in repr(thing)
    stream.close()
    assert repr(stream) == "EventStream('run:*', closed)"


def test_a_handle_says_how_it_ended(connection: Connection) -> None:
    """A handle's repr says if it runs, is done, failed and why, or was stopped."""

    async def work(seconds: float, error: Exception | None = None) -> None:
        await asyncio.sleep(seconds)
        if error is not None:
            raise error

    portal = connection.portal
    running = Handle(portal, lambda: work(60))
    assert repr(running) == "Handle(running)"
    running.stop()
    with pytest.raises(asyncio.CancelledError):
        running.result(5)
    assert repr(running) == "Handle(stopped)"
    failed = Handle(portal, lambda: work(0, errors.RunError("Oh.")))
    with pytest.raises(errors.RunError):
        failed.result(5)
    assert repr(failed) == "Handle(failed: Oh.)"


def test_sections_are_in_order() -> None:
    """The sections come in one order everywhere, and each has something in it."""
    order = ["", "Args", "Attributes", "Returns", "Yields", "Raises", "Source", "Example"]

    def is_right(entry: Entry) -> bool:
        names = list(entry.sections)
        return names == sorted(names, key=order.index) and all(
            text.strip() for text in entry.sections.values()
        )

    assert wrong(PUBLIC, is_right) == []


def test_help_of_the_package_names_everything() -> None:
    """`help(mnb)` begins with one screen that has every public name, and names nothing else."""
    assert mnb.__doc__ is not None
    screen = mnb.__doc__.partition("\nBegin\n")[2]
    said = re.findall(r"^    (\w+(?:  ?\w+)*?)(?:   +|$)", screen, re.MULTILINE)
    names = {name for line in said for name in line.split()}
    beside = {name for name in mnb.__all__ if re.search(rf"\b{name}\b", screen)}
    assert names <= set(mnb.__all__)
    assert beside == set(mnb.__all__)
    assert mnb.__doc__.count("\n") < 50
    assert max(map(len, mnb.__doc__.splitlines())) <= 91


def test_completion_shows_public_names_only() -> None:
    """`dir` of the package and of its public modules has what `__all__` has, and no helper."""
    assert set(dir(mnb)) == {*mnb.__all__, "__version__"}
    assert set(mnb.agents.__all__) < set(dir(mnb.agents))  # and the verbs of Agents
    for name in {*MODULES, "errors"} - {"agents"}:
        module = import_module(f"mistral_nb.{name}")
        assert dir(module) == sorted(module.__all__)


@pytest.mark.parametrize(
    ("verb", "method"),
    [("stream", "stream"), ("label", "label"), ("Queue", "queue"), ("WebhookNotifier", "webhooks")],
)
def test_a_verb_has_the_words_of_its_method(verb: str, method: str) -> None:
    """`help(mnb.stream)` tells what the session's method takes, without its `self`."""
    function, of = getattr(mnb, verb), getattr(mnb.Session, method)
    assert function.__doc__ == of.__doc__
    assert (
        list(inspect.signature(function).parameters) == list(inspect.signature(of).parameters)[1:]
    )
    assert (function.__name__, function.__module__) == (verb, "mistral_nb")
