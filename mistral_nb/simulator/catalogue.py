"""The models the simulator knows, as Mistral's model table of August 2026 has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

__all__ = ["Model", "all_models", "find_model"]

K = 1024
_JOB = "00000000-0000-4000-8000-000000000000"
CHAT = frozenset({"chat", "tools"})
VISION = CHAT | {"vision"}
OCR = frozenset({"ocr"})


@dataclass(frozen=True)
class Model:
    """One model: what it is called and what it can do.

    Attributes:
        id: Its dated name.
        aliases: Other names it answers to.
        context: Longest prompt and completion together, in tokens.
        can: Abilities: chat, tools, vision, reasoning, fim, embed, moderation, ocr,
            classification.
        deprecation: Day of retirement (ISO 8601), for deprecated models.
        successor: What to use instead.
        dimension: Length of its embedding vectors.
        targets: What a classifier decides: (target, its labels).
    """

    id: str
    aliases: tuple[str, ...] = ()
    context: int = 128 * K
    can: frozenset[str] = field(default=CHAT)
    deprecation: str | None = None
    successor: str | None = None
    dimension: int = 1024
    targets: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def card(self, name: str) -> dict[str, object]:
        """Return the entry of ``GET /v1/models`` under one of the model's names."""
        return {
            "id": name,
            "object": "model",
            "created": 1767225600,
            "owned_by": "mistralai",
            "capabilities": {
                "completion_chat": "chat" in self.can,
                "function_calling": "tools" in self.can,
                "reasoning": "reasoning" in self.can,
                "completion_fim": "fim" in self.can,
                "fine_tuning": False,
                "vision": "vision" in self.can,
                "ocr": "ocr" in self.can,
                "classification": "classification" in self.can,
                "moderation": "moderation" in self.can,
                "audio": "audio" in self.can,
                "audio_transcription": False,
            },
            "name": self.id,
            "description": f"{self.id} (simulated: replies come from rules, not from a model)",
            "max_context_length": self.context,
            "aliases": [other for other in (self.id, *self.aliases) if other != name],
            "deprecation": f"{self.deprecation}T12:00:00Z" if self.deprecation else None,
            "deprecation_replacement_model": self.successor,
            "default_model_temperature": 0.3 if "chat" in self.can else None,
            **self._origin(),
        }

    def _origin(self) -> dict[str, object]:
        """Tell a base model from a fine-tuned one; classifiers are always fine-tuned."""
        if not self.targets:
            return {"type": "base"}
        root = self.id.split(":")[2]
        return {"type": "fine-tuned", "job": _JOB, "root": root, "archived": False}


