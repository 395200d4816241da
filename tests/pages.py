"""What a reader finds on a conversation's page, in the words of the page."""

import html
import re
from dataclasses import dataclass

from django.test import Client

from chat.models import Turn


@dataclass(frozen=True)
class Reply:
    """An answer as the page shows it; `ending` says why it ended, `buttons` what stands beside those words."""

    status: str
    text: str
    ending: str
    buttons: list[str]
    footer: str


def reply_on_page(client: Client, turn: Turn) -> Reply:
    page = client.get(f"/conversations/{turn.conversation_id}/")
    assert page.status_code == 200
    pattern = rf'<article [^>]*id="message-{turn.reply_id}".*?</article>'
    article = re.search(pattern, page.content.decode(), re.DOTALL)[0]
    ending = _part(article, r'<div class="message__ending">(.*?)</div>')
    return Reply(
        status=re.search(r'data-status="(\w+)"', article)[1],
        text=_words(_part(article, rf'<div id="done-{turn.id}">(.*?)</div>')),
        ending=_words(_part(ending, r"<p>(.*?)</p>")),
        buttons=[_words(name) for name in re.findall(r"<button[^>]*>(.*?)</button>", ending, re.DOTALL)],
        footer=_words(_part(article, r"<footer.*?>(.*?)</footer>")),
    )


def without_tokens(response) -> str:
    """A page, but for the tokens of its forms, which are others each time."""
    return re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", response.content.decode())


def composer_text(body: str) -> str:
    """What stands in the box of the page. A browser drops the first line end of a textarea."""
    return html.unescape(_part(body, r'<textarea[^>]*id="composer-text"[^>]*>\n?(.*?)</textarea>'))


def composer_error(body: str) -> str:
    """What the composer complains about, on a page or in the answer that htmx gets."""
    pattern = r'(?:id="composer-error"|hx-target="#composer-error")[^>]*>(.*?)</'
    return _words(_part(body, pattern))


def _part(markup: str, pattern: str) -> str:
    found = re.search(pattern, markup, re.DOTALL)
    return found[1] if found else ""


def _words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())
