"""An error as a notebook shows it: what happened, why and what to do; the traceback folded.

IPython asks an exception that has ``_render_traceback_`` what to print in place of a traceback.
Ours display a panel and print one line, which stays the cell's ``error`` output: Run All stops
there, and programs that run notebooks see the cell fail. ``%tb`` prints the whole traceback and
``%debug`` opens the debugger, as for any other error. Nothing is installed into IPython.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import traceback
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from mistral_nb.errors import explanation, printable
from mistral_nb.markdown import escape, prose
from mistral_nb.portal import in_kernel
from mistral_nb.widgets.settle import ALARM, ALARM_TITLE, QUIET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mistral_nb.errors import MistralNbError

__all__ = ["present"]

ROWS = ("Why", "What to do", "Settings")
SHORT_MODES = ("Context", "Minimal")
"""Of IPython's ``%xmode``: in the others a person has asked for tracebacks."""
LONGEST_MESSAGE = 2000
LONGEST_TRACEBACK = 20_000
WIDTH = 88
HINT = "%tb prints the whole traceback, %debug opens the debugger."
CODE = re.compile("``(.+?)``")
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
ROW = (
    f"margin:0;padding:0 1em 0.2em 0;vertical-align:top;text-align:left;white-space:nowrap;{QUIET}"
)
CELL = "margin:0;overflow-wrap:anywhere;padding:0 0 0.2em 0;text-align:left;white-space:normal"
CODE_STYLE = (
    "font-size:0.9em;line-height:1.35;margin:0.4em 0;max-height:24em;overflow:auto;"
    "user-select:all;-webkit-user-select:all;white-space:pre"
)

_last: tuple[weakref.ref[MistralNbError], int] | None = None
"""The error shown last and the identity of its traceback: asked for again, all of it is meant."""


