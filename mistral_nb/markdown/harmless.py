"""Whether Markdown source may go out as ``text/markdown``, which nobody sanitises after us.

JupyterLab renders the Markdown of an executed cell with scripts and all, and runs MathJax with
every extension over it. What passes here is plain in any dialect: the test reads characters, it
does not trust one parser's view of another parser's input.
"""

from __future__ import annotations

import re

__all__ = ["is_harmless"]

_COMMON_MATH = """
    begin end left right middle big Big bigg Bigg frac dfrac tfrac cfrac binom sqrt over
    choose  overline underline overbrace underbrace overset underset stackrel substack
    limits nolimits  displaystyle textstyle text textbf textit textrm mathrm mathbf mathit
    mathsf mathtt mathcal  mathbb mathfrak mathscr boldsymbol operatorname quad qquad hat
    bar vec dot ddot tilde widehat  widetilde hline tag notag boxed cancel phantom not  sum
    prod int iint iiint oint lim sup inf max min arg det gcd dim ker deg exp log ln lg sin
    cos tan cot sec csc sinh cosh tanh arcsin arccos arctan Pr mod bmod pmod cdot cdots
    ldots  dots vdots ddots times div pm mp ast star circ bullet oplus otimes wedge vee cap
    cup setminus  subset supset subseteq supseteq in ni notin emptyset varnothing forall
    exists nexists neg  land lor implies iff to gets mapsto rightarrow leftarrow
    leftrightarrow Rightarrow Leftarrow  Leftrightarrow longrightarrow longleftarrow
    Longrightarrow uparrow downarrow xrightarrow  leq geq le ge neq ne ll gg approx sim
    simeq equiv cong propto mid nmid parallel perp angle  triangle nabla partial infty ell
    hbar Re Im aleph prime top bot models vdash langle rangle  lfloor rfloor lceil rceil
    lvert rvert lVert rVert degree square blacksquare checkmark  alpha beta gamma delta
    epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi  pi varpi rho
    varrho sigma varsigma tau upsilon phi varphi chi psi omega Gamma Delta Theta  Lambda Xi
    Pi Sigma Upsilon Phi Psi Omega
"""
_COMMANDS = frozenset(_COMMON_MATH.split())

_SUSPECT = re.compile(
    r"<\S"  # a tag, an autolink, a comment
    r"|&[#A-Za-z]"  # a character reference, which may spell any of the others
    r"|!\["  # an image is loaded as soon as it is shown
    # A link or definition that is not simply one of an address on the web
    r"|\](?:\(|:)\s*+(?!(?:https?://|mailto:)\w[^\s\"'\\)]*+(?:\)|\n|\Z))"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]"
    r"|mermaid",  # JupyterLab draws such fences, from another language altogether
    re.IGNORECASE,
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")


def is_harmless(source: str) -> bool:
    """Tell whether Markdown source does no harm where nobody sanitises it.

    Args:
        source: Untrusted Markdown.

    Returns:
        True only if the source holds no raw HTML, no image, no character reference, no link that
        may lead anywhere but http, https and mailto, and no TeX command beyond common math. Much
        that would do no harm is refused too.
    """
    return _SUSPECT.search(source.replace("\r\n", "\n")) is None and all(
        command in _COMMANDS for command in _COMMAND.findall(source)
    )