_TABLE = (
    Model("mistral-large-2512", ("mistral-large-latest",), 256 * K, VISION),
    Model("mistral-medium-3-5", ("mistral-medium-3", "mistral-medium-latest"), 256 * K, VISION),
    Model("mistral-small-2603", ("mistral-small-latest",), 256 * K, VISION),
    Model("ministral-14b-2512", ("ministral-14b-latest",), 256 * K, VISION),
    Model("ministral-8b-2512", ("ministral-8b-latest",), 256 * K, VISION),
    Model("ministral-3b-2512", ("ministral-3b-latest",), 256 * K, VISION),
    Model("codestral-2508", ("codestral-latest",), 128 * K, CHAT | {"fim"}),
    Model("labs-leanstral-1-5", (), 256 * K),
    Model("zai-glm-5-2", (), 1024 * K),
    Model("voxtral-small-2507", ("voxtral-small-latest",), 32 * K, CHAT | {"audio"}),
    Model(
        "magistral-medium-2509",
        ("magistral-medium-latest",),
        128 * K,
        VISION | {"reasoning"},
        "2026-07-31",
        "mistral-medium-latest",
    ),
    Model(
        "magistral-small-2509",
        ("magistral-small-latest",),
        128 * K,
        VISION | {"reasoning"},
        "2026-07-31",
        "mistral-small-latest",
    ),
    Model(
        "devstral-2512",
        ("devstral-latest", "devstral-medium-latest"),
        256 * K,
        CHAT,
        "2026-07-31",
        "mistral-medium-latest",
    ),
    Model(
        "labs-devstral-small-2512",
        ("devstral-small-latest",),
        256 * K,
        CHAT,
        "2026-03-31",
        "mistral-small-latest",
    ),
    Model("devstral-medium-2507", (), 128 * K, CHAT, "2026-05-31", "mistral-medium-latest"),
    Model("devstral-small-2507", (), 128 * K, CHAT, "2026-05-31", "mistral-small-latest"),
    Model("mistral-large-2411", (), 128 * K, CHAT, "2026-05-31", "mistral-large-latest"),
    Model("mistral-medium-2508", (), 128 * K, VISION, "2026-08-31", "mistral-medium-latest"),
    Model("mistral-medium-2505", (), 128 * K, VISION, "2026-08-31", "mistral-medium-latest"),
    Model("mistral-small-2506", (), 128 * K, VISION, "2026-07-31", "mistral-small-latest"),
    Model("labs-mistral-small-creative", (), 32 * K, CHAT, "2026-04-30", "mistral-small-latest"),
    Model(
        "open-mistral-nemo-2407",
        ("open-mistral-nemo",),
        128 * K,
        CHAT,
        "2026-07-31",
        "ministral-8b-latest",
    ),
    Model("ministral-8b-2410", (), 128 * K, CHAT, "2025-12-31", "ministral-8b-latest"),
    Model("ministral-3b-2410", (), 128 * K, CHAT, "2025-12-31", "ministral-3b-latest"),
    Model("pixtral-12b-2409", (), 128 * K, VISION, "2025-12-31", "ministral-14b-latest"),
    Model(
        "pixtral-large-2411",
        ("pixtral-large-latest",),
        128 * K,
        VISION,
        "2026-05-31",
        "mistral-large-latest",
    ),
    Model("mistral-embed-2312", ("mistral-embed",), 8 * K, frozenset({"embed"})),
    Model(
        "codestral-embed-2505", ("codestral-embed",), 8 * K, frozenset({"embed"}), dimension=1536
    ),
    Model(
        "mistral-moderation-2603",
        ("mistral-moderation-latest",),
        128 * K,
        frozenset({"moderation"}),
    ),
    Model(
        "mistral-moderation-2411",
        (),
        8 * K,
        frozenset({"moderation"}),
        "2026-06-30",
        "mistral-moderation-latest",
    ),
    Model("mistral-ocr-4-1", ("mistral-ocr-4", "mistral-ocr-latest"), 32 * K, OCR),
    Model("mistral-ocr-4-0", (), 32 * K, OCR),
    Model("mistral-ocr-2512", (), 32 * K, OCR),
    # Classifiers are fine-tuned by their owner; the simulated workspace has two.
    Model(
        "ft:classifier:ministral-3b-latest:simulator:20260101:sentiment",
        (),
        32 * K,
        frozenset({"classification"}),
        targets=(("sentiment", ("positive", "neutral", "negative")),),
    ),
    Model(
        "ft:classifier:ministral-3b-latest:simulator:20260101:tickets",
        (),
        32 * K,
        frozenset({"classification"}),
        targets=(
            ("topic", ("billing", "delivery", "login", "damaged")),
            ("urgency", ("urgent", "normal")),
        ),
    ),
)


@cache
def _by_name() -> dict[str, Model]:
    return {name: model for model in _TABLE for name in (model.id, *model.aliases)}


def find_model(name: str) -> Model | None:
    """Return the model that answers to ``name``, or None."""
    return _by_name().get(name)


def all_models() -> dict[str, Model]:
    """Return every name with its model, in the table's order."""
    return dict(_by_name())
