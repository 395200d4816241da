"""Markdown source -> its outermost blocks, each of them safe HTML on its own."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from . import code, links
from .cleaning import HEADINGS, clean, escape, typed

MAX_NESTING = 40  # a list in a list is two; what lies deeper the parser leaves out, to the end of the text
LONGEST_INLINE = 16_000  # characters of one paragraph; the marks of a longer one are shown as typed
MOST_BRACKETS = 4  # in one paragraph, likewise: of those whose end may be sought through all of it
STRETCH = 150  # characters of a paragraph that are read together if no mark is left open, or else
LONGEST_STRETCH = 2_400  # so many, or else all that remain

_NEWLINE = re.compile("\n")
_EASY_BRACKET = re.compile(
    r"""
    \[ (?: [^][`<\\!] | !(?!\[) | `[^][`<\\]*` | !\[[^][`<\\]*\]\([^\s()<>]*\) )*+ \]  # text, `code`, image
    (?: \([^\s()<>]*\) | (?!\() )  # url without title, or none
    """,
    re.VERBOSE,
)
_CUT = re.compile(r"(?<=[^\W_]) (?=[^\W_])")
_MARK = re.compile(r"[*_~`\[]")
_TASK = re.compile(r"\[([ xX])\][ \t]+")


class Memo:
    """What was made of the pieces of the open part, kept from one flush to the next.

    Of a growing list or table only the last piece has to be made again.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Any] = {}
        self._used: dict[tuple[Any, ...], Any] = {}

    def get[T](self, make: Callable[..., T], *source: str) -> T:
        key = (make, *source)
        made = self._known[key] if key in self._known else make(*source)
        self._used[key] = made
        return made

    def forget_unused(self) -> None:
        self._known, self._used = self._used, {}


@dataclass(frozen=True, slots=True)
class Block:
    """An outermost block: where its source begins, and whether no later text could change it."""

    tokens: list[Token]
    source: str
    start: int
    is_closed: bool

    def html(self, memo: Memo) -> str:
        if any(token.level >= MAX_NESTING - 1 for token in self.tokens):
            return typed(self.source)
        return clean(_renderer.render(self.tokens, _markdown.options, {"memo": memo}))


def blocks(source: str) -> list[Block]:
    """The blocks of a text with \\n line endings. `is_closed` holds if its last line is finished."""
    tokens: list[Token] = []
    _markdown.block.parse(source, _markdown, {}, tokens)
    _adapt(tokens)
    lines = [0, *(newline.end() for newline in _NEWLINE.finditer(source)), len(source)]
    found, first = [], 0
    for last, token in enumerate(tokens):
        if token.level == 0 and token.nesting <= 0:
            start, end = (lines[line] for line in tokens[first].map or (0, 0))
            is_last = last + 1 == len(tokens)
            is_closed = not is_last or _ends_here(tokens[first], source[start:end], end < len(source))
            found.append(Block(tokens[first : last + 1], source[start:end], start, is_closed))
            first = last + 1
    return found


def _ends_here(block: Token, source: str, blank_line_follows: bool) -> bool:
    match block.type:
        case "paragraph_open" | "table_open" | "blockquote_open":
            return blank_line_follows
        case "heading_open":  # "# a | b" is the head of a table once |-|-| is below it
            return blank_line_follows or "|" not in source
        case "fence":
            return _has_closing_fence(block)
        case other:
            return other == "hr"  # lists and indented code go on after blank lines


def _has_closing_fence(fence: Token) -> bool:
    first, end = fence.map or (0, 0)
    content_lines = fence.content.count("\n") + (fence.content[-1:] not in ("", "\n"))
    return 1 + content_lines < end - first


def _adapt(tokens: list[Token]) -> None:
    """Make the tokens fit a page with headings of its own, a strict CSP and readers of every script."""
    for index, token in enumerate(tokens):
        token.tag = HEADINGS.get(token.tag, token.tag)
        if token.level == 0 and token.nesting == 1:
            token.attrSet("dir", "auto")
        if token.type == "table_open":
            token.attrSet("tabindex", "0")  # a wide one scrolls, and the keyboard has to get there
        if style := token.attrs.pop("style", None):  # only table cells have one, to align them
            token.attrSet("align", str(style).removeprefix("text-align:"))
        if token.type == "inline" and index > 1 and tokens[index - 2].type == "list_item_open":
            token.content = _TASK.sub(lambda box: "☐ " if box[1] == " " else "☑ ", token.content, count=1)


class _Renderer(RendererHTML):
    def render(self, tokens: Sequence[Token], options: OptionsDict, env: EnvType) -> str:
        html = []
        for index, token in enumerate(tokens):
            if token.type == "inline":
                html.append(_inline(token.content, env["memo"]))
            elif rule := self.rules.get(token.type):
                html.append(rule(tokens, index, options, env))
            else:
                html.append(self.renderToken(tokens, index, options, env))
        return "".join(html)

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        fence = tokens[idx]
        language = code.language(fence.info)
        # Colouring a block on each flush of its growth would cost the square of its length.
        if _has_closing_fence(fence):
            return code.figure(language, env["memo"].get(code.coloured, fence.content, language))
        return code.figure(language, escape(fence.content))

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return code.figure("", escape(tokens[idx].content))

    text_special = RendererHTML.text


def _inline(source: str, memo: Memo) -> str:
    """The HTML of a paragraph's text, made of stretches that mean the same alone as in their place."""
    if _is_dear(source):
        return escape(source)
    html, start, step = "", 0, STRETCH
    while step <= LONGEST_STRETCH and (cut := _CUT.search(source, start + step)):
        stretch, is_whole = memo.get(_stretch, source[start : cut.start()])
        if is_whole:
            html += stretch + " "
            start, step = cut.end(), STRETCH
        else:
            step *= 4
    return html + memo.get(_stretch, source[start:])[0]


def _is_dear(source: str) -> bool:
    """Whether pairing the marks could take the square of the length."""
    if len(source) > LONGEST_INLINE:
        return True
    brackets = source.count("[")
    return brackets > MOST_BRACKETS and brackets - len(_EASY_BRACKET.findall(source)) > MOST_BRACKETS


def _stretch(source: str) -> tuple[str, bool]:
    """The HTML, and whether every mark in it found its partner: else one may follow and change it."""
    tokens: list[Token] = []
    _markdown.inline.parse(source, _markdown, {}, tokens)
    is_whole = not any(_MARK.search(token.content) for token in _flat(tokens) if token.type == "text")
    return _renderer.renderInline(list(links.shown(tokens)), _markdown.options, {}), is_whole


def _flat(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or [])


class _Parser(MarkdownIt):
    def validateLink(self, url: str) -> bool:
        return links.is_allowed(url)

    def normalizeLinkText(self, link: str) -> str:
        return link  # an autolink reads as it was written; the default decodes punycode


_markdown = _Parser("commonmark", {"html": False, "xhtmlOut": False, "maxNesting": MAX_NESTING})
_markdown.enable(["table", "strikethrough"])
_markdown.disable(["reference", "html_block", "html_inline"])
_renderer = _Renderer()
