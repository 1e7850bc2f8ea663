"""`df.mistral` and `series.mistral`: labelling where the data is.

`import mistral_nb` must not import pandas, which takes longer than all the rest. So the
accessors are registered at once if pandas is there already, and else right after somebody
imports it: a finder that finds nothing itself waits for that one import, and is gone then.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    import pandas as pd

    from mistral_nb.session import Session

__all__ = ["FrameAccessor", "SeriesAccessor", "register", "watch"]

CLASSIFY = "Which of the labels fits this text best?\n\n{text}"


class FrameAccessor:
    """What `df.mistral` offers, through the default session.

    Args:
        df: The table, shape (rows, columns).
    """

    def __init__(self, df: pd.DataFrame) -> None:
        self._df = df

    def __repr__(self) -> str:
        return f"FrameAccessor(shape={self._df.shape}): label(prompt, ...)"

    def label(self, prompt: Any = None, **options: Any) -> Any:
        """Label every row; see :meth:`mistral_nb.Session.label`.

        Args:
            prompt: Template with ``{column}`` places, or a function of a row.
            **options: As there: ``labels``, ``schema``, ``endpoint``, ``mode``, ...

        Returns:
            The run: ``await`` it or call ``.result()`` for the labelled table.
        """
        return _session().label(self._df, prompt, **options)


class SeriesAccessor:
    """What `series.mistral` offers, through the default session.

    Its methods wait for the answers and return them beside the series, so they go online
    unless ``mode="batch"`` is given. An interrupt loses nothing: the same call goes on.

    Args:
        series: Texts, shape (rows,); rows without one are left out.
    """

    def __init__(self, series: pd.Series[Any]) -> None:
        self._series = series

    def __repr__(self) -> str:
        return f"SeriesAccessor({len(self._series):,} texts): classify(labels), embed()"

    def classify(
        self, labels: Any, prompt: str = CLASSIFY, *, mode: str = "online", **options: Any
    ) -> pd.Series[Any]:
        """Choose one label for each text.

        Args:
            labels: Labels to choose from.
            prompt: Template with a ``{text}`` place.
            mode: ``"online"`` or ``"batch"``.
            **options: As for :meth:`mistral_nb.Session.label`: ``model``, ``examples``, ...

        Returns:
            A categorical series with the same index; rows without a label are missing. With
            ``dry_run`` the estimate, with ``sample`` its rows only.
        """
        labelled: pd.Series[Any] = self._column(
            "label", prompt, labels=labels, mode=mode, **options
        )
        return labelled

    def embed(
        self, model: str | None = None, *, mode: str = "online", **options: Any
    ) -> pd.Series[Any]:
        """Turn each text into a vector.

        Args:
            model: Model for embeddings; else ``mistral-embed``.
            mode: ``"online"`` or ``"batch"``.
            **options: As for :meth:`mistral_nb.Session.label`: ``output_dimension``, ...

        Returns:
            A series of numpy arrays with the same index; rows without a text are missing. With
            ``dry_run`` the estimate, with ``sample`` its rows only.
        """
        asked = {"endpoint": "embeddings", "model": model, "mode": mode}
        vectors: pd.Series[Any] = self._column("embedding", "{text}", **asked, **options)
        return vectors

    def _column(self, what: str, prompt: str, **options: Any) -> Any:
        run = _session().label(self._series.to_frame("text"), prompt, **options)
        if options.get("dry_run"):
            return run  # an estimate
        done = run.result()
        # By place: column= and prefix= change the names.
        texts, found, errors = (done.iloc[:, place] for place in range(3))
        failed = int((errors.notna() & texts.notna()).sum())
        if failed:
            warnings.warn(
                f"{failed:,} of {len(done):,} rows have no {what}: "
                f"mnb.resume({run.name!r}).errors says why.",
                stacklevel=3,
            )
        return found


def register() -> None:
    """Register the accessors with pandas, once.

    A ``mistral`` accessor that someone else registered is left as it is.
    """
    import pandas as pd

    for kind, accessor in ((pd.DataFrame, FrameAccessor), (pd.Series, SeriesAccessor)):
        if not hasattr(kind, "mistral"):
            extensions: Any = pd.api.extensions
            put = getattr(extensions, f"register_{kind.__name__.lower()}_accessor")
            put("mistral")(accessor)


def watch() -> None:
    """Register the accessors now, or as soon as pandas is imported."""
    if "pandas" in sys.modules:
        if hasattr(sys.modules["pandas"], "api"):  # else its import is still under way
            register()
    elif not any(isinstance(each, _Watch) for each in sys.meta_path):
        watcher: Any = _Watch()
        sys.meta_path.insert(0, watcher)


class _Watch:
    """Has the accessors registered when pandas has been imported, and goes.

    A finder needs no base class; importing that of ``importlib.abc`` would take as long as all
    the rest of ``import mistral_nb``.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find pandas as everyone else does; only wrap what runs it."""
        if name != "pandas":
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                if spec.loader is not None:
                    self._wrap(spec.loader)
                return spec
        return None

    def _wrap(self, loader: Loader) -> None:
        run: Any = getattr(loader, "exec_module", None)

        def exec_module(module: ModuleType) -> None:
            run(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            register()

        try:
            loader.exec_module = exec_module  # type: ignore[method-assign]
        except AttributeError:  # an unusual loader: pandas has no accessor, and harms no more
            return


def _session() -> Session:
    from mistral_nb.session import default_session

    return default_session()
