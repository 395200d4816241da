"""An answer, rendered block by block while its text arrives."""

import logging
import re
from typing import NamedTuple

from django.utils.safestring import SafeString

from chat.text import clean, without_overrides

from . import maths
from .blocks import Block, Memo, blocks
from .cleaning import typed
from .quick import grown, quick

LIMIT = 200_000  # characters of an answer that are read as Markdown; what comes after is shown as typed,
LINES = 6_000  # and so is what comes after so many lines: the dearest block is a list of one character

logger = logging.getLogger(__name__)

_BLANK_LINES = re.compile(r"(?:[ \t]*\n)+")
_PIECE = re.compile(r"(?s:.{4000,7999}?\n|.{8000})")


class Parts(NamedTuple):
    """`done`: HTML of the blocks that no later text can change. `open`: HTML of all that comes after them."""

    done: list[SafeString]
    open: SafeString


def render(text: str) -> SafeString:
    """The whole text. Never raises: what cannot be rendered is shown as typed."""
    done, open_ = split(text)
    return SafeString("".join([*done, open_]))


def split(text: str) -> Parts:
    """The text so far in parts. Joined they are `render(text)`; more text only ever adds to `done`."""
    live = Live()
    live.feed(text)
    return live.flush()


class Live:
    """An answer that is still being written.

    However the text is cut into feeds and flushes, the done blocks of all flushes and the open part of the
    last are those of `split(self.text)`. A flush costs what the open block costs, however long the answer.
    """

    def __init__(self) -> None:
        self._fed: list[str] = []
        self._read_to = 0
        self._after_cr = False
        self._room = LIMIT
        self._lines = LINES
        self._source = ""  # of the open part
        self._open = SafeString("")
        self._formula_room = maths.MOST
        self._memo = Memo()
        self._failed = False

    @property
    def text(self) -> str:
        """Everything so far, exactly as it was fed."""
        return "".join(self._fed)

    def feed(self, text: str) -> None:
        """Take the next piece of text; the work is done in `flush`."""
        self._fed.append(text)

    def flush(self) -> Parts:
        """The blocks that became done since the last flush, and the open part as it is now. Never raises.

        All of it is safe: either nh3 was the last to touch it, or it is escaped text in markup of ours.
        """
        markdown, beyond = self._within_limits(self._read())
        done: list[str] = []
        if markdown:
            done += self._take_markdown(markdown)
        if beyond:
            done += self._take_typed(beyond)
        return Parts([SafeString(block) for block in done], self._open)

    def _read(self) -> str:
        """What was fed since the last time, with every line ending as \\n even where CR and LF came apart."""
        new = without_overrides(clean("".join(self._fed[self._read_to :])))
        self._read_to = len(self._fed)
        if not new:
            return ""
        rest = new[1:] if self._after_cr and new[0] == "\n" else new
        self._after_cr = new[-1] == "\r"
        return rest.replace("\r\n", "\n").replace("\r", "\n")

    def _within_limits(self, new: str) -> tuple[str, str]:
        """What of the new text is still read as Markdown, and what is not."""
        end = min(self._room, len(new))
        lines = new.count("\n", 0, end)
        if lines >= self._lines:
            lines = self._lines
            end = _end_of_line(lines, new)
        self._room, self._lines = self._room - end, self._lines - lines
        return new[:end], new[end:]

    def _take_markdown(self, new: str) -> list[str]:
        before, self._source = self._source, self._source + new
        done: list[str] = []
        try:
            if (html := grown(before, self._open, new) or quick(self._source)) is None:
                found = blocks(self._source)
                if "\n" in new and (len(found) > 1 or (found and found[0].is_closed)):
                    done = self._settle()
                    found = blocks(self._source)
                html = "".join(self._html(found)[0])
                self._memo.forget_unused()
        except Exception as error:  # a fault of ours must not cost the reader the answer
            self._report(error)
            html = typed(self._source)
        self._open = SafeString(html)
        return done

    def _settle(self) -> list[str]:
        """Move the blocks that can no longer change out of the open part.

        Judged by finished lines alone: in "text\\n#" the last line is a heading until a letter follows it.
        """
        finished = self._source[: self._source.rindex("\n") + 1]
        done = blocks(finished)
        if done and not done[-1].is_closed:
            rest = done.pop().start
        else:
            rest = len(finished)
        html, self._formula_room = self._html(done)
        self._source = _skip_blank_lines(self._source, rest)
        return html

    def _html(self, found: list[Block]) -> tuple[list[str], int]:
        """Each block, and the room that is left for formulas after them."""
        html, room = [], self._formula_room
        for block in found:
            html.append(block.html(self._memo, room))
            room -= maths.size(html[-1])
        return html, room

    def _take_typed(self, new: str) -> list[str]:
        """Beyond the limit nothing is parsed, and the open part stays short: it is given away in pieces."""
        self._source += new
        done, end = [], 0
        while piece := _PIECE.match(self._source, end):
            done.append(typed(piece[0]))
            end = piece.end()
        self._source = self._source[end:]
        self._open = SafeString(typed(self._source))
        return done

    def _report(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            # The message of the error may quote the answer, and answers do not belong in logs.
            logger.error("An answer is shown as typed: rendering raised %s", type(error).__name__)


def _end_of_line(number: int, source: str) -> int:
    """Where the line of that number ends; the first is number 1."""
    end = 0
    for _ in range(number):
        end = source.index("\n", end) + 1
    return end


def _skip_blank_lines(source: str, start: int) -> str:
    blank = _BLANK_LINES.match(source, start)
    return source[blank.end() if blank else start :]
