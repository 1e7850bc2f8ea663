"""Text, code and math -> HTML: escaping, Pygments classes, MathML; bounded in time, no raising."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from html import unescape
from typing import TYPE_CHECKING

import nh3

if TYPE_CHECKING:
    from pygments.lexer import Lexer
    from pygments.token import _TokenType

__all__ = [
    "MATH_ATTRIBUTES",
    "MATH_TAGS",
    "TOKEN_COLOURS",
    "escape",
    "highlight",
    "is_plain_math",
    "leave",
    "typeset",
]

CODE_LIMIT = 20_000
"""Characters of code; more is shown without colours."""

MATH_LIMIT = 2_000
"""Characters of TeX (some 25 ms of work at worst); more is shown as source."""

MATH_DEPTH = 40
"""Nested braces in TeX; the converter is recursive."""

TOKEN_COLOURS = {
    "k": "--jp-mirror-editor-keyword-color",
    "s": "--jp-mirror-editor-string-color",
    "c": "--jp-mirror-editor-comment-color",
    "m": "--jp-mirror-editor-number-color",
    "nf": "--jp-mirror-editor-def-color",
    "nb": "--jp-mirror-editor-builtin-color",
    "nd": "--jp-mirror-editor-meta-color",
    "nt": "--jp-mirror-editor-tag-color",
    "na": "--jp-mirror-editor-attribute-color",
    "gd": "--jp-mirror-editor-error-color",
    "gi": "--jp-mirror-editor-string-color",
    "gh": "--jp-mirror-editor-header-color",
}
"""Class of a piece of code (a name Pygments' own style sheets use) -> JupyterLab colour."""

_MATH_TAGS = """
    math mrow mi mn mo mtext mspace mfrac msqrt mroot mstyle mpadded mphantom menclose msub msup
    msubsup munder mover munderover mmultiscripts mprescripts mtable mtr mtd
"""
_MATH_ATTRIBUTES = """
    display mathvariant displaystyle scriptlevel stretchy fence form separator lspace rspace
    largeop movablelimits symmetric minsize maxsize accent accentunder width height depth voffset
    linethickness columnalign columnspacing rowspacing columnlines rowlines notation mathcolor
"""
MATH_TAGS = frozenset(_MATH_TAGS.split())
MATH_ATTRIBUTES = frozenset(_MATH_ATTRIBUTES.split())

_PLAIN_COMMANDS = """
    begin end left right middle big Big bigg Bigg frac dfrac tfrac cfrac binom sqrt over choose
    overline underline overbrace underbrace overset underset stackrel substack limits nolimits
    displaystyle textstyle text textbf textit textrm mathrm mathbf mathit mathsf mathtt mathcal
    mathbb mathfrak mathscr boldsymbol operatorname quad qquad hat bar vec dot ddot tilde widehat
    widetilde hline notag boxed cancel phantom not sum prod int iint iiint oint lim sup inf max
    min arg det gcd dim ker deg exp log ln lg sin cos tan cot sec csc sinh cosh tanh arcsin arccos
    arctan Pr mod bmod pmod cdot cdots ldots dots vdots ddots times div pm mp ast star circ bullet
    oplus otimes wedge vee cap cup setminus subset supset subseteq supseteq in ni notin emptyset
    varnothing forall exists nexists neg land lor implies iff to gets mapsto rightarrow leftarrow
    leftrightarrow Rightarrow Leftarrow Leftrightarrow longrightarrow longleftarrow Longrightarrow
    uparrow downarrow xrightarrow leq geq le ge neq ne ll gg approx sim simeq equiv cong propto
    mid nmid parallel perp angle triangle nabla partial infty ell hbar Re Im aleph prime top bot
    models vdash langle rangle lfloor rfloor lceil rceil lvert rvert lVert rVert degree square
    blacksquare checkmark alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota
    kappa lambda mu nu xi pi varpi rho varrho sigma varsigma tau upsilon phi varphi chi psi omega
    Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
"""
PLAIN_COMMANDS = frozenset(_PLAIN_COMMANDS.split())
"""TeX commands that make formulas and nothing else; MathJax knows others that make pages."""

_COMMAND = re.compile(r"\\([A-Za-z]+)")
_UNSAFE_TEX = re.compile(
    r"\\(?:href|url|html\w*|style|class|cssId|unicode|verb|require|data|bbox|mmlToken|def|let"
    r"|[gex]def|(?:re|provide)?newcommand|(?:re)?newenvironment|DeclareMathOperator)"
)
_ODD_VALUE = re.compile(r'="[^"]*[^\w.%#+ "-]')
_TAG = re.compile(r"<[^>]*>")
_MATH_CLEANER = nh3.Cleaner(
    tags=set(MATH_TAGS),
    attributes={tag: set(MATH_ATTRIBUTES) for tag in MATH_TAGS},
    link_rel=None,
)
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "\0": "\ufffd"}
)


