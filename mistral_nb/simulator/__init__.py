"""A local server that speaks Mistral's REST API: real HTTP, made-up replies, no network.

Importing this package is cheap: the web server is loaded when a simulator starts, the
tokenizer when something is first counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mistral_nb.simulator.faults import Faults

if TYPE_CHECKING:
    from mistral_nb.simulator.recording import Recorder, record
    from mistral_nb.simulator.server import (
        Simulator,
        replay,
        script,
        serve,
        shared_simulator,
        start_simulator,
    )

__all__ = [
    "Faults",
    "Recorder",
    "Simulator",
    "record",
    "replay",
    "script",
    "serve",
    "shared_simulator",
    "start_simulator",
]


def __getattr__(name: str) -> Any:
    if name in {"Recorder", "record"}:
        from mistral_nb.simulator import recording

        return getattr(recording, name)
    if name in __all__:
        from mistral_nb.simulator import server

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
