"""The few tags of HTML that models write where Markdown has nothing: a line break, and <sub>, <sup>, <kbd>, <mark>.

They count only bare, without attributes, and in pairs that cross no other mark. Whatever else looks like HTML is text.
"""

import re

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Delimiter

NAMES = ("sub", "sup", "kbd", "mark")
DEEPEST = 8  # in each other; a browser stops nesting at 512

_TAG = re.compile(rf"<(?:(?P<br>br|BR) ?/?|(?P<end>/)?(?P<name>{'|'.join(NAMES)}))>")
_MARKERS = {name: -number for number, name in enumerate(NAMES, start=1)}  # the parser's own are characters
_OF_MARKER = {marker: name for name, marker in _MARKERS.items()}


def plugin(markdown: MarkdownIt) -> None:
    markdown.inline.ruler.before("autolink", "tag", _tag)
    markdown.inline.ruler2.before("fragments_join", "tag_pairs", _pairs)


def _tag(state: StateInline, silent: bool) -> bool:
    found = _TAG.match(state.src, state.pos, state.posMax) if state.src[state.pos] == "<" else None
    if not found:
        return False
    if not silent and found["br"]:
        state.push("hardbreak", "br", 0)
    elif not silent:
        state.push("text", "", 0).content = found[0]
        marker, is_end = _MARKERS[found["name"]], bool(found["end"])
        state.delimiters.append(Delimiter(marker, 0, len(state.tokens) - 1, -1, open=not is_end, close=is_end))
    state.pos = found.end()
    return True


def _pairs(state: StateInline) -> None:
    """Those that the parser has paired as it pairs * and _ become tags; the others are the text that they are."""
    for delimiters in (state.delimiters, *(meta["delimiters"] for meta in state.tokens_meta if meta)):
        ends: list[int] = []
        for place, opening in enumerate(delimiters):
            while ends and ends[-1] < place:
                ends.pop()
            name = _OF_MARKER.get(opening.marker)
            if name and opening.end >= 0 and len(ends) < DEEPEST:
                ends.append(opening.end)
                _become(state, opening.token, name, 1)
                _become(state, delimiters[opening.end].token, name, -1)


def _become(state: StateInline, place: int, name: str, nesting: int) -> None:
    token = state.tokens[place]
    token.type, token.tag, token.nesting = f"{name}_{'open' if nesting > 0 else 'close'}", name, nesting  # type: ignore[assignment]
    token.content = ""
