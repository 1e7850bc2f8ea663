"""The static form of a reply, which stays in the notebook file: safe HTML and its source.

It needs no script, no style sheet and no kernel, so JupyterLab (trusted or not), nbconvert,
GitHub and other viewers show it. Inline styles use JupyterLab's colours with fall-backs;
where styles are stripped the plain elements still read well. Math is TeX: the sanitisers of
those viewers throw MathML away, and the text of what is left would not say `x^2` but `x2`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

from mistral_nb.markdown import escape, linked, prose

if TYPE_CHECKING:
    from mistral_nb.widgets.frames import Call, Screen

__all__ = ["bundle", "to_html", "to_text"]

BODY = '<div class="jp-RenderedHTMLCommon" style="padding-right:0">{}</div>'
QUIET = "color:var(--jp-ui-font-color2,#6b6b6b)"
FOLDED = "border-left:2px solid var(--jp-border-color2,#e0e0e0);padding-left:0.9em"
CALL = (
    "border:1px solid var(--jp-border-color2,#e0e0e0);border-radius:4px;margin:0.5em 0;"
    "max-width:50em;padding:0.5em 0.9em"
)
ALARM = "border-left:3px solid var(--jp-error-color1,#d32f2f);padding-left:0.9em"
MARKS = re.compile(r'<a .*?</a>|<sup class="mnb-cite">\[(\d+)\]</sup>', re.DOTALL)
"""The marks of cited sources, and links, in which no other link may stand."""
ALARM_TITLE = "color:var(--jp-error-color1,#d32f2f)"


def bundle(screen: Screen, source: str) -> dict[str, str]:
    """Return what the notebook file keeps.

    There is no text/markdown in it: JupyterLab runs scripts from Markdown in the output of an
    executed cell, and every front end that shows Markdown shows HTML.

    Args:
        screen: The reply as shown, whether it has ended or not.
        source: The answer's Markdown.

    Returns:
        MIME type -> data.
    """
    return {"text/html": to_html(screen), "text/plain": to_text(screen, source)}


def to_html(screen: Screen) -> str:
    """Return the reply as HTML; model text in it is sanitised or escaped."""
    answer = BODY.format(_with_links(screen.html, screen)) if screen.html else ""
    parts = [_thinking(screen), answer, *map(_call, screen.calls), _references(screen)]
    return "".join([*parts, _ending(screen)])


def to_text(screen: Screen, source: str) -> str:
    """Return the reply's source, and in words what else there is."""
    parts = [source]
    parts += [f"{call.name}({call.arguments})" for call in screen.calls]
    ending = screen.ending
    if ending is not None and ending.state != "done":
        parts.append(f"[{' '.join(ending.panel) or ending.footer}]")
    return "\n\n".join(part for part in parts if part)


def _thinking(screen: Screen) -> str:
    if not screen.thinking_html:
        return ""
    seconds = round(screen.thought or 0)
    label = f"Thought for {seconds} s" if seconds else "Thought briefly"
    return (
        f'<details style="{QUIET}"><summary>{label}</summary>'
        f'<div style="{FOLDED}">{screen.thinking_html}</div></details>'
    )


def _with_links(html: str, screen: Screen) -> str:
    """Let each mark lead to its source in the list below."""

    def link(mark: re.Match[str]) -> str:
        number = mark[1]
        if number is None or int(number) > len(screen.references):
            return mark[0]
        return f'<sup><a href="#{screen.anchor}-{number}">[{number}]</a></sup>'

    return MARKS.sub(link, html)


def _call(call: Call) -> str:
    try:
        arguments = orjson.dumps(orjson.loads(call.arguments), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        arguments = call.arguments
    name, code = escape(call.name), escape(arguments)
    return f'<div style="{CALL}"><code>{name}</code><pre><code>{code}</code></pre></div>'


def _references(screen: Screen) -> str:
    if not screen.references:
        return ""
    items = "".join(
        f'<li id="{screen.anchor}-{number}">{linked(source)}</li>'
        for number, source in enumerate(screen.references, start=1)
    )
    return f'<ol style="{QUIET}">{items}</ol>'


def _ending(screen: Screen) -> str:
    ending = screen.ending
    if ending is None:
        return f'<p style="{QUIET}"><small>Arriving…</small></p>'
    panel = ""
    if ending.panel:
        title, *lines = ending.panel
        lines += ["Run the cell again."] * ending.may_retry
        texts = "".join(f"<br>{prose(line)}" for line in lines)
        panel = (
            f'<p style="{ALARM}"><strong style="{ALARM_TITLE}">{prose(title)}</strong>{texts}</p>'
        )
    return f'{panel}<p style="{QUIET}"><small>{prose(ending.footer)}</small></p>'
