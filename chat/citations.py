"""What a web search found and Claude cites: numbered links in the text of an answer, and the list below it.

The links are part of the text, so that what grows on screen, what is kept, what is searched, copied and exported have
the same ones. Claude gets its blocks back without them.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from chat.rendering.links import is_allowed

LONGEST_URL = 2_000
LONGEST_TITLE = 200

# What would end a destination in angle brackets, or mean something to Markdown before the link is read.
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029<>\\`|$\"{}^]|&(?=#?\w+;)")
_FAILURES = {
    "max_uses_exceeded": "Claude wanted to search the web more often than this chat allows.",
    "too_many_requests": "A web search failed: there were too many at once.",
    "unavailable": "A web search failed: the service was not available.",
}
_FAILED = "A web search failed. The answer does without it."


@dataclass(frozen=True)
class Source:
    number: int
    url: str
    title: str
    host: str


class Sources:
    """Gives each address a number, in the order in which they are cited. One for all calls of a turn."""

    def __init__(self) -> None:
        self._found: dict[str, Source] = {}

    def __iter__(self) -> Iterator[Source]:
        return iter(self._found.values())

    def marks(self, citations: Iterable[object]) -> str:
        """The links that stand behind a text with these citations, in Markdown."""
        cited = dict.fromkeys(source for citation in citations if (source := self._source(citation)))
        return "".join(f" [{source.number}](<{source.url}>)" for source in cited)

    def _source(self, citation: object) -> Source | None:
        if not isinstance(citation, dict) or not (url := _address(citation.get("url"))):
            return None
        if url not in self._found:
            host = _host(url)
            title = " ".join(str(citation.get("title") or "").split())[:LONGEST_TITLE]
            self._found[url] = Source(len(self._found) + 1, url, title or host, host)
        return self._found[url]


def text_of(blocks: Iterable[dict], sources: Sources | None = None) -> str:
    """The visible text of content blocks. Citations split a text into blocks, so nothing but their marks stands
    between."""
    sources = sources or Sources()
    return "".join(_marked(block, sources) for block in blocks if block.get("type") == "text")


def sources_of(blocks: Iterable[dict]) -> list[Source]:
    sources = Sources()
    text_of(blocks, sources)
    return list(sources)


def failures_of(blocks: Iterable[dict]) -> list[str]:
    """In words, each once. A search that failed has an object where others have a list."""
    results = [block.get("content") for block in blocks if block.get("type") == "web_search_tool_result"]
    failed = [_FAILURES.get(str(result.get("error_code")), _FAILED) for result in results if isinstance(result, dict)]
    return list(dict.fromkeys(failed))


def _marked(block: dict, sources: Sources) -> str:
    text = block.get("text", "")
    if not (marks := sources.marks(block.get("citations") or [])):
        return text
    words = text.rstrip()
    return words + marks + text[len(words) :]


def _address(url: object) -> str:
    """The address in a form that is the same to Markdown and to a browser; empty if it is not one of the web."""
    if not isinstance(url, str) or len(url) > LONGEST_URL:
        return ""
    url = _UNSAFE.sub(lambda found: quote(found[0], safe=""), url.strip())
    return url if is_allowed(url) and url.lower().startswith(("http://", "https://")) and _host(url) else ""


def _host(url: str) -> str:
    """In punycode where it is international, so that no letter passes for another."""
    try:
        return (urlsplit(url).hostname or "").encode("idna").decode()
    except UnicodeError:
        return ""