def escape(text: str) -> str:
    """Turn any text into HTML text, also safe inside a quoted attribute.

    Args:
        text: Untrusted text; NUL and lone surrogates become U+FFFD.

    Returns:
        The text with ``& < > " '`` as character references.
    """
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.translate(_ESCAPES)


@lru_cache(maxsize=64)
def highlight(code: str, language: str) -> str:
    """Colour code by classes.

    Args:
        code: The code; more than ``CODE_LIMIT`` characters stay without colours.
        language: Any of the names Pygments knows the language by; an unknown one is fine.

    Returns:
        Escaped code in ``<span class=...>``, classes from ``TOKEN_COLOURS`` only.
    """
    lexer = _lexer(language.lower()) if language and len(code) <= CODE_LIMIT else None
    if lexer is None:
        return escape(code)
    runs: list[tuple[str, list[str]]] = []
    try:
        for kind, piece in lexer.get_tokens(code):
            name = _token_class(kind) if piece.strip() else (runs[-1][0] if runs else "")
            if not runs or runs[-1][0] != name:
                runs.append((name, []))
            runs[-1][1].append(piece)
    except Exception:  # a lexer is somebody's regular expressions meeting hostile text
        return escape(code)
    written = [(name, escape("".join(pieces))) for name, pieces in runs]
    if "".join("".join(pieces) for _, pieces in runs) != code:
        return escape(code)
    return "".join(
        f'<span class="{name}">{text}</span>' if name else text for name, text in written
    )


@cache
def _token_class(kind: _TokenType) -> str:
    """Find the class of the nearest ancestor that has a colour."""
    from pygments.token import Comment, Generic, Keyword, Literal, Name, Operator

    table = {
        Keyword: "k",
        Operator.Word: "k",
        Literal.String: "s",
        Comment: "c",
        Literal.Number: "m",
        Name.Function: "nf",
        Name.Class: "nf",
        Name.Builtin: "nb",
        Name.Exception: "nb",
        Name.Decorator: "nd",
        Name.Tag: "nt",
        Name.Attribute: "na",
        Generic.Deleted: "gd",
        Generic.Inserted: "gi",
        Generic.Heading: "gh",
        Generic.Subheading: "gh",
    }
    while kind not in table:
        if kind.parent is None:
            return ""
        kind = kind.parent
    return table[kind]


@lru_cache(maxsize=128)
def _lexer(language: str) -> Lexer | None:
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@lru_cache(maxsize=512)
def typeset(tex: str, *, block: bool = False) -> str:
    r"""Turn TeX math into MathML.

    Args:
        tex: Untrusted TeX, without the dollar signs.
        block: Display style, on its own line.

    Returns:
        A ``<math>`` element, or the source in ``<code class="mnb-tex">`` when it is too long, not
        convertible, or uses a command that reaches beyond math (``\href`` and its like).
    """
    source = f'<code class="mnb-tex">{escape(tex)}</code>'
    if len(tex) > MATH_LIMIT or _depth(tex) > MATH_DEPTH or _UNSAFE_TEX.search(tex):
        return source
    from latex2mathml.converter import convert

    try:
        mathml = _MATH_CLEANER.clean(convert(tex, display="block" if block else "inline"))
    except Exception:  # the converter raises a dozen kinds, and IndexError on odd input
        return source
    # MathJax looks for TeX in the text of MathML too, and it knows commands that run scripts.
    marks = re.search(r"[\\$]", unescape(_TAG.sub("", mathml)))
    if marks or not mathml.startswith("<math") or _ODD_VALUE.search(mathml):
        return source
    return mathml.replace(' display="inline"', "", 1)


@lru_cache(maxsize=512)
def leave(tex: str, *, block: bool = False) -> str:
    r"""Leave TeX math as TeX, for MathJax to typeset where the HTML is shown.

    Args:
        tex: Untrusted TeX, without the dollar signs.
        block: Display style, on its own line.

    Returns:
        The source between dollar signs in ``<span class="mnb-math">``; without them, in
        ``<code class="mnb-tex">``, if it is too long or holds a command beyond common math.
    """
    safe = is_plain_math(tex) and not re.search(r"\\[()\[\]]|\$", tex)
    if len(tex) > MATH_LIMIT or not safe:
        return f'<code class="mnb-tex">{escape(tex)}</code>'
    marks = "$$" if block else "$"
    return f'<span class="mnb-math">{marks}{escape(tex)}{marks}</span>'


def is_plain_math(text: str) -> bool:
    """Tell whether all TeX commands in some text make formulas and nothing else."""
    return all(command in PLAIN_COMMANDS for command in _COMMAND.findall(text))


def _depth(tex: str) -> int:
    r"""Count the deepest nesting of braces and ``\left``, and runs of commands without braces."""
    depth = deepest = 0
    for mark in re.findall(r"[{}]|\\left\b|\\right\b|\\begin\b|\\end\b", tex):
        depth += 1 if mark in {"{", "\\left", "\\begin"} else -1
        deepest = max(deepest, depth)
    return deepest
