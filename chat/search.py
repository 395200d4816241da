"""Find what a person has written or read: messages and titles of their own conversations, the newest first."""

import re
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from django.db import connection
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from chat.models import Message, SearchEntry, User
from chat.search_index import MESSAGE, TITLE
from chat.text import clean
from chat.words import LONGEST_WORD, MOST_CHARACTERS, RUN, SEPARATORS, UNSPACED, fold, pairs, searched

LONGEST_QUERY = 400  # characters; what stands behind them is not looked for
MOST_TERMS = 12
HITS_AT_ONCE = 20
TITLES = 5
MOST_LOOKED_AT = 200  # of what has the words: how many are read for a phrase before the person is asked to go on
PASSAGE = 240  # characters
BEFORE_HIT = 60

_QUOTES = str.maketrans("“”„«»", '"""""')
_PARTS = re.compile(r'"([^"]*)"?|([^"]+)')
_LETTER = f"[^{SEPARATORS}{UNSPACED}]"
# What Markdown adds to words, as far as it would be in the way of reading a line of it.
_LINK = re.compile(r"\[([^\]]*)\]\([^)\s]*\)")
_MARKS = re.compile(r"(?<!\w)[*_`~#|>]+|[*`~|]+|_+(?!\w)")


@dataclass(frozen=True)
class Term:
    """Something to look for. `keys` are what the index has: all words, and whether each is only a beginning."""

    keys: tuple[tuple[str, bool], ...]
    pattern: re.Pattern
    is_exact: bool  # whether to have the words is to have the term


@dataclass(frozen=True)
class Hit:
    """A place where all terms are. Without a message it is the title that has them."""

    entry: SearchEntry
    title: SafeString
    passage: SafeString

    @property
    def url(self) -> str:
        return (self.entry.message or self.entry.conversation).get_absolute_url()

    @property
    def at(self) -> datetime:
        return self.entry.message.created_at if self.entry.message else self.entry.conversation.updated_at

    @property
    def is_answer(self) -> bool:
        return self.entry.message is not None and self.entry.message.role == Message.Role.ASSISTANT


@dataclass(frozen=True)
class Found:
    """`next` is where to go on, or None when everything has been looked at."""

    terms: list[Term]
    titles: list[Hit]
    messages: list[Hit]
    next: int | None = None


def search(user: User, query: str, before: int | None = None) -> Found:
    """What has all words of the query. `before` goes on behind an earlier answer; titles come with the first one.

    Four queries at most, and two more for each hundred messages that have the words of a phrase and not the phrase.
    """
    terms = read(query)
    if not terms:
        return Found([], [], [])
    titles = [] if before else _hits(user, _matching(user, TITLE, terms, None, TITLES), terms)
    messages: list[Hit] = []
    looked_at, at_once = 0, HITS_AT_ONCE
    while True:
        ids = _matching(user, MESSAGE, terms, before, at_once + 1)
        for hit in _hits(user, ids[:at_once], terms):
            if len(messages) == HITS_AT_ONCE:
                return Found(terms, titles, messages, before)
            messages.append(hit)
            before = hit.entry.pk
        if len(ids) <= at_once:
            return Found(terms, titles, messages)
        before = ids[at_once - 1]
        looked_at, at_once = looked_at + at_once, MOST_LOOKED_AT // 2
        if len(messages) == HITS_AT_ONCE or looked_at >= MOST_LOOKED_AT:
            return Found(terms, titles, messages, before)


def read(query: str) -> list[Term]:
    """The terms of a query, whatever it is: words, and phrases in quotes. All else means nothing."""
    found: dict[str, Term] = {}
    for part in _PARTS.finditer(clean(query[:LONGEST_QUERY]).translate(_QUOTES)):
        runs = list(RUN.finditer(fold(part[1] if part[2] is None else part[2])))
        for term in [_phrase(runs)] if part[2] is None and len(runs) > 1 else map(_word, runs):
            found.setdefault(term.pattern.pattern, term)
    return list(found.values())[:MOST_TERMS]


def _word(run: re.Match) -> Term:
    """A word or its beginning; of a single letter the word alone, since half of all words begin with it."""
    word, is_beginning = run[0], len(run[0]) > 1
    pattern = re.compile(_alone(run, is_beginning=is_beginning))
    return Term(_keys(run, is_beginning=is_beginning), pattern, is_exact=not run[1] or len(word) <= 2)


def _phrase(runs: list[re.Match]) -> Term:
    keys = [key for run in runs for key in _keys(run, is_beginning=False)]
    pattern = f"[{SEPARATORS}]*".join(_alone(run, is_beginning=False) for run in runs)
    return Term(tuple(keys[:MOST_TERMS]), re.compile(pattern), is_exact=False)


def _keys(run: re.Match, *, is_beginning: bool) -> tuple[tuple[str, bool], ...]:
    word = run[0]
    if not run[1]:
        return ((word[:LONGEST_WORD], is_beginning),)
    return tuple((pair, False) for pair in pairs(word)[:-1][:MOST_TERMS]) or ((word, True),)


def _alone(run: re.Match, *, is_beginning: bool) -> str:
    """A pattern of the run that is no part of a longer word. It begins with the word itself: that is found fast."""
    word = re.escape(run[0])
    if run[1]:
        return word
    return f"{word}(?<!{_LETTER}{word})" + ("" if is_beginning else f"(?!{_LETTER})")


