"""Where a link leads is never hidden, and nothing is loaded just because an answer is looked at."""

import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from markdown_it.token import Token

from .cleaning import SCHEMES

_NUMBER = re.compile(r"\d{1,3}")
_NAMES_A_HOST = re.compile(r"[\w-]\.[a-zA-Z]{2}|://")


def is_allowed(url: str) -> bool:
    """Whether a normalised URL may become a link. Names before an @ and %-spelled hosts are disguises."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.scheme == "mailto":
        return "@" in parts.path
    return parts.scheme in SCHEMES and bool(parts.hostname) and not set("@%") & set(parts.netloc)


def shown(tokens: Sequence[Token]) -> Iterator[Token]:
    """Inline tokens with images as links that name their host; other links do if their text misleads."""
    href, text = "", ""
    for index, token in enumerate(tokens):
        if token.type == "image":
            alt = _text(token.children or []) or "image"
            if href:  # a link in a link would tear the outer one apart
                token, text = _text_token(alt), text + alt
            else:
                yield from _image_link(str(token.attrs["src"]), alt)
                continue
        elif token.type == "link_open":
            href, text = str(token.attrs["href"]), ""
            token.attrs = {"href": href, "class": "cite"} if _is_number(tokens[index + 1 :]) else {"href": href}
        elif token.type == "link_close":
            if _misleads(text, href):
                yield _text_token(f" ({destination(href)})")
            href = ""
        elif href:
            text += token.content
            if token.type == "formula":  # in which a name can be spelled so that no test sees it
                token = _text_token(token.content)
        yield token


def destination(url: str) -> str:
    """The host, in punycode where it is internationalised; of a mailto: link the address."""
    parts = urlsplit(url)
    return parts.hostname or parts.path


def _is_number(tokens: Sequence[Token]) -> bool:
    """Whether the text of the link is a number: the mark of a source."""
    types = [token.type for token in tokens[:2]]
    return types == ["text", "link_close"] and bool(_NUMBER.fullmatch(tokens[0].content))


def _misleads(text: str, href: str) -> bool:
    target = destination(href)
    if "xn--" in target:
        return True
    return bool(_NAMES_A_HOST.search(text)) and target not in text.lower()


def _image_link(url: str, alt: str) -> Iterator[Token]:
    yield Token("link_open", "a", 1, attrs={"href": url})
    yield _text_token(f"{alt} ({destination(url)})")
    yield Token("link_close", "a", -1)


def _text(tokens: Sequence[Token]) -> str:
    return "".join(_text(token.children) if token.children else token.content for token in tokens)


def _text_token(content: str) -> Token:
    return Token("text", "", 0, content=content)
