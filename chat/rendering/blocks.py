"""Markdown source -> its outermost blocks, each of them safe HTML on its own."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from . import code, footnotes, links, maths, tags
from .cleaning import HEADINGS, clean, escape, typed

MAX_NESTING = 40  # a list in a list is two; what lies deeper the parser leaves out, to the end of the text
LONGEST_INLINE = 16_000  # characters of one paragraph; the marks of a longer one are shown as typed
MOST_BRACKETS = 4  # in one paragraph, likewise: of those whose end may be sought through all of it,
MOST_IN_FORMULAS = 12  # and so many more where they seem to stand in formulas
STRETCH = 150  # characters of a paragraph that are read together if no mark is left open, or else
LONGEST_STRETCH = 2_400  # so many, or else all that remain

_NEWLINE = re.compile("\n")
_EASY_BRACKET = re.compile(
    r"""
    \[ (?: [^][`<\\!] | </?\w+> | !(?!\[) | `[^][`<\\]*` | !\[[^][`<\\]*\]\([^\s()<>]*\) )*+ \]  # text, `code`, image
    (?: \([^\s()<>]*\) | (?!\() )  # url without title, or none
    """,
    re.VERBOSE,
)
_FORMULA = re.compile(r"\$[^$`\n]*+\$|\\\((?:[^`\n\\]|\\[^()])*+\\\)")
_CUT = re.compile(r"(?<=[^\W_]) (?=[^\W_])")
_MARK = re.compile(rf"[*_~`$\[<](?:(?<!<)|(?:{'|'.join(tags.NAMES)})>)")
_TASK = re.compile(r"\[([ xX])\][ \t]+")
_ALERT = re.compile(r"\[!(note|tip|important|warning|caution)\](?!\S)\s*", re.IGNORECASE)
_TASKS: dict[bool | None, str] = {
    False: '<span role="img" aria-label="To do">☐</span> ',
    True: '<span role="img" aria-label="Done">☑</span> ',
}


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

    def html(self, memo: Memo, room: int = maths.MOST) -> str:
        """`room` is for formulas, in characters of TeX."""
        if any(token.level >= MAX_NESTING - 1 for token in self.tokens):
            return typed(self.source)
        return maths.drawn(clean(_renderer.render(self.tokens, _markdown.options, {"memo": memo})), room)


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
        case "paragraph_open" | "table_open" | "blockquote_open" | "footnote_open":
            return blank_line_follows
        case "formula_block":
            return blank_line_follows or block.meta["is_whole"]
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
        if token.type == "inline" and index > 1 and token.content.startswith("["):
            _adapt_beginning(token, tokens[index - 2], tokens[index - 1])


def _adapt_beginning(inline: Token, around: Token, paragraph: Token) -> None:
    """Where an item begins with a box it is a task, and where a quotation begins with [!NOTE] it is an alert."""
    if around.type == "list_item_open" and (box := _TASK.match(inline.content)):
        inline.content, inline.meta = inline.content[box.end() :], {"is_done": box[1] != " "}
        around.attrSet("class", "task")
    is_quoted = around.type == "blockquote_open" and paragraph.type == "paragraph_open"
    if is_quoted and (alert := _ALERT.match(inline.content)):
        inline.content, inline.meta = inline.content[alert.end() :], {"alert": alert[1].capitalize()}
        around.attrSet("class", "alert")


class _Renderer(RendererHTML):
    def render(self, tokens: Sequence[Token], options: OptionsDict, env: EnvType) -> str:
        html = []
        for index, token in enumerate(tokens):
            if token.type == "inline":
                html += [_beginning(token), _inline(token.content, env["memo"])]
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
            body = env["memo"].get(code.coloured, fence.content, language)
            return code.figure(language, body, is_long=fence.content.count("\n") > code.LONG)
        return code.figure(language, escape(fence.content))

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return code.figure("", escape(tokens[idx].content))

    def formula(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return maths.place(tokens[idx].content)

    def formula_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return maths.own_line(tokens[idx].content, is_whole=tokens[idx].meta["is_whole"])

    def footnote_mark(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return footnotes.mark(tokens[idx].info)

    def footnote_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return footnotes.opening(tokens[idx].info)

    def footnote_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "</p>\n"

    text_special = RendererHTML.text


def _beginning(inline: Token) -> str:
    """What stands before the words of an item that is a task, or of a quotation that is an alert."""
    if alert := inline.meta.get("alert"):
        # With a direction of its own, since it says nothing of that of the words.
        return f'<strong dir="ltr">{alert}</strong>' + ("<br>\n" if inline.content else "")
    return _TASKS.get(inline.meta.get("is_done"), "")


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
    if brackets <= MOST_BRACKETS or (brackets := brackets - len(_EASY_BRACKET.findall(source))) <= MOST_BRACKETS:
        return False
    # Not sure, since it has not been parsed: `$` may be code.
    in_formulas = sum(found.count("[") for found in _FORMULA.findall(source))
    return brackets - min(in_formulas, MOST_IN_FORMULAS) > MOST_BRACKETS


def _stretch(source: str) -> tuple[str, bool]:
    """The HTML, and whether every mark in it found its partner: else one may follow and change it."""
    tokens: list[Token] = []
    _markdown.inline.parse(source, _markdown, {}, tokens)
    is_whole = not any(_is_left_open(token) for token in _flat(tokens))
    return _renderer.renderInline(list(links.shown(tokens)), _markdown.options, {}), is_whole


def _is_left_open(token: Token) -> bool:
    r"""Whether it may begin what ends in a later stretch. An escaped bracket does if \) or \] is still to come."""
    if token.type == "text_special":
        return token.content in ("(", "[")
    return token.type == "text" and bool(_MARK.search(token.content))


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
_markdown.use(maths.plugin).use(footnotes.plugin).use(tags.plugin)
_renderer = _Renderer()
