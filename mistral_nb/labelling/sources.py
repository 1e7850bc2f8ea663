"""Where a run's rows come from and where its result goes: a table, files, a Dask DataFrame.

Everything between the two, from requests to the ledger, is the same whatever the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import orjson
import pandas as pd

from mistral_nb.errors import InputError, RunError
from mistral_nb.labelling.cluster import DaskSource, is_dask
from mistral_nb.labelling.files import FilesSource
from mistral_nb.labelling.frames import keep_frame, load_frame, require_kept, same_frame
from mistral_nb.labelling.merge import merge
from mistral_nb.labelling.natives import PANDAS, as_pandas, beside, in_kind, kind_of, rows_of
from mistral_nb.labelling.requests import make_requests

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from pathlib import Path

    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.labelling.ledger import Ledger
    from mistral_nb.labelling.merge import Names
    from mistral_nb.labelling.prompts import Prompt
    from mistral_nb.labelling.recipe import Recipe
    from mistral_nb.labelling.requests import Request
    from mistral_nb.labelling.schemas import Schema

__all__ = ["FrameSource", "KeptFrame", "Source", "Target", "as_source", "kept_source"]


class Target(Protocol):
    """Where the results of a run go."""

    def merged(self, ledger: Ledger | None, schema: Schema | None, names: Names) -> Any:
        """Put the results beside the rows they belong to.

        Args:
            ledger: Has a result for every row; None if there are no rows.
            schema: Reads the replies.
            names: Names of the result columns.

        Returns:
            What the run gives as its result.
        """

    def read(self, result: Any, columns: Sequence[str]) -> pd.DataFrame:
        """Bring columns of the result into memory, whatever it is.

        Args:
            result: What :meth:`merged` returned.
            columns: Names of columns; those that are not there are left out.

        Returns:
            A table with these columns, and maybe others.
        """


class Source(Target, Protocol):
    """The rows of a run, which can be gone through as often as is needed.

    Attributes:
        columns: All column labels, in order.
        rows: How many rows there are; None if that shows only when they are read.
    """

    columns: Sequence[Hashable]
    rows: int | None

    def requests(self, prompt: Prompt, recipe: Recipe, *, bodies: bool = True) -> Iterator[Request]:
        """Yield each row's request, in order.

        Args:
            prompt: Makes each row's text or messages.
            recipe: Makes bodies of them.
            bodies: False if only the content hashes are wanted.

        Yields:
            One Request a row.

        Raises:
            InputError: The prompt fails on a row.
        """

    def keep(self, folder: RunFolder) -> None:
        """Keep in a run's folder what another process needs to give the result."""


class FrameSource:
    """A table in memory.

    Args:
        df: The table, shape (rows, columns): of pandas, or of a library that narwhals knows.

    Attributes:
        df: The table as a pandas one.

    Raises:
        InputError: It is no table, or its columns have several levels.
    """

    def __init__(self, df: Any) -> None:
        self._kind = kind_of(df)
        self._table = df
        df = as_pandas(df)
        if isinstance(df.columns, pd.MultiIndex):
            raise InputError(
                "The table's columns have several levels. Join them first, e.g. "
                "df.columns = ['.'.join(map(str, c)) for c in df.columns]."
            )
        self.df: pd.DataFrame = df
        self.columns: Sequence[Hashable] = list(df.columns)
        self.rows: int | None = len(df)

    def requests(self, prompt: Prompt, recipe: Recipe, *, bodies: bool = True) -> Iterator[Request]:
        """Yield each row's request; see :class:`Source`."""
        del bodies  # making them costs little more than their hashes
        return make_requests(self.df, prompt, recipe)

    def keep(self, folder: RunFolder) -> None:
        """Write the table to the run's folder, once."""
        if not folder.input.exists():
            keep_frame(self.df, folder.input, kind=self._kind)

    def take(self, positions: Sequence[int]) -> FrameSource:
        """Return some of the rows."""
        return FrameSource(rows_of(self._table, positions))

    def merged(self, ledger: Ledger | None, schema: Schema | None, names: Names) -> Any:
        """Return the table with the result columns, in the kind that it came in."""
        merged = merge(self.df, ledger.results() if ledger else [], schema, names)
        if self._kind == PANDAS:
            return merged
        return beside(self._table, merged.iloc[:, self.df.shape[1] :])

    def read(self, result: Any, columns: Sequence[str]) -> pd.DataFrame:
        """Return the whole table as a pandas one."""
        del columns
        return as_pandas(result)


class KeptFrame:
    """A table that a run's folder keeps; it is read when the result is asked for.

    Args:
        path: Where it is kept.

    Raises:
        RunError: Some of it could not be kept; the message says what to do.
    """

    def __init__(self, path: Path) -> None:
        self._kind = require_kept(path)
        self._path = path

    def merged(self, ledger: Ledger | None, schema: Schema | None, names: Names) -> Any:
        """Return the table with the result columns, in the kind that it came in."""
        merged = FrameSource(load_frame(self._path)).merged(ledger, schema, names)
        return in_kind(merged, self._kind)

    def read(self, result: Any, columns: Sequence[str]) -> pd.DataFrame:
        """Return the whole table as a pandas one."""
        del columns
        return as_pandas(result)


def as_source(rows: Any) -> Source:
    """Take whatever holds rows as a source.

    Args:
        rows: A table in memory, files, or a Dask DataFrame.

    Returns:
        The source.

    Raises:
        InputError: It holds no rows that can be labelled.
    """
    if isinstance(rows, FilesSource):
        return rows
    return DaskSource(rows) if is_dask(rows) else FrameSource(rows)


def kept_source(folder: RunFolder, name: str, df: Any = None) -> Target:
    """Find the rows of a run that is there already.

    Args:
        folder: The run's folder.
        name: The run's name.
        df: The table, for a run whose table could not be kept.

    Returns:
        Something that can give the run's result.

    Raises:
        RunError: The rows were not kept and not given.
        InputError: The table given is another one.
    """
    if folder.manifest.exists():
        manifest = orjson.loads(folder.manifest.read_bytes())
        if manifest["kind"] == "files":
            return FilesSource.kept(manifest, name)
        raise RunError(
            f"The run {name!r} labels a Dask DataFrame, which no file can keep: call label with "
            "it again, with the same arguments. Nothing is paid twice."
        )
    if df is None:
        return KeptFrame(folder.input)
    given = FrameSource(df)
    if not same_frame(given.df, folder.input):
        raise InputError(f"The table given is not the one that {name!r} was started with.")
    return given
