"""What a call of `label` asks of each row: endpoint, prompt, schema and examples, put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from mistral_nb.errors import InputError
from mistral_nb.labelling.composing import compose
from mistral_nb.labelling.endpoints import endpoint_at, find_endpoint
from mistral_nb.labelling.examples import example_messages
from mistral_nb.labelling.recipe import Recipe
from mistral_nb.labelling.results import result_schema
from mistral_nb.labelling.schemas import Schema, compile_schema
from mistral_nb.labelling.sources import FrameSource

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import pandas as pd

    from mistral_nb.labelling.prompts import Prompt

__all__ = ["Asked", "Question", "restore_schema"]


@dataclass(frozen=True)
class Question:
    """What is asked of each row, ready to be made into requests.

    Attributes:
        prompt: Makes each row's part.
        recipe: Makes requests of them.
        schema: Reads the answers; None for plain text.
        spec: What the ledger keeps of all this.
    """

    prompt: Prompt
    recipe: Recipe
    schema: Schema | None
    spec: dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a caller asks of each row; see :func:`mistral_nb.labelling.start_run`."""

    prompt: Any
    schema: Any = None
    labels: Any = None
    column: str | None = None
    flatten: bool = True
    system: str | None = None
    model: str | None = None
    endpoint: str = "chat"
    suffix: Any = None
    images: Any = None
    documents: Any = None
    examples: Any = None
    options: dict[str, Any] = field(default_factory=dict)

    def question(self, columns: Sequence[Hashable], usual_model: str) -> Question:
        """Check it against the columns of a table.

        Args:
            columns: All column labels, in order.
            usual_model: The session's model.

        Returns:
            What makes requests, and reads answers.

        Raises:
            InputError: An argument cannot be used; the message names it.
            SchemaError: The schema cannot be used.
        """
        endpoint = find_endpoint(self.endpoint)
        model = endpoint.model_for(self.model, usual_model)
        beside = self.column if self.schema is not None or self.labels is not None else None
        given = compile_schema(self.schema, self.labels, beside, flatten=self.flatten)
        ask = partial(
            compose,
            endpoint,
            self.prompt,
            suffix=self.suffix,
            images=self.images,
            documents=self.documents,
        )
        turns: list[dict[str, Any]] = []
        if self.examples is not None:
            rows = _rows(self.examples)
            turns = example_messages(rows, ask, given, self.column or "reply")
        recipe = Recipe(model, self.system, given, self.options, endpoint=endpoint, examples=turns)
        prompt = ask(columns)
        schema = result_schema(
            endpoint,
            given,
            model=model,
            column=self.column,
            flatten=self.flatten,
            options=recipe.options,
        )
        spec = {
            "prompt": prompt.source,
            "schema": given.record() if given else None,
            "column": self.column,
            "flatten": self.flatten,
            **recipe.describe(),
        }
        return Question(prompt, recipe, schema, spec)


def restore_schema(spec: dict[str, Any], endpoint: str, model: str) -> Schema | None:
    """Make what reads a run's answers from what its ledger kept.

    Args:
        spec: As in :class:`Question`.
        endpoint: Path of the endpoint.
        model: Model that answers.
    """
    return result_schema(
        endpoint_at(endpoint),
        Schema.restore(spec["schema"]) if spec["schema"] else None,
        model=model,
        column=spec["column"],
        flatten=spec.get("flatten", True),
        options=spec.get("options_sent", {}),
    )


def _rows(examples: Any) -> pd.DataFrame:
    """Take examples as a table, also from a list of dicts."""
    import pandas as pd

    if isinstance(examples, (list, tuple)) and all(isinstance(each, dict) for each in examples):
        return pd.DataFrame(list(examples), dtype=object)  # exactly what was given
    try:
        return FrameSource(examples).df
    except InputError as error:
        raise InputError(
            "examples must be a table in memory, or a list of dicts: one for each row."
        ) from error
