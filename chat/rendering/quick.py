"""Shortcuts past the parser for what most flushes bring: plain words.

What they return is, to the byte, what the parser and nh3 would have made of the source.
"""

import re

from . import code
from .cleaning import escape

LONGEST_GROWN = 15_000  # characters; less than the length from which a paragraph is read differently

_SPACES = r"\t\x0b\x0c\r\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_LINE = (
    r"(?![-+=#:~ ]|\d{1,9}[.)](?:[ \n]|\Z))"  # begins no other kind of block
    rf"(?:[^\n~\\`*_\[<>&|${_SPACES}]++|~(?!~)|\$(?=\d))++"  # and holds no mark: what "$5" opens, "$5" cannot close
)
_PARAGRAPH = re.compile(rf"{_LINE}(?:\n(?<! \n){_LINE})*+\n?")
# A line with a pipe may turn out to be the head of a table, even if it looks like a fence.
_FENCE = re.compile(r"(`{3,}|~{3,})([^`~|\n]*)\n")
_WORDS = re.compile(r"[\w ,.'?:]+")
_CLOSING_TAG = re.compile(r"</(?:p|li|[ou]l|blockquote|h[3-6])>\n?")


def quick(source: str) -> str | None:
    """The HTML of a source that is one block which only grows. None if it takes a parser to tell."""
    if _PARAGRAPH.fullmatch(source):
        return f'<p dir="auto">{escape(source.strip())}</p>\n'
    fence = _FENCE.match(source)
    if fence and fence[1] not in (body := source[fence.end() :]):
        return code.figure(code.language(fence[2]), escape(_without_unborn_line(body)))
    return None


def grown(source: str, html: str, new: str) -> str | None:
    """The HTML of source + new, given that of source: words go to where the text ends. None if in doubt."""
    text = source.rstrip(" ")  # as the parser sees it
    is_words = _WORDS.fullmatch(new) and _WORDS.fullmatch(text[-1:]) and "_" not in text[-1:] + new
    if not is_words or len(source) + len(new) > LONGEST_GROWN:
        return None
    if not any(map(str.isalpha, text[text.rfind("\n") + 1 :])):
        return None  # "1" may become "1.", and "--" is nothing yet
    end = _end_of_text(html)
    if html[end - 1 : end] != text[-1]:
        return None
    words = (source[len(text) :] + new).rstrip(" ")
    return html[:end] + words + html[end:]


def _end_of_text(html: str) -> int:
    end = len(html)
    while _CLOSING_TAG.fullmatch(html, start := html.rfind("<", 0, end), end):
        end = start
    return end


def _without_unborn_line(body: str) -> str:
    """The parser sees no line in spaces at the very end until something follows them."""
    start = body.rfind("\n") + 1
    return body if body[start:].strip(" \t") else body[:start]
