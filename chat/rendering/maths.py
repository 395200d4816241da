r"""Formulas in Markdown: $…$ and \(…\) in a line, $$…$$ and \[…\] in a line or in lines of their own.

Their source travels through the renderer and nh3 as the text of a <var>, which nothing else makes, and becomes MathML
after that. So the sanitiser has seen everything but formulas, and formulas are made of what mathml.py allows.
"""

import html as entities
import re

from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

from .cleaning import escape
from .mathml import formula, unread

MOST = 60_000  # characters of TeX in an answer, about a second; the formulas after them are shown as their source

_INLINE = re.compile(
    r"""
    \$\$ (?: [^$`\\] | \\. )++ \$\$ (?!\$)
    | (?<![^\W_]) \$ (?![\s$]) (?: [^$`\\] | \\. )++ (?<!\s) \$ (?![0-9A-Z$])  # $5 and $10 are prices, $A/$B variables
    """,
    re.VERBOSE | re.DOTALL,
)
_PROSE = re.compile(r"\$[^$\\^_={}<>+]*\s[^$\\^_={}<>+]*\$")
_ESCAPED_BRACKETS = re.compile(r"\\\[(?:\d+|[\w .,:;'-]{2,})\\\]")
_OPENING = re.compile(r"\$\$(?!\$)|\\\[")
_CLOSINGS = {"$$": "$$", r"\[": r"\]", r"\(": r"\)"}
_TEX = re.compile(r"[\\^_={}&]")
_END = ".,;:"
_PLACE = re.compile("<var>([^<]*)</var>")
_ALTTEXT = re.compile('<math [^>]*?alttext="([^"]*)"')


def plugin(markdown: MarkdownIt) -> None:
    markdown.inline.ruler.before("escape", "formula", _inline)
    interrupts: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}
    markdown.block.ruler.before("fence", "formula_block", _block, interrupts)


def place(source: str) -> str:
    """Where a formula will stand."""
    return f"<var>{escape(source)}</var>"


def own_line(source: str, *, is_whole: bool) -> str:
    """A formula in lines of its own; until it is whole, what has been written of it."""
    scrolls = ' tabindex="0"' if len(source) > 40 else ""
    return f'<p class="formula" dir="ltr"{scrolls}>{place(source) if is_whole else unread(source)}</p>\n'


def drawn(html: str, room: int) -> str:
    """Cleaned HTML with its formulas, as long as they have no more than `room` characters."""
    if "<var>" not in html:
        return html

    def draw(place: re.Match) -> str:
        nonlocal room
        source = entities.unescape(place[1])
        room -= len(source)
        return formula(source) if room >= 0 else unread(source)

    return _PLACE.sub(draw, html)


def size(html: str) -> int:
    """Characters of TeX in HTML that was drawn."""
    return sum(map(len, _ALTTEXT.findall(html))) if "<math" in html else 0


def _inline(state: StateInline, silent: bool) -> bool:
    start, opening = state.pos, state.src[state.pos : state.pos + 2]
    if opening in (r"\(", r"\["):
        end = _after(_CLOSINGS[opening], state)
        if end <= start + 4 or _ESCAPED_BRACKETS.fullmatch(state.src, start, end):
            return False
    elif opening[:1] == "$" and (found := _INLINE.match(state.src, start, state.posMax)):
        end = found.end()
        if _PROSE.fullmatch(found[0]):
            return False
    else:
        return False
    if not silent:
        state.push("formula", "", 0).content = state.src[start:end]
    state.pos = end
    return True


def _after(closing: str, state: StateInline) -> int:
    """Where the formula at this place ends, or 0. What was once sought in vain is not sought again."""
    if closing in state.env:
        return 0
    end = state.src.find(closing, state.pos + 2, state.posMax)
    if end < 0:
        state.env[closing] = "none from here on"
        return 0
    return end + 2


def _block(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """Whether it is a formula is decided by its first line, so that no later one changes what was done before it."""
    line = _line(state, first)
    opening = _OPENING.match(line)
    if not opening or state.is_code_block(first):
        return False
    closing = _CLOSINGS[opening[0]]
    rest = line[2:].rstrip()
    if closing in rest:
        if not _closes(rest, closing) or rest.find(closing) == 0:
            return False
    elif rest.strip() and not _TEX.search(rest):
        return False
    if silent:
        return True
    lines, number, is_whole = [line], first, closing in rest
    while not is_whole and number + 1 < last and _goes_on(state, number + 1):
        number += 1
        lines.append(_line(state, number))
        if closing in lines[-1]:
            is_whole = _closes(lines[-1].rstrip(), closing)
            break
    source = "\n".join(lines).rstrip()
    if is_whole:
        tex, _, punctuation = source.rpartition(closing)
        source = tex.rstrip() + punctuation + closing
    token = state.push("formula_block", "", 0)
    token.content, token.meta = source, {"is_whole": is_whole}
    token.map = [first, number + 1]
    state.line = number + 1
    return True


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]


def _goes_on(state: StateBlock, number: int) -> bool:
    return not state.isEmpty(number) and state.sCount[number] >= state.blkIndent


def _closes(line: str, closing: str) -> bool:
    """Whether the first closing mark ends the line, but for the full stop of the sentence."""
    return line.partition(closing)[2] in ("", *_END)
