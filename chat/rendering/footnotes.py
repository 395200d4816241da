"""Footnotes without the action at a distance: a mark is a raised number, and a note is a paragraph where it stands.

Neither has to know of the other, which may arrive pages later or never. Links between them come last, when an answer is
whole and has been cleaned (`linked`): the ids that they need are ours, and no text of a model can make one.

[^name] is as likely a piece of a regular expression. So it stays as it was typed until `linked` finds the other one,
and a note has to begin a line of the answer itself.
"""

import re

from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

# [^a-z] and [^a-zA-Z] are no names.
_NAME = r"(?=[^\W\d_])(?:\w{2,}(?:-\w{2,})+|\w+)"
_LABEL = rf"\[\^(?:(?P<number>\d{{1,3}}|[A-Za-z]{{2,20}}\d{{1,4}})|(?P<name>(?=[^]\s]{{1,40}}\]){_NAME}))\]"
_MARK = re.compile(_LABEL + r"(?!\()")
_NOTE = re.compile(_LABEL + r":(?(name)(?!\S))[ \t]*")
_OPENING = '<p class="footnote" dir="auto">'
# As nh3 leaves them. Nothing else makes these classes, and text has no "<".
_PLACE = re.compile(
    rf"(?P<note>{_OPENING})?"
    r'(?:<sup class="note">(?P<number>\w+)</sup>|<span class="note">\[\^(?P<name>[\w-]+)\]</span>(?(note):))'
)


def plugin(markdown: MarkdownIt) -> None:
    markdown.inline.ruler.before("link", "footnote_mark", _mark)
    interrupts: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}
    markdown.block.ruler.before("paragraph", "footnote", _note, interrupts)


def mark(label: str) -> str:
    """`label` is letters and digits, or in brackets as it was typed."""
    return f'<span class="note">{label}</span>' if label.startswith("[") else f'<sup class="note">{label}</sup>'


def opening(label: str) -> str:
    """Of the paragraph of a note."""
    return f"{_OPENING}{mark(label)}{':' if label.startswith('[') else ''} "


def linked(html: str, name: str) -> str:
    """The HTML of a whole answer with links from marks to their notes and back; `name` is its own on the page.

    A mark without a note stays a number, or what was typed. None stands in a link: where there is one, the parser makes
    no link of what is around it, or no mark.
    """
    if _OPENING not in html:
        return html
    firsts: dict[tuple[bool, str], int] = {}
    for found in _PLACE.finditer(html):
        firsts.setdefault((bool(found["note"]), found["number"] or found["name"]), found.start())
    pieces, end = [], 0
    for found in _PLACE.finditer(html):
        is_note, label = bool(found["note"]), found["number"] or found["name"]
        if (not is_note, label) in firsts:
            is_first = firsts[is_note, label] == found.start()
            pieces += [html[end : found.start()], _linked(f"{name}-{{}}-{label}", label, is_note, is_first)]
            end = found.end()
    return "".join([*pieces, html[end:]])


def _linked(place: str, label: str, is_note: bool, is_first: bool) -> str:
    mark, note = place.format("mark"), place.format("note")
    own = f' id="{note if is_note else mark}"' if is_first else ""
    if is_note:
        back = f'<a href="#{mark}" role="doc-backlink" aria-label="{label}: back to the text">{label}</a>'
        return f"{_OPENING[:-1]}{own}><sup>{back}</sup>"
    return f'<sup><a{own} href="#{note}" role="doc-noteref" aria-label="Note {label}">{label}</a></sup>'


def _mark(state: StateInline, silent: bool) -> bool:
    found = _MARK.match(state.src, state.pos, state.posMax) if state.src[state.pos] == "[" else None
    # A name in the text of a link is text, and does not take the link away.
    if not found or (found["name"] and (silent or state.linkLevel)):
        return False
    if not silent:
        token = state.push("footnote_mark", "", 0)
        token.content, token.info = found[0], _typed(found)
    state.pos = found.end()
    return True


def _note(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    start = state.bMarks[first] + state.tShift[first]
    if not state.src.startswith("[^", start) or state.is_code_block(first):
        return False
    found = _NOTE.match(state.src, start, state.eMarks[first])
    if not found or (found["name"] and state.level):
        return False
    if silent:
        return True
    parent, state.parentType = state.parentType, "paragraph"
    end = first + 1
    while end < last and not state.isEmpty(end) and not _interrupted(state, end, last):
        end += 1
    state.parentType = parent
    text = state.getLines(first, end, state.blkIndent, False).strip()
    opening = state.push("footnote_open", "p", 1)
    opening.attrs, opening.map, opening.info = {"class": "footnote"}, [first, end], _typed(found)
    inline = state.push("inline", "", 0)
    inline.content, inline.map, inline.children = _NOTE.sub("", text, count=1), [first, end], []
    state.push("footnote_close", "p", -1)
    state.line = end
    return True


def _typed(found: re.Match) -> str:
    return found["number"] or f"[^{found['name']}]"


def _interrupted(state: StateBlock, line: int, last: int) -> bool:
    if state.sCount[line] - state.blkIndent > 3 or state.sCount[line] < 0:
        return False
    return any(rule(state, line, last, True) for rule in state.md.block.ruler.getRules("paragraph"))
