"""Windows and macOS: what only POSIX has stands in guarded places, and files have names for all."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mistral_nb as mnb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mistral_nb.simulator import Simulator

PACKAGE = Path(mnb.__file__).parent
GUARDED = {
    "labelling/folder.py: fcntl",  # the lock of a run; msvcrt has Windows' own
    "labelling/media.py: O_NONBLOCK",  # Windows has no named pipes in folders
    "cli/tour.py: geteuid",  # JupyterLab asks root for one more word
    "serving.py: SO_REUSEADDR",  # on Windows it lets others take the port over
}
"""Places that use what not every system has, behind a question whether it is there."""
MODULES = frozenset({"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"})
POSIX_NAMES = """
fork forkpty killpg setsid setpgid getpgid getuid geteuid getgid getegid getgroups chown fchown
fchmod lchown mkfifo mknod statvfs uname getloadavg sched_getaffinity nice wait3 wait4 pread
pwrite fdatasync posix_fadvise O_NONBLOCK O_DIRECTORY O_NOFOLLOW O_CLOEXEC O_SYNC O_DSYNC
SIGKILL SIGUSR1 SIGUSR2 SIGHUP SIGALRM SIGCHLD SIGPIPE SIGQUIT setitimer alarm pthread_kill
pthread_sigmask sigwait AF_UNIX SO_REUSEADDR SO_REUSEPORT add_signal_handler
open_unix_connection start_unix_server tzset
"""
NAMES = frozenset(POSIX_NAMES.split())
WRONG = {"rename": "replaces on POSIX, fails on Windows: use replace", "kill": "ends on Windows"}
QUESTIONS = {"platform", "name", "hasattr"}
TEXT = {"open", "read_text", "write_text"}
FOLDERS = re.compile(r"^/(tmp|dev|proc|etc|var|usr|home)(/|$)")


@cache
def sources() -> list[tuple[str, ast.Module]]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [(f.relative_to(PACKAGE).as_posix(), ast.parse(f.read_text("utf-8"))) for f in files]


def asks(node: ast.AST) -> bool:
    """Tell whether a condition asks for sys.platform, os.name or an attribute's presence."""
    names = (
        each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "")
        for each in ast.walk(node)
    )
    return isinstance(node, ast.expr) and bool(QUESTIONS & set(names))


def uses(node: ast.AST, *, guarded: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield what only some systems have below a node, and whether a guard stands before it."""
    match node:
        case ast.Import(names=names):
            yield from ((each.name, guarded) for each in names if each.name in MODULES)
        case ast.ImportFrom(module=module) if module in MODULES:
            yield str(module), guarded
        case ast.Attribute(attr=attr) if attr in NAMES:
            yield attr, guarded
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), _]) if (
            name in NAMES
        ):
            yield name, True
    if isinstance(node, ast.If | ast.IfExp) and asks(node.test):
        guarded = True
    if isinstance(node, ast.BoolOp) and asks(node.values[0]):
        guarded = True
    for child in ast.iter_child_nodes(node):
        yield from uses(child, guarded=guarded)


def test_what_only_posix_has_is_guarded() -> None:
    """The guarded places are the listed ones, and nothing stands unguarded."""
    found = [
        (f"{path}: {name}", guarded) for path, tree in sources() for name, guarded in uses(tree)
    ]
    assert {place for place, guarded in found if not guarded} == set()
    assert {place for place, _ in found} == GUARDED


def calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a function or method of that name, with its place."""
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and name in {
                getattr(node.func, "attr", None),
                getattr(node.func, "id", None),
            }:
                yield f"{path}:{node.lineno}", node


def test_files_are_replaced_and_never_renamed_over() -> None:
    """os.rename fails on Windows where a file is there; os.kill ends a process there."""
    places = [(place, name) for name in WRONG for place, call in calls(name) if is_os(call)]
    assert places == []


def is_os(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "os"


def test_every_text_file_names_its_encoding() -> None:
    """Without one, Windows would read and write in the code page of its country."""
    bare = []
    for name in TEXT:
        for place, call in calls(name):
            words = {each.arg for each in call.keywords}
            texts = [each.value for each in call.args if isinstance(each, ast.Constant)]
            binary = any(isinstance(each, str) and "b" in each for each in texts)
            named = "encoding" in words or (name != "open" and bool(call.args))
            on_file = name != "open" or is_file(call)
            if on_file and not binary and not named:
                bare.append(place)
    assert bare == []


def is_file(call: ast.Call) -> bool:
    """Tell opening a file from the package's own methods of that name, which take no mode."""
    modes = [each.value for each in call.args if isinstance(each, ast.Constant)]
    return isinstance(call.func, ast.Name) or any(
        each in {"r", "w", "a", "x", "r+"} for each in modes
    )


def test_no_folder_of_one_system_is_written_out() -> None:
    """Temporary, device and system folders are asked for, never spelled."""
    spelled = [
        f"{path}:{node.lineno}: {node.value}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and FOLDERS.match(node.value)
    ]
    assert spelled == []


@pytest.mark.parametrize(
    ("name", "queue"), [('a:b?c*<d>|"e"', "con"), ("nul", "aux.jobs"), ("ünïcode 名.", "a.")]
)
def test_names_of_files_work_everywhere(
    simulator: Simulator, home: Path, name: str, queue: str
) -> None:
    """Whatever a run, a queue or a conversation is called, Windows could hold its files."""
    import pandas as pd

    session = mnb.connect(api_key="k", server_url=simulator.url)
    session.label(pd.DataFrame({"text": ["x"]}), "{text}", labels=["a"], name=name).result()
    session.conversation(name=name).send("Reply with exactly: yes").result()
    with session.queue(name=queue) as opened:
        opened.add("complete", {}).result()
    written = [path.relative_to(home) for path in home.rglob("*")]
    assert len(written) > 5
    for part in {part for path in written for part in path.parts}:
        assert not re.search(r'[<>:"/\\|?*\x00-\x1f]', part), part
        assert not part.endswith((" ", ".")), part
        assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", part), part
    assert max(len(str(path)) for path in written) < 120  # of the 260 that a path may have


def test_a_console_of_few_characters_is_enough(home: Path) -> None:
    """What a console cannot show becomes a ?, in a stream as in the command's tables."""
    stream = (
        "import mistral_nb as mnb; mnb.stream('Reply with exactly: x\\u2611y', show=True).result()"
    )
    command = "import sys; from mistral_nb.cli import main; sys.exit(main(['runs']))"
    label = (
        "import mistral_nb as mnb, pandas as pd; df = pd.DataFrame({'text': ['x']}); "
        "mnb.label(df, '{text}', labels=['a'], name='\\u2611 run').result()"
    )
    for code, said in ((stream, "x?y\n"), (label, ""), (command, "? run")):
        done = subprocess.run(
            [sys.executable, "-X", "utf8=0", "-c", code],
            env={"MISTRAL_NB_HOME": str(home), "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert said in done.stdout
