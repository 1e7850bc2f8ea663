"""The choice of an engine by a queue's address."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mistral_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mistral_nb.jobs.engine import Engine

__all__ = ["open_engine"]

_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
"""Names that are devices on Windows, not files; no queue's name begins with a plus."""


def open_engine(
    url: str | None, name: str, folder: Path, lease: float, status_base: Callable[[], str]
) -> Engine:
    """Open the store of a queue's jobs.

    Args:
        url: The queue's address; None for a file in ``folder``.
        name: The queue's name.
        folder: Where files without an address of their own are.
        lease: Seconds without a sign of life after which a worker is believed to be gone.
        status_base: Returns the address that status URLs begin with.

    Raises:
        InputError: The address or the lease cannot be used.
        MissingPackage: The extra ``redis`` is not installed.
        SettingsError: The address is malformed.
        StoreError: The file cannot be used.
    """
    if not isinstance(lease, int | float) or not 0 < lease < math.inf:
        raise InputError(f"lease must be a number of seconds above 0, not {lease!r}.")
    if url is not None and not isinstance(url, str):
        raise InputError(f"A queue's address is a text, not {type(url).__name__}.")
    scheme = "sqlite" if url is None else url.partition(":")[0].lower()
    if scheme in {"redis", "rediss", "unix"}:
        from mistral_nb.jobs.bull import BullEngine

        return BullEngine(str(url), name, lease, status_base)
    if scheme != "sqlite":
        raise InputError(  # the address is not quoted: it may hold a password
            "A queue's address begins with sqlite:/// or redis://, as in sqlite:///path/to/file "
            "and redis://host:6379/0; None is a file in the home folder."
        )
    from mistral_nb.jobs.embedded import EmbeddedEngine

    path = folder / f"{'+' if _DEVICE.match(name) else ''}{name}.sqlite"
    if url is not None:
        path = Path(url.removeprefix("sqlite://").removeprefix("/"))
        if url.startswith("sqlite:////"):
            path = Path("/") / path
    return EmbeddedEngine(path, lease, status_base)
