"""A Dask DataFrame as a run's rows: its workers read, encode and merge; one process pays.

Workers turn partitions into requests, and later put the results beside the rows. Ledger,
shards, rate limit and budget stay with the process that called `label`: they are one per
organisation, so one coordinator owns them. What workers do has no effect but its result, so
a killed one loses nothing: Dask does its part again, and nothing is sent because of it.

Requests come back over the cluster's own connections, compressed, so workers need not share
a file system. Results go out as files where every worker sees the run's folder, else inside
the tasks.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mistral_nb.errors import InputError, MistralNbError, RunError, StoreError
from mistral_nb.labelling.merge import Cut, merge
from mistral_nb.labelling.requests import Request, content_digest, make_requests

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    import pandas as pd

    from mistral_nb.labelling.folder import RunFolder
    from mistral_nb.labelling.ledger import Ledger
    from mistral_nb.labelling.merge import Names
    from mistral_nb.labelling.prompts import Prompt
    from mistral_nb.labelling.recipe import Recipe
    from mistral_nb.labelling.schemas import Schema

__all__ = ["DaskSource", "is_dask"]

_REQUESTS = pa.schema(
    [("body", pa.large_binary()), ("digest", pa.binary()), ("error", pa.string())]
)
_RESULTS = pa.schema([("text", pa.large_string()), ("error", pa.large_string())])
_PIECE = 5_000


@dataclass(frozen=True)
class Partition:
    """A partition as it was when its requests were made.

    Attributes:
        rows: How many rows it had.
        content: Hash over their requests.
    """

    rows: int
    content: str


@dataclass(frozen=True)
class Parcel:
    """The results of a partition on their way to a worker.

    Attributes:
        partition: The partition they belong to.
        path: File that holds them, where workers see the same files.
        data: Else they themselves.
    """

    partition: Partition
    path: str | None
    data: bytes | None

    def open(self) -> list[tuple[int, str | None, str | None]]:
        """Return (row, text, error) of each row.

        Raises:
            RunError: The file is not there.
        """
        try:
            data = self.data if self.path is None else Path(self.path).read_bytes()
        except OSError as error:
            raise RunError(
                f"The results of the run are not at {self.path}: the run was forgotten, or this "
                "worker does not see the client's files. Call label again with the same "
                "arguments; nothing is paid twice."
            ) from error
        table = _read(data or b"")
        texts, errors = table["text"].to_pylist(), table["error"].to_pylist()
        return list(zip(range(len(texts)), texts, errors, strict=True))


def is_dask(rows: Any) -> bool:
    """Return True for a Dask DataFrame; does not import Dask."""
    dask = sys.modules.get("dask.dataframe")
    return dask is not None and isinstance(rows, dask.DataFrame)


class DaskSource:
    """A Dask DataFrame, on the cluster of the current client, or on threads without one.

    Its graph is computed when the run is looked for, when requests are made and when the
    result is computed: persist a frame that is dear to make.

    Args:
        frame: The frame.

    Attributes:
        columns: All column labels, in order.
        rows: None: how many there are shows only when they are read.
    """

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self._client = _client()
        self._partitions: list[Partition] = []
        self._sent: tuple[Prompt, Recipe] | None = None
        self.columns: Sequence[Hashable] = list(frame.columns)
        self.rows: int | None = None

    def requests(self, prompt: Prompt, recipe: Recipe, *, bodies: bool = True) -> Iterator[Request]:
        """Yield each row's request; see :class:`~mistral_nb.labelling.sources.Source`.

        Raises:
            InputError: The prompt fails on a row.
            RunError: The cluster could not do its part.
        """
        from dask.delayed import delayed

        make = delayed(_prepare, pure=False)
        asked = delayed((prompt, recipe), pure=False, traverse=False)  # sent once, not each time
        pieces = self._frame.to_delayed()
        tasks = [make(piece, n, asked, bodies) for n, piece in enumerate(pieces)]
        self._sent = prompt, recipe
        self._partitions = []
        first = 0
        for partition, data in self._computed(tasks):
            self._partitions.append(partition)
            for batch in _read(data).to_batches(max_chunksize=_PIECE):
                columns = [batch[name].to_pylist() for name in _REQUESTS.names]
                for row, (body, digest, error) in enumerate(zip(*columns, strict=True), first):
                    yield Request(row, body or b"", digest, error)
                first += batch.num_rows

    def keep(self, folder: RunFolder) -> None:
        """Keep in a run's folder what its rows are; they themselves cannot be kept."""
        folder.keep_manifest({"kind": "dask", "partitions": len(self._partitions)})

    def merged(self, ledger: Ledger | None, schema: Schema | None, names: Names) -> Any:
        """Have the workers put the results beside their rows, whenever that is computed.

        Returns:
            A Dask DataFrame with the same partitions and index.
        """
        import dask.dataframe as dd
        from dask.delayed import delayed

        assert self._sent is not None
        parcels = self._parcels(ledger) if ledger else []
        join = delayed(_merge_partition, pure=False)
        asked = delayed(self._sent, pure=False, traverse=False)
        shape = delayed((schema, names), pure=False, traverse=False)
        pieces = [
            join(piece, parcel, shape, asked)
            for piece, parcel in zip(self._frame.to_delayed(), parcels, strict=True)
        ]
        meta = merge(self._frame._meta, [], schema, names)  # noqa: SLF001 - the way it is known
        divisions = self._frame.divisions if self._frame.known_divisions else None
        return dd.from_delayed(pieces, meta=meta, divisions=divisions, verify_meta=False)

    def read(self, result: Any, columns: Sequence[str]) -> pd.DataFrame:
        """Compute some columns of the labelled frame."""
        made: pd.DataFrame = result[[name for name in columns if name in result.columns]].compute()
        return made

    def _computed(self, tasks: list[Any]) -> Iterator[Any]:
        """Yield the tasks' results in order; each is let go when the next is asked for."""
        if self._client is None:
            for task in tasks:
                yield task.compute(scheduler="threads")
            return
        futures = self._client.compute(tasks)
        try:
            for number, future in enumerate(futures):
                try:
                    result = future.result()
                except MistralNbError:
                    raise
                except Exception as error:
                    raise RunError(
                        f"The Dask cluster could not make the requests of partition {number}: "
                        f"{type(error).__name__}: {error}. Nothing was sent because of it; call "
                        "label again when the cluster is well."
                    ) from error
                future.release()
                yield result
        finally:
            self._client.cancel(futures)

    def _parcels(self, ledger: Ledger) -> list[Parcel]:
        """Pack the results of each partition."""
        folder = ledger.path.parent / "results"
        shared = self._shares(ledger.path)
        cut = Cut(ledger.results())
        parcels = []
        for number, partition in enumerate(self._partitions):
            rows = cut.take(partition.rows)
            columns = [[row[1] for row in rows], [row[2] for row in rows]]
            data = _written(pa.table(columns, schema=_RESULTS))
            if shared:
                path = folder / f"{number:05d}-{partition.content[:8]}.arrow"
                _keep(data, path)
                parcels.append(Parcel(partition, str(path), None))
            else:
                parcels.append(Parcel(partition, None, data))
        return parcels

    def _shares(self, path: Path) -> bool:
        """Return True if every worker sees a file of this process."""
        if self._client is None:
            return True
        seen = self._client.run(_sees, str(path))
        return bool(seen) and all(seen.values())


