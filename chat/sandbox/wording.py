"""The reader's own words, made into quotes, titles and search queries."""

import re

from .faults import without_directives

_MOST_LINES = 20
_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~])")
_SMALL = re.compile(
    r"(?:"
    r"a|about|an|and|are|as|at|be|by|can|could|did|do|does|explain|for|from|give|"
    r"has|have|hello|hi|how|i|if|in|is|it|its|let|like|make|me|my|need|of|on|or|"
    r"our|please|show|so|some|tell|than|that|the|their|them|then|there|these|they|"
    r"this|to|us|want|was|we|were|what|when|where|which|who|why|will|with|would|"
    r"write|you|your"
    r")",
    re.IGNORECASE,
)


def quoted(question, length=90):
    """The question on one line, shortened at a word, with its Markdown made harmless."""
    line = " ".join(without_directives(question).split())
    if len(line) > length:
        line = line[:length].rsplit(" ", 1)[0] + "…"
    return _MARKUP.sub(r"\\\1", line)


def keywords(question, most):
    """The words that carry the question, in their order; all words when only small ones are there."""
    words = _WORD.findall(without_directives(question))
    return ([word for word in words if not _SMALL.fullmatch(word)] or words)[:most]


def summary(transcript):
    """What was asked, in the order in which it was; of an earlier summary its own lines."""
    asked = [quoted(line, 70) for line in re.findall(r"^Person:\n(.+)", transcript, re.MULTILINE)]
    known = re.findall(r"^- .+", transcript.partition("Person:\n")[0], re.MULTILINE)
    lines = [*known, *(f"- {line}" for line in asked if line)][-_MOST_LINES:]
    return "\n".join(["**The person asked, in this order:**", "", *lines])


def title(question):
    """Three to five words."""
    words = keywords(question, 5)
    if len(words) < 3:
        words = _WORD.findall(without_directives(question))[:5]
    if not words:
        return "A short question"
    return words[0][:1].upper() + " ".join(words)[1:60]
