"""The pieces of HTML that a running turn sends to its page. templates/chat/_message.html has their places."""

from collections.abc import Iterable
from datetime import datetime

from django.utils import timezone
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString

from chat import progress


def partial(target: str, html: str, swap: str = "innerHTML") -> str:
    """One instruction for htmx: put this there. `html` is already safe."""
    return f'<hx-partial hx-target="#{target}" hx-swap="{swap} swapEmpty:true">{html}</hx-partial>'


def text(turn_id, done: Iterable[str], open_block: str, *, afresh: bool = False) -> str:
    """Blocks that are finished are added (or, `afresh`, replace all); the open one is replaced."""
    blocks = "".join(done)
    pieces = []
    if blocks or afresh:
        pieces.append(partial(f"done-{turn_id}", blocks, "innerHTML" if afresh else "beforeend"))
    pieces.append(partial(f"open-{turn_id}", open_block))
    return "".join(pieces)


def thinking(turn_id, words: str, *, afresh: bool = False) -> str:
    return partial(f"thinking-{turn_id}", escape(words), "innerHTML" if afresh else "beforeend")


def thought(turn_id, words: str, *, is_shown: bool) -> str:
    """How long Claude thought: above what it says of that, or alone where it says nothing."""
    return partial(f"{'thought' if is_shown else 'silence'}-{turn_id}", escape(words))


def notice(turn_id, words: str, since: datetime) -> str:
    """What the reader is waiting for, in plain words; empty once text is there. And since when."""
    return partial(f"notice-{turn_id}", escape(words)) + partial(f"clock-{turn_id}", clock(since) if words else "")


def clock(since: datetime) -> SafeString:
    """How long it has been, for static/js/clock.js to go on with. Beside the words: a clock is not to be announced."""
    waited = progress.waited(timezone.now() - since)
    return format_html('<span data-since="{}">{}</span>', f"{since.timestamp():.3f}", waited)


def not_saved(words: str) -> str:
    """Beside the form that was sent: the composer, or the one that asks for more."""
    alert = f'<p class="alert" role="alert">{escape(words)}</p>'
    return partial("composer-error", escape(words)) + partial("requests", alert, "afterbegin")
