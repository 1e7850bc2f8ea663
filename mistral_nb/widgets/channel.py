"""One live view in the browser as the kernel sees it: an anywidget and its message channel."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.widgets.frames import Frame

__all__ = ["Channel", "front_end_may_show_widgets"]

_STATIC = files("mistral_nb.widgets") / "static"
_BESIDE = {"chat_panel": ("stream_view_page.js", "stream_view.css")}
"""What a widget takes from another one's files."""
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


class Channel:
    """Sends frames to every view of one widget and hears what its buttons say.

    Args:
        on_message: Called with each message of the front end, on whatever thread ipykernel
            serves it: it may only set flags and schedule work.
        static: Name of the widget's `.js` and `.css` file.
    """

    def __init__(
        self, on_message: Callable[[dict[str, Any]], object], static: str = "stream_view"
    ) -> None:
        self._widget = _widget_class(static)(layout=_layout())
        self._widget.on_msg(lambda _widget, content, _buffers: on_message(content))
        # ipykernel 7.4 would route our buttons' messages to the main shell, which is busy
        # while a cell waits for the reply. JupyterLab's own choice, a subshell, should stand.
        comm = self._widget.comm
        if hasattr(comm, "_reply_subshell_for"):
            comm._reply_subshell_for = lambda _data, default: default  # noqa: SLF001

    def bundle(self) -> dict[str, Any]:
        """Return the display data of a view."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        return {WIDGET_MIME: view}

    def send(self, frame: Frame) -> None:
        """Send a frame, from any thread.

        It is sent as what it is, a message that no request caused: without a parent header
        it is 300 bytes shorter, a third of what goes over the wire.
        """
        comm = self._widget.comm
        if comm is None:  # closed
            return
        kernel: Any = getattr(comm, "kernel", None)
        session = getattr(kernel, "session", None)
        if session is None:  # a kernel other than ipykernel
            self._widget.send(frame)
            return
        content = {"comm_id": comm.comm_id, "data": {"method": "custom", "content": frame}}
        session.send(kernel.iopub_socket, "comm_msg", content, parent={}, ident=comm.topic)

    def close(self) -> None:
        """Free the widget in the kernel and in every browser."""
        self._widget.close()


def front_end_may_show_widgets() -> bool:
    """Return False if the running cell was sent by a program that has no screen.

    Notebooks name the cell in the request's metadata; nbclient (nbmake, papermill) and
    consoles send none, and would keep a widget's state in the file although none is shown.
    """
    from IPython import get_ipython

    try:
        return bool(get_ipython().kernel.get_parent()["metadata"])
    except (AttributeError, KeyError, TypeError):
        return True


@cache
def _widget_class(static: str) -> Any:
    """Make the kernel's half of a widget; its name tells the browser whose style is whose."""
    from anywidget import AnyWidget

    code, style = module(static), _packed(f"{static}.css")
    if "mnb-panel" in code:
        style = f"{_packed('panel.css')}\n{style}"
    for name in _BESIDE.get(static, ()):
        if name.endswith(".css"):
            style = f"{_packed(name)}\n{style}"
    parts = {"_esm": code, "_css": style, "__module__": __name__}
    return type(f"{static.title().replace('_', '')}Widget", (AnyWidget,), parts)


_shared_layout: Any = None


def _layout() -> Any:
    """Return one layout model for all views: each would otherwise open a comm of its own."""
    global _shared_layout  # noqa: PLW0603 - remade if someone closed every widget
    from ipywidgets import Layout

    if _shared_layout is None or _shared_layout.comm is None:
        _shared_layout = Layout()
    return _shared_layout


def module(static: str) -> str:
    """Return a widget's JavaScript, from its files name.js and name_part.js, and what all share."""
    names = sorted(file.name for file in _STATIC.iterdir())
    files = [name for name in names if re.fullmatch(rf"{static}(_\w+)?\.js", name)]
    files += [name for name in _BESIDE.get(static, ()) if name.endswith(".js")]
    return "\n".join(map(_packed, [*files, "shared.js"]))


def _packed(name: str) -> str:
    """Read a static file without its comments and indentation: it is sent with every view."""
    source = (_STATIC / name).read_text("utf-8")
    source = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    source = re.sub(r"(^|[ ;{])// .*$", r"\1", source, flags=re.MULTILINE)
    return "\n".join(line for line in map(str.strip, source.splitlines()) if line)