def _matching(user: User, kind: str, terms: list[Term], before: int | None, count: int) -> list[int]:
    """Ids of entries that have all the words, the newest first."""
    keys = dict.fromkeys((f"{user.pk}{kind}{word}", is_beginning) for term in terms for word, is_beginning in term.keys)
    on_postgres = connection.vendor == "postgresql"
    # No word has a quote in it: quotes separate words.
    quote, star, sql = ("'", ":*", _ON_POSTGRES) if on_postgres else ('"', "*", _ON_SQLITE)
    every = [f"{quote}{word}{quote}{star if is_beginning else ''}" for word, is_beginning in keys]
    asked = (" & " if on_postgres else " AND ").join(every)
    with connection.cursor() as cursor:
        cursor.execute(sql, [asked, _NEVER if before is None else before, count])
        return [pk for (pk,) in cursor.fetchall()]


_NEVER = 2**63 - 1
_ON_SQLITE = """SELECT rowid FROM chat_searchindex WHERE chat_searchindex MATCH %s AND rowid < %s
ORDER BY rowid DESC LIMIT %s"""
# By `id` alone PostgreSQL walks through everybody's entries from the newest on, in the hope of some matches soon: 2 s
# among 600,000, where this takes 30 ms.
_ON_POSTGRES = (
    """SELECT id FROM chat_searchentry WHERE words @@ %s::tsquery AND id < %s ORDER BY id + 0 DESC LIMIT %s"""
)


def _hits(user: User, ids: list[int], terms: list[Term]) -> list[Hit]:
    """Their rows, asked for once more through their owner, as far as they have what the index cannot know of."""
    entries = SearchEntry.objects.filter(id__in=ids, conversation__owner=user).order_by("-id")
    entries = entries.select_related("conversation", "message").only(
        "conversation__title",
        "message__conversation",
        "conversation__archived",
        "conversation__updated_at",
        "message__text",
        "message__role",
        "message__created_at",
    )
    return [_hit(entry, terms) for entry in entries if _has_all(entry, terms)] if ids else []


def _has_all(entry: SearchEntry, terms: list[Term]) -> bool:
    inexact = [term for term in terms if not term.is_exact]
    text = searched(entry.message.text if entry.message else entry.conversation.title) if inexact else ""
    return all(term.pattern.search(text) for term in inexact)


def _hit(entry: SearchEntry, terms: list[Term]) -> Hit:
    title = entry.conversation.title or "New conversation"
    marked = _marked(title, 0, len(title), [] if entry.message else _places(title, terms))
    return Hit(entry, marked, _passage(entry.message.text, terms) if entry.message else SafeString(""))


def _passage(text: str, terms: list[Term]) -> SafeString:
    """The stretch of the text that has most of the terms, with their places marked."""
    text = text[:MOST_CHARACTERS]
    line = " ".join(_MARKS.sub("", _LINK.sub(r"\1", text)).split())
    if not (places := _places(line, terms)):  # it is in what Markdown would not show
        line = " ".join(text.split())
        places = _places(line, terms)
    start = 0
    if places:
        wealth = [len({n for at, _, n in places if first <= at < first + PASSAGE}) for first, _, _ in places]
        start = max(0, places[wealth.index(max(wealth))][0] - BEFORE_HIT)
    if start:
        start = line.find(" ", start, start + BEFORE_HIT // 2) + 1 or start
    end = len(line) if len(line) <= start + PASSAGE else line.rfind(" ", start + PASSAGE // 2, start + PASSAGE)
    end = end if end > start else start + PASSAGE
    return _marked(line, start, end, places)


def _places(line: str, terms: list[Term]) -> list[tuple[int, int, int]]:
    """Where a term begins and ends, and which; in order, none within another, and not without end."""
    folded, origin = _folded_with_origin(line)
    found = [
        (origin[match.start()], origin[match.end() - 1] + 1, number)
        for number, term in enumerate(terms)
        for match, _ in zip(term.pattern.finditer(folded), range(50), strict=False)
    ]
    places: list[tuple[int, int, int]] = []
    for place in sorted(found):
        if not places or place[0] >= places[-1][1]:
            places.append(place)
    return places


def _folded_with_origin(line: str) -> tuple[str, list[int] | range]:
    """Folded text, and for each of its characters the place that it came from."""
    folded = fold(line)
    if len(folded) == len(line):
        return folded, range(len(line))
    letters = [fold(letter) for letter in line]
    return "".join(letters), [at for at, letter in enumerate(letters) for _ in letter]


def _marked(line: str, start: int, end: int, places: list[tuple[int, int, int]]) -> SafeString:
    inside = [(at, until) for at, until, _ in places if start <= at and until <= end]
    borders = [start, *(border for place in inside for border in place), end]
    pieces = [line[at:until] for at, until in pairwise(borders)]
    pieces[::2] = ["… " * bool(start) + pieces[0], *pieces[2::2]]
    pieces[1::2] = [format_html("<mark>{}</mark>", piece) for piece in pieces[1::2]]
    return format_html_join("", "{}", ((piece,) for piece in [*pieces, " …" * (end < len(line))]))
