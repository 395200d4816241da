"""TeX -> MathML that is safe to show.

No sanitiser of HTML is asked about it: MathML in HTML is where they were fooled. We copy the converter's tree node by
node instead, keep what is on these lists, and escape every text. Nothing here can hold HTML, load or link anything.
"""

import re
import unicodedata
from contextlib import suppress
from functools import lru_cache
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element

from chat.text import without_overrides

from .cleaning import escape

LONGEST = 3_000  # characters of TeX; some 40 ms
WIDE = 40  # characters of TeX: in a line, what is longer may have to scroll
DEEPEST = 60  # browsers stop nesting at 512

_DELIMITERS = {"$$": 2, r"\[": 2, r"\(": 2, "$": 1}
_SHOWN_LARGE = ("$$", r"\[")
# Definitions multiply what they are given, and the rest is noise in a chat.
_REFUSED = re.compile(r"\\(?:(?:new|renew|provide)command|[egx]?def|let|DeclareMathOperator)(?![a-zA-Z])")
_LABEL = re.compile(r"\\(?:label\s*\{[^{}]*\}|nonumber(?![a-zA-Z]))")
# What the converter does not know, by the nearest that it knows; and no numbers beside equations.
_ENVIRONMENT = re.compile(r"(\\(?:begin|end)\s*)\{(align|aligned|alignedat|eqnarray\*?|gather\*?|gathered|dcases)\}")
_ENVIRONMENTS = {"dcases": "cases", "gather": "matrix", "gather*": "matrix", "gathered": "matrix"}

_WORDS = re.compile(r"[a-z]+(?: [a-z]+){0,9}")
_NUMBER = re.compile(r"[+-]?\d")
# A formula stays in its place: it may not be moved over what stands beside it, nor push it far away.
_LENGTH = re.compile(r"\+?1?\d?(?:\.\d{1,4})?(?:em|ex|pt|px)?|-0?\.\d{1,4}(?:em|ex)|-1em")

_TOKENS = {"mi", "mo", "mn", "mtext"}
_TAGS = _TOKENS | {
    "math", "mrow", "mspace", "mfrac", "msqrt", "mroot", "msup", "msub", "msubsup", "mover", "munder", "munderover",
    "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom",
}  # fmt: skip
_ATTRIBUTES = {
    **dict.fromkeys(("accent", "fence", "form", "largeop", "movablelimits", "separator", "stretchy"), _WORDS),
    **dict.fromkeys(("columnalign", "columnlines", "displaystyle", "rowlines"), _WORDS),
    **dict.fromkeys(("depth", "height", "linethickness", "lspace", "maxsize", "minsize", "rspace", "width"), _LENGTH),
    "mathvariant": re.compile("normal"),
    "scriptlevel": _NUMBER,
}
_REFERENCE = re.compile("&#x([0-9A-Fa-f]{1,6});")
_LIMITS = {"lim", "max", "min", "sup", "inf", "lim sup", "lim inf", "arg max", "arg min"}
# Lines that a style sheet draws, since few fonts have a bar that stretches, and few browsers <menclose>.
_BAR = "\u2015"
_BARRED = {"mover": "over", "munder": "under"}
_ENCLOSED = {"box": "box", "updiagonalstrike": "strike", "downdiagonalstrike": "strike"}
_BELOW = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}


class _Unreadable(Exception):
    """The formula cannot be shown as one."""


@lru_cache(maxsize=2_000)
def formula(source: str) -> str:
    """The HTML of a formula with its delimiters; of one that nobody can read, its source as code."""
    opening = next(mark for mark in _DELIMITERS if source.startswith(mark))
    width = _DELIMITERS[opening]
    tex = source[width:-width].strip()
    display = "block" if opening in _SHOWN_LARGE else "inline"
    # The converter raises whatever comes to hand, and on half of what models write.
    with suppress(Exception):
        return _drawn(tex, display)
    return unread(source)


def unread(source: str) -> str:
    return f"<code>{escape(source)}</code>"


def _drawn(tex: str, display: str) -> str:
    if not tex or len(tex) > LONGEST or _REFUSED.search(tex):
        raise _Unreadable
    root = convert_to_element(_ENVIRONMENT.sub(_known, _LABEL.sub("", tex)), display=display)
    body = "".join(_copied(child, 1, is_large=display == "block") for child in root)
    wide = ' class="wide" tabindex="0"' if display == "inline" and len(tex) > WIDE else ""
    return f'<math display="{display}" alttext="{_attribute(tex)}"{wide}>{body}</math>'


def _known(environment: re.Match) -> str:
    return f"{environment[1]}{{{_ENVIRONMENTS.get(environment[2], 'align*')}}}"


def _copied(element: Element, depth: int, *, is_large: bool) -> str:
    if element.tag == "menclose":
        return _lined(list(element), _ENCLOSED.get(element.get("notation", ""), "box"), depth, is_large=is_large)
    if element.tag in _BARRED and len(element) == 2 and _text(element[1]) == _BAR:
        return _lined([element[0]], _BARRED[element.tag], depth, is_large=is_large)
    if depth > DEEPEST or element.tag not in _TAGS or element.tag == "math":
        raise _Unreadable
    tag, text = element.tag, _text(element)
    if len(element):
        if tag in _TOKENS:  # \mathop{…}
            tag = "mrow"
        elif is_large and _BELOW.get(tag) and _text(element[0]) in _LIMITS:
            tag = _BELOW[tag]
        content = "".join(_copied(child, depth + 1, is_large=is_large) for child in element)
    elif tag in _TOKENS:
        content = escape(_as_variant(text, element.get("mathvariant", "")))
    else:
        content = ""
    attributes = "".join(
        f' {name}="{value}"'
        for name, value in element.attrib.items()
        if name in _ATTRIBUTES and _ATTRIBUTES[name].fullmatch(value)
    )
    return f"<{tag}{attributes}>{content}</{tag}>"


def _lined(elements: list[Element], line: str, depth: int, *, is_large: bool) -> str:
    content = "".join(_copied(element, depth + 1, is_large=is_large) for element in elements)
    return f'<mrow class="{line}">{content}</mrow>'


def _text(element: Element) -> str:
    """The converter writes some characters as references, which its own serialiser would have resolved."""
    text = _REFERENCE.sub(lambda reference: _character(int(reference[1], 16)), element.text or "")
    return without_overrides(text)  # r"\unicode{x202e}"


def _character(code: int) -> str:
    is_text = code >= 0xA0 or 0x20 <= code < 0x7F
    return chr(code) if is_text and code <= 0x10FFFF and not 0xD800 <= code < 0xE000 else "\ufffd"


def _as_variant(text: str, variant: str) -> str:
    """Letters in bold, script and so on are characters of their own: browsers know no such attribute any more."""
    if variant in ("", "normal") or len(text) != 1 or not text.isascii() or not text.isalnum():
        return text
    style = variant.upper() if variant == "double-struck" else variant.upper().replace("-", " ")
    kind = "DIGIT" if text.isdigit() else "CAPITAL" if text.isupper() else "SMALL"
    letter = unicodedata.name(text).rsplit(" ", 1)[1]
    # The commonest had a place in Unicode, and another name, before the rest of their alphabets came.
    older = style.replace("FRAKTUR", "BLACK-LETTER")
    for name in (f"MATHEMATICAL {style} {kind} {letter}", f"{older} {kind} {letter}"):
        with suppress(KeyError):
            return unicodedata.lookup(name)
    return text


def _attribute(text: str) -> str:
    return escape(text).replace('"', "&quot;")
