"""The magics: `%%mistral` sends a cell as a prompt, `%mistral` shows what there is."""

from __future__ import annotations

import string
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, needs_local_scope
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from mistral_nb.errors import MistralNbError
from mistral_nb.session import default_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["MistralMagics", "register"]

TABLES = ("models", "runs", "simulator", "usage")
OPTIONS = ("--conversation", "--fill", "--json", "--model", "--no-stream", "--out", "--system",
           "--temperature")  # fmt: skip


@magics_class
class MistralMagics(Magics):
    """`%%mistral` and `%mistral`, on the session that module-level calls use."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._conversations: dict[str, list[Any]] = {}

    @needs_local_scope
    @magic_arguments()
    @argument("-m", "--model", help="model to ask; else the session's")
    @argument("-t", "--temperature", type=float, help="0 is steady, 1 is lively")
    @argument("-o", "--out", metavar="NAME", help="keep the Reply in this variable")
    @argument("-c", "--conversation", metavar="NAME", help="go on with (or begin) a conversation")
    @argument("-f", "--fill", action="store_true", help="fill {name} from the notebook's variables")
    @argument("--system", metavar="TEXT", help="system prompt, quoted")
    @argument("--json", action="store_true", help="ask for a JSON object")
    @argument("--no-stream", action="store_true", help="show the reply only when it is whole")
    @cell_magic("mistral")
    def ask(self, line: str, cell: str, local_ns: Mapping[str, Any] | None = None) -> None:
        """Send the cell as a prompt and stream the reply below it."""
        arguments = parse_argstring(self.ask, line)
        if arguments.out and (not arguments.out.isidentifier() or iskeyword(arguments.out)):
            raise UsageError(f"-o {arguments.out}: not a variable name.")
        prompt = _filled(cell, self._names(local_ns)) if arguments.fill else cell
        history = self._conversations.get(arguments.conversation, [])
        options: dict[str, Any] = {"temperature": arguments.temperature}
        if arguments.json:
            options["response_format"] = {"type": "json_object"}
        message = {"role": "user", "content": prompt.strip()}
        if not message["content"]:
            raise UsageError("The cell is empty: write the prompt below %%mistral.")
        system = _unquoted(arguments.system)
        handle = default_session().stream(
            [*history, message],
            model=arguments.model,
            system=system,
            show=not arguments.no_stream,
            **{name: value for name, value in options.items() if value is not None},
        )
        try:
            reply = handle.result()
        except MistralNbError:
            # An earlier reply under the same name must not pass for this one.
            self.shell.user_ns.pop(arguments.out, None)
            if arguments.no_stream:
                raise
            return  # the live view shows it, with the partial text and a Retry button
        if arguments.no_stream:
            display(reply)
        if arguments.conversation and reply.text:  # stopped before it said anything, it is no turn
            self._conversations[arguments.conversation] = [*history, message, reply]
        if arguments.out:
            self.shell.user_ns[arguments.out] = reply

    @line_magic("mistral")
    def show(self, line: str) -> Any:
        """Show a table: ``%mistral models``, ``usage``, ``runs`` or ``simulator``."""
        table = line.strip()
        if table not in TABLES:
            raise UsageError(f"%mistral takes one of {', '.join(TABLES)}, not {table!r}.")
        session = default_session()
        if table == "simulator":
            return _simulator(session.connection.simulator, session.connection.base_url)
        return getattr(session, table)()

    def _names(self, local_ns: Mapping[str, Any] | None) -> dict[str, Any]:
        return {**self.shell.user_ns, **(local_ns or {})}


def _filled(prompt: str, names: Mapping[str, Any]) -> str:
    """Put values in the place of ``{name}``; ``{{`` and ``}}`` stay literal braces."""
    parts = []
    try:
        for text, name, spec, conversion in string.Formatter().parse(prompt):
            parts.append(text)
            if name is None:
                continue
            if spec or conversion or not name.isidentifier():
                raise UsageError(
                    f"-f fills plain names like {{text}}, not {{{name}}}. "
                    "Double the braces, {{ and }}, to keep them as they are."
                )
            if name not in names:
                raise UsageError(f"-f: there is no variable {name!r} in this notebook.")
            parts.append(str(names[name]))
    except ValueError as error:
        raise UsageError(f"-f: {error}. Double literal braces: {{{{ and }}}}.") from error
    return "".join(parts)


def _unquoted(text: str | None) -> str | None:
    """Drop the quotes that IPython's argument splitting keeps."""
    if text and len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _simulator(simulator: Any, base_url: str) -> Any:
    if simulator is None:
        print(f"Not in use: this session talks to {base_url}.")
        return None
    import pandas as pd

    return pd.Series({"url": simulator.url, **simulator.stats()}, name="simulator").to_frame()


def register(ipython: InteractiveShell) -> None:
    """Register the magics and their completion; a second time changes nothing.

    Args:
        ipython: The running shell.
    """
    if "mistral" in ipython.magics_manager.magics["cell"]:
        return
    ipython.register_magics(MistralMagics(ipython))
    ipython.set_hook("complete_command", _complete_line, str_key="%mistral")
    ipython.set_hook("complete_command", _complete_cell, str_key="%%mistral")


def _complete_line(_: object, event: Any) -> list[str]:
    return [table for table in TABLES if table.startswith(event.symbol)]


def _complete_cell(_: object, event: Any) -> list[str]:
    return [option for option in OPTIONS if option.startswith(event.symbol)]
