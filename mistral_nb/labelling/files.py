"""Data sets larger than memory: files in, labelled files out, in the memory of one shard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mistral_nb.errors import InputError, RunError
from mistral_nb.labelling.mirror import Mirror
from mistral_nb.labelling.parts import Part, find_parts, to_frame
from mistral_nb.labelling.requests import make_requests

if TYPE_CHECKING:
    import os
    from collections.abc import Hashable, Iterator, Sequence

    import pyarrow as pa

    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.labelling.ledger import Ledger
    from mistral_nb.labelling.merge import Names
    from mistral_nb.labelling.prompts import Prompt
    from mistral_nb.labelling.recipe import Recipe
    from mistral_nb.labelling.requests import Request
    from mistral_nb.labelling.schemas import Schema

__all__ = ["FilesSource"]


class FilesSource:
    """A data set in files, and the folder for its labelled parts.

    Args:
        source: A .parquet, .csv or .jsonl file, or a folder of them.
        out: Folder for the labelled parts; made if it is not there.

    Attributes:
        out: That folder.
        columns: The columns that every part has.
        rows: How many rows there are; None if that shows only when they are read.

    Raises:
        InputError: The parts do not fit together, or the folder cannot be written to or
            holds files of these names that no run has written.
    """

    def __init__(self, source: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
        self._source, self.out = Path(source).absolute(), Path(out).absolute()
        self._parts = find_parts(self._source)
        self.columns: Sequence[Hashable] = _common_columns(self._parts)
        counts = [part.rows() for part in self._parts]
        known = [count for count in counts if count is not None]
        self.rows: int | None = sum(known) if len(known) == len(counts) else None
        if self.out.resolve().is_relative_to(self._source.resolve()):
            raise InputError(f"out={self.out} is inside the data set; name another folder.")
        self._mirror = Mirror(self.out)
        self._mirror.check(self._parts)

    @classmethod
    def kept(cls, manifest: dict[str, Any], name: str) -> FilesSource:
        """Find the data set of a run again.

        Args:
            manifest: What the run's folder keeps of it.
            name: The run's name.

        Raises:
            RunError: It has changed.
            InputError: It is not there any more.
        """
        made = cls(manifest["source"], manifest["out"])
        was = {tuple(each) for each in manifest["parts"]}
        now = {tuple(each) for each in made._manifest()["parts"]}
        if changed := sorted({each[0] for each in was ^ now}):
            raise RunError(
                f"The data set of {name!r} has changed since the run was started, e.g. "
                f"{changed[0]} in {made._source}. Put it back as it was and resume, or label it "
                "as a new run: answers to rows that stayed the same are taken over."
            )
        return made

    def requests(self, prompt: Prompt, recipe: Recipe, *, bodies: bool = True) -> Iterator[Request]:
        """Yield each row's request; see :class:`~mistral_nb.labelling.sources.Source`."""
        del bodies  # making them costs little more than their hashes
        first = 0
        for part in self._parts:
            for batch in part.batches():
                frame = to_frame(self._in_order(batch))
                try:
                    yield from make_requests(frame, prompt, recipe, first)
                except InputError as error:
                    raise InputError(f"{part.path}: {error}") from error
                first += batch.num_rows

    def keep(self, folder: RunFolder) -> None:
        """Keep in a run's folder where the rows are."""
        folder.keep_manifest(self._manifest())

    def merged(self, ledger: Ledger | None, schema: Schema | None, names: Names) -> pd.DataFrame:
        """Write the labelled parts that are not there yet.

        Returns:
            One row a part: part (its name in the folder ``out``), rows, failed.

        Raises:
            RunError: A part changed while it was labelled.
            StoreError: A part cannot be written.
        """
        first = 0
        table = []
        made_from = self._mirror.made_from(ledger, schema, names)
        for part in self._parts:
            if Part.at(part.path, part.name) != part:
                raise RunError(
                    f"{part.path} has changed since the run was started, so its answers belong "
                    "to other rows. Put it back as it was; nothing is paid twice."
                )
            rows, failed = self._mirror.write(part, ledger, schema, names, first, made_from)
            table.append((self._mirror.name(part), rows, failed))
            first += rows
        if ledger is not None and first != ledger.run().rows:
            raise RunError(
                f"The run has {ledger.run().rows} rows, the data set has {first}. "
                "Put back the one that the run was started with."
            )
        return pd.DataFrame(table, columns=["part", "rows", "failed"]).astype({"part": "string"})

    def read(self, result: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
        """Read some columns of all labelled parts."""
        return self._mirror.read(result["part"], columns)

    def _manifest(self) -> dict[str, Any]:
        parts = [[part.name, part.bytes, part.changed] for part in self._parts]
        source, out = str(self._source), str(self.out)
        return {"kind": "files", "source": source, "out": out, "parts": parts}

    def _in_order(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give a part's columns the order of the first part's: prompts know them by place."""
        return batch if batch.schema.names == self.columns else batch.select(self.columns)


def _common_columns(parts: list[Part]) -> list[Hashable]:
    names: list[Hashable] = parts[0].schema().names
    for part in parts[1:]:
        if other := set(part.schema().names) ^ set(names):
            raise InputError(
                f"{part.path} does not have the columns of {parts[0].path}: "
                f"{', '.join(sorted(map(str, other)))} is in one of them only."
            )
    return names
