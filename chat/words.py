"""How text becomes the words that are searched: the same for what is kept and for what somebody looks for.

`SEPARATORS`, `UNSPACED` and `INVISIBLE` are written as both Python and PostgreSQL read them within brackets, because
PostgreSQL makes its words itself (chat/search_index.py). They name code points, so that no locale has a say.
"""

import re
import unicodedata

MOST_CHARACTERS = 50_000  # of one message; more would not fit PostgreSQL's 1 MB for the words of one row
LONGEST_WORD = 40

# Punctuation, symbols and white space of every script that we know to use its own.
SEPARATORS = (
    r"\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7"
    r"\u02c2-\u02df\u037e\u0387\u055a-\u055f\u0589-\u058f\u05be\u05c0\u05c3\u05c6\u05f3\u05f4\u0600-\u060f\u061b-\u061f"
    r"\u066a-\u066d\u06d4\u0700-\u070d\u0964\u0965\u0970\u0e2f\u0e3f\u0e4f\u0e5a\u0e5b\u0f04-\u0f14\u0f3a-\u0f3d"
    r"\u104a-\u104f\u10fb\u1360-\u1368\u1400\u166e\u1680\u169b\u169c\u17d4-\u17db\u1800-\u180a\u2000-\u206f\u20a0-\u20cf"
    r"\u2100-\u214f\u2190-\u2bff\u2e00-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\u303d-\u303f\u30a0\u30fb\ufd3e\ufd3f"
    r"\ufe10-\ufe1f\ufe30-\ufe6f\ufff9-\uffff"
)
# Scripts that put no spaces between words (and emoji): here each two neighbours are a word.
UNSPACED = (
    r"\u0e00-\u0e2e\u0e30-\u0e3e\u0e40-\u0e4e\u0e80-\u0eff\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u3005-\u3007"
    r"\u3021-\u302f\u3031-\u303c\u3040-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3100-\u312f\u31a0-\u31ff\u3400-\u4dbf"
    r"\u4e00-\u9fff\uf900-\ufaff\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
# Accents, vowel points, joiners, and what turns the direction of writing: with or without them it is the same word.
INVISIBLE = (
    r"\u00ad\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u061c\u0640"
    r"\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u180b-\u180f\u1ab0-\u1aff\u1dc0-\u1dff"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\ufeff\U000e0000-\U000e0fff"
)
# Letters that are not a plain one with an accent, and are often typed as one. The SQL names those that become two.
LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe", "þ": "th", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "ı": "i", "ς": "σ"}

RUN = re.compile(f"([{UNSPACED}]+)|[^{SEPARATORS}{UNSPACED}]+")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_LETTERS = str.maketrans(LETTERS)
_ASCII_WORD = re.compile("[0-9a-z]+")


def fold(text: str) -> str:
    """Text without case, accents and what cannot be seen. Its length may differ."""
    if text.isascii():
        return text.lower()
    bare = _INVISIBLE.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFKC", bare.lower().translate(_LETTERS))


def searched(text: str) -> str:
    """The part of a message that is searched, folded."""
    return fold(text[:MOST_CHARACTERS])[:MOST_CHARACTERS]


def words(text: str) -> set[str]:
    """The different words of a text: runs of letters and digits, and pairs of neighbours where there are no spaces."""
    folded = searched(text)
    if folded.isascii():
        return {word[:LONGEST_WORD] for word in _ASCII_WORD.findall(folded)}
    found: set[str] = set()
    for run in RUN.finditer(folded):
        found.update(pairs(run[0]) if run[1] else (run[0][:LONGEST_WORD],))
    return found


def pairs(run: str) -> list[str]:
    """Each two neighbours; the last one stands alone."""
    return [run[at : at + 2] for at in range(len(run))]