def present(error: MistralNbError) -> list[str]:
    """Show an error in IPython.

    Args:
        error: It has just ended a cell, or is asked for again by ``%tb``.

    Returns:
        What IPython prints, or sends as the traceback of the cell's error output.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return traceback.format_exception(error)
    try:
        if _all_of_it(shell, error):
            whole: list[str] = shell.InteractiveTB.structured_traceback(
                type(error), error, error.__traceback__
            )
            return whole
        with suppress(AttributeError):  # what %debug looks at; else that of an earlier error
            shell.InteractiveTB.tb = error.__traceback__
        told = error.shown_in is not None and error.shown_in == shell.execution_count
        return _short(_Lesson.of(error, shell), told=told)
    except Exception:  # an error must not be lost because it could not be shown nicely
        return traceback.format_exception(error)


def _all_of_it(shell: Any, error: MistralNbError) -> bool:
    global _last  # noqa: PLW0603 - there is one last error in a process
    now = (weakref.ref(error), id(error.__traceback__))
    again = now == _last
    _last = now
    return again or getattr(shell.InteractiveTB, "mode", SHORT_MODES[0]) not in SHORT_MODES


def _short(lesson: _Lesson, *, told: bool) -> list[str]:
    """Display the panel, unless a live view above told it; return the line below."""
    if not in_kernel():
        return [lesson.text()]
    if not told:
        from IPython.display import display

        display({"text/html": lesson.html(), "text/plain": lesson.text()}, raw=True)
    place = f" ({lesson.place})" if lesson.place else ""
    return [f"\x1b[31m{lesson.name}\x1b[0m: {lesson.what}{place}"]


@dataclass(frozen=True)
class _Lesson:
    """What is told of one error.

    Attributes:
        name: Its class.
        what: First sentence of its message.
        more: The other sentences.
        rows: Label -> text, of its class.
        place: Where the person's own code stood, such as ``"Cell In[3], line 2"``.
        line: That line of code.
        traceback: The whole traceback, without folders of this machine.
    """

    name: str
    what: str
    more: str
    rows: dict[str, str]
    place: str
    line: str
    traceback: str

    @classmethod
    def of(cls, error: MistralNbError, shell: Any) -> _Lesson:
        told = traceback.TracebackException.from_exception(error)
        own = None
        for each in _chain(told):
            found = _name_places(each.stack, shell)
            own = found if each is told else own
        message = str(error)
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[:LONGEST_MESSAGE]}…"
        what, *more = SENTENCE.split(message, maxsplit=1) or [""]
        known = explanation(type(error))
        return cls(
            name=type(error).__name__,
            what=" ".join(what.split()),
            more=" ".join(more),
            rows={label: known[label] for label in ROWS if label in known},
            place=f"{own.filename}, line {own.lineno}" if own else "",
            line=(own.line or "").strip() if own else "",
            traceback=printable("".join(told.format()))[-LONGEST_TRACEBACK:],
        )

    def text(self) -> str:
        """Return it as plain text."""
        width = max(map(len, self.rows), default=0) + 2
        rows = {label.ljust(width): text.replace("``", "") for label, text in self.rows.items()}
        parts = [fill(f"{self.name}: {self.what}", WIDTH)]
        parts += [fill(line, WIDTH) for line in self.more.splitlines()]
        parts += [f"\n{self.place}\n    {self.line}\n"] * bool(self.place)
        parts += [
            fill(label + text, WIDTH, subsequent_indent=" " * width) for label, text in rows.items()
        ]
        return "\n".join([*parts, f"\n{HINT}"])

    def html(self) -> str:
        """Return it as HTML that needs no script and no style sheet; words in it are escaped."""
        more = "".join(f"<br>{prose(line)}" for line in self.more.splitlines())
        rows = "".join(
            f'<tr style="background:none"><th scope="row" style="{ROW}">{label}</th>'
            f'<td style="{CELL}">{_with_code(text)}</td></tr>'
            for label, text in self.rows.items()
        )
        place = f": {escape(self.place)}" if self.place else ""
        return (
            f'<div role="alert" class="mnb-error" style="max-width:52em;{ALARM}">'
            f'<strong style="{ALARM_TITLE}">{self.name}</strong>'
            f'<p style="margin:0.2em 0 0.6em"><b>{prose(self.what)}</b>{more}</p>'
            f'<table style="border:0;margin:0 0 0.6em;font-size:1em">{rows}</table>'
            f'<details><summary style="{QUIET};cursor:pointer">Traceback{place}</summary>'
            f'<pre tabindex="0" style="{CODE_STYLE}">{escape(self.traceback)}</pre>'
            f'<small style="{QUIET}">{HINT}</small></details></div>'
        )


def _chain(
    told: traceback.TracebackException, seen: set[int] | None = None
) -> Iterator[traceback.TracebackException]:
    """Yield an exception as it will be printed, with its causes and the members of groups."""
    seen = set() if seen is None else seen
    if id(told) in seen:
        return
    seen.add(id(told))
    yield told
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            yield from _chain(other, seen)


def _name_places(stack: traceback.StackSummary, shell: Any) -> traceback.FrameSummary | None:
    """Give frames short names, drop IPython's own before the cell; return the last own frame."""
    own = [place for place, frame in enumerate(stack) if _name(frame, shell)]
    if not own:
        return None
    last = stack[own[-1]]
    del stack[: own[0]]
    return last


def _name(frame: traceback.FrameSummary, shell: Any) -> bool:
    """Name a frame's file without the folders of this machine; True if it is a person's own."""
    path = frame.filename
    cell = getattr(shell.compile, "format_code_name", lambda _: None)(path)
    if cell is not None:
        frame.filename = " ".join(cell)
        return True
    for folder, name in _LIBRARIES:
        if path.startswith(folder):
            frame.filename = name + path[len(folder) :]
            return False
    if path.startswith("<"):
        return False
    with suppress(OSError, ValueError):
        frame.filename = str(Path(path).relative_to(Path.cwd()))
        return True
    frame.filename = Path(path).name
    return True


def _libraries() -> list[tuple[str, str]]:
    """Return the folders that libraries are imported from and their short names, inner first."""
    paths = sysconfig.get_paths()
    package = Path(__file__).parents[1]
    found = [
        (str(package), f"{package.name}{os.sep}"),
        (paths["purelib"], ""),
        (paths["platlib"], ""),
    ]
    found += [
        (entry, "") for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))
    ]
    return [(folder + os.sep, name) for folder, name in [*found, (paths["stdlib"], "")]]


_LIBRARIES = _libraries()


def _with_code(text: str) -> str:
    parts = CODE.split(text)
    return "".join(
        f'<code style="white-space:nowrap">{prose(part)}</code>' if odd % 2 else prose(part)
        for odd, part in enumerate(parts)
    )