def _client() -> Any:
    """Return the current Dask client, or None."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


# What follows runs on the workers


def _prepare(
    frame: pd.DataFrame, number: int, asked: tuple[Prompt, Recipe], bodies: bool
) -> tuple[Partition, bytes]:
    """Make the requests of a partition."""
    columns: tuple[list[Any], ...] = ([], [], [])

    def noted() -> Iterator[Request]:
        for request in make_requests(frame, *asked):
            cells = (request.body if bodies else None, request.digest, request.error)
            for column, cell in zip(columns, cells, strict=True):
                column.append(cell)
            yield request

    try:
        content = content_digest(noted())
    except InputError as error:
        raise InputError(f"Partition {number}: {error}") from error
    return Partition(len(frame), content), _written(pa.table(list(columns), schema=_REQUESTS))


def _merge_partition(
    frame: pd.DataFrame,
    parcel: Parcel,
    shape: tuple[Schema | None, Names],
    asked: tuple[Prompt, Recipe],
) -> pd.DataFrame:
    """Put the results beside their rows, if these still are the rows that were asked about."""
    if content_digest(make_requests(frame, *asked)) != parcel.partition.content:
        raise RunError(
            "A partition has other rows now than when its requests were made, so its answers "
            "belong to others. Does the frame depend on chance, or did its files change? "
            "Persist it before labelling it."
        )
    return merge(frame, [parcel.open()], *shape)


def _sees(path: str) -> bool:
    return Path(path).exists()


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=_PIECE)
    return bytes(sink.getvalue().to_pybytes())


def _read(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()


def _keep(data: bytes, path: Path) -> None:
    """Write a file, whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    try:
        path.parent.mkdir(exist_ok=True)
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        raise StoreError(
            f"Cannot write {path}: {error.strerror or error}. The answers are safe: make room "
            "and call again."
        ) from error
