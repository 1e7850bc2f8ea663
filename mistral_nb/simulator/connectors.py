"""Built-in connectors: web search, code interpreter, images and documents, with canned results."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from mistral_nb.simulator.prose import topic
from mistral_nb.simulator.words import chance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mistral_nb.simulator.state import State

__all__ = ["Execution", "as_function", "execute", "needs_confirmation"]

SIDE = 64
"""Width and height of a generated picture, in pixels."""

_FIELDS = {
    "web_search": ("query", "Search the web, the internet, for current news and facts online"),
    "web_search_premium": ("query", "Search the web, the internet and press agencies for news"),
    "code_interpreter": ("code", "Run Python code to compute, calculate or plot"),
    "image_generation": ("prompt", "Draw, paint or generate an image, a picture"),
    "document_library": ("query", "Look something up in the library of uploaded documents"),
}
_FORMULA = re.compile(r"[\d.]+(?:\s*[-+*/]\s*[\d.]+)+")


@dataclass(frozen=True)
class Execution:
    """What running a connector gave.

    Attributes:
        info: The ``info`` object of its entry.
        text: What the model is told.
        chunks: Content chunks that its answer carries: sources and files.
    """

    info: dict[str, Any]
    text: str
    chunks: list[dict[str, Any]] = field(default_factory=list)


def tool_name(tool: Mapping[str, Any]) -> str:
    """Return the name under which a connector's calls appear."""
    return str(tool.get("connector_id") or tool["type"])


def as_function(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a connector as a function, so that the model can choose it by its words."""
    name = tool_name(tool)
    argument, description = _FIELDS.get(name, ("query", f"Use the connector {name}"))
    return {
        "name": name,
        "description": description,
        "parameters": {
            "type": "object",
            "properties": {argument: {"type": "string"}},
            "required": [argument],
        },
    }


def needs_confirmation(tool: Mapping[str, Any]) -> bool:
    """Return True if a person has to allow the tool's calls."""
    configuration = tool.get("tool_configuration") or {}
    return tool_name(tool) in (configuration.get("requires_confirmation") or ())


def execute(tool: Mapping[str, Any], arguments: str, prompt: str, state: State) -> Execution:
    """Run a connector, for show: same call, same result.

    Args:
        tool: Its entry in ``tools``.
        arguments: JSON text of the call.
        prompt: What the user asked.
        state: Takes the files that it makes.
    """
    run: Callable[..., Execution] = _RUNS.get(tool["type"], _connector)
    wanted = str(next(iter(orjson.loads(arguments).values()), "") or prompt)
    return run(tool, wanted, prompt, state)


def _web_search(tool: Mapping[str, Any], wanted: str, *_: Any) -> Execution:
    about = topic(wanted)
    sources = [
        {
            "type": "tool_reference",
            "tool": tool["type"],
            "title": f"{title} {about}",
            "url": f"https://example.com/{place}/{_slug(about)}",
            "favicon": "https://example.com/favicon.ico",
            "description": f"{title} {about}, as the simulator imagines it.",
        }
        for title, place in (("All about", "encyclopedia"), ("News of", "news"))
    ]
    return Execution({}, f"two pages about {about}: an overview and the latest news.", sources)


def _code_interpreter(tool: Mapping[str, Any], _: str, prompt: str, state: State) -> Execution:
    formula = _FORMULA.search(prompt)
    code = f"print({formula.group()})" if formula else f"print({topic(prompt)!r})"
    if "plot" in prompt.lower() or "chart" in prompt.lower():
        code = "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9, 16])\nplt.show()"
        picture = _picture(tool, prompt, state, "plot")
        return Execution({"code": code, "code_output": ""}, "the plot is ready.", [picture])
    output = f"{_value(formula.group())}\n" if formula else f"{topic(prompt)}\n"
    return Execution({"code": code, "code_output": output}, f"the code printed {output.strip()}.")


def _image_generation(tool: Mapping[str, Any], wanted: str, _: str, state: State) -> Execution:
    picture = _picture(tool, wanted, state, "image_generated_0")
    return Execution({}, "the picture is ready.", [picture])


def _document_library(tool: Mapping[str, Any], wanted: str, *_: Any) -> Execution:
    about = topic(wanted)
    source = {
        "type": "tool_reference",
        "tool": tool["type"],
        "title": f"{_slug(about)}.pdf",
        "url": None,
        "favicon": None,
        "description": f"Page 3 of library {tool['library_ids'][0]}",
    }
    return Execution({}, f"page 3 of a document says: {about} is settled in writing.", [source])


def _connector(tool: Mapping[str, Any], wanted: str, *_: Any) -> Execution:
    about = topic(wanted)
    return Execution({}, f"{tool_name(tool)} knows one thing about {about}.")


_RUNS: dict[str, Callable[..., Execution]] = {
    "web_search": _web_search,
    "web_search_premium": _web_search,
    "code_interpreter": _code_interpreter,
    "image_generation": _image_generation,
    "document_library": _document_library,
}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "page"


def _value(formula: str) -> str:
    from mistral_nb.simulator.model import calculate

    value = calculate(formula)
    return "undefined" if value is None else f"{value:g}"


def _picture(tool: Mapping[str, Any], text: str, state: State, name: str) -> dict[str, Any]:
    """Draw a picture, keep it as a file, and return the chunk that points to it."""
    file_id = state.new_id("file", name, text)
    data = _png([chance(text, n) for n in range(6)])
    state.file_path(file_id).write_bytes(data)
    state.add_file(
        id=file_id,
        filename=f"{name}.png",
        purpose="ocr",
        sample_type="instruct",
        source="mistral",
        bytes=len(data),
        mimetype="image/png",
    )
    return {
        "type": "tool_file",
        "tool": tool["type"],
        "file_id": file_id,
        "file_name": name,
        "file_type": "png",
    }


def _png(colours: Sequence[float]) -> bytes:
    """Draw a soft gradient between two colours (PNG, RFC 2083)."""
    rows = bytearray()
    for y in range(SIDE):
        rows.append(0)  # no filter
        for x in range(SIDE):
            share = (x + y) / (2 * SIDE)
            for low, high in zip(colours[:3], colours[3:], strict=True):
                rows.append(int(255 * (low + (high - low) * share)))

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
