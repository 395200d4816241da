"""What people and models write does nothing in a real browser (S2, S5, S8, S43): P5."""

import re

import pytest

from chat.models import Conversation
from tests.browser.screen import send
from tests.conftest import over
from tests.security.test_markdown_attacks import HTML, LINKS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("worker", "sandbox"),
]

# Each would send a request of htmx's making if it were an element.
HTMX = """
<div hx-get="/spend/?fired" hx-trigger="load">a</div>
<div data-hx-get="/spend/?fired" data-hx-trigger="load">b</div>
<p hx-on:htmx:load="fetch('/spend/?fired')" hx-on::load="fetch('/spend/?fired')">c</p>
<div hx-sse:connect="/spend/?fired" hx-trigger="load">d</div>
<div sse-connect="/spend/?fired">e</div>
<hx-partial hx-target="#standing" hx-swap="innerHTML">You have $1,000,000</hx-partial>
<div id="standing" hx-swap-oob="true">You have $1,000,000</div>
<form action="/spend/?fired" method="post"><input name="x"><button autofocus>Press</button></form>
<meta http-equiv="refresh" content="0;url=/spend/?fired">
"""
LOADERS = """
![a](https://evil.example/a.png) ![b][1] <img src="https://evil.example/b" srcset="https://evil.example/c 1x">
<iframe src="https://evil.example/d"></iframe> <link rel="prefetch" href="https://evil.example/e">
<link rel="dns-prefetch" href="//evil.example"> <video src="https://evil.example/f" autoplay></video>
<style>@import url(https://evil.example/g);</style> <p style="background:url(https://evil.example/h)">h</p>
<object data="https://evil.example/i"></object> <svg><image href="https://evil.example/j"/></svg>
<script src="https://evil.example/k"></script> <base href="https://evil.example/">
[link](https://evil.example/l) https://evil.example/m <https://evil.example/n>

[1]: https://evil.example/o "title"
"""
EVERYTHING = "\n\n".join([HTMX, LOADERS, *HTML, *LINKS])
TITLE = '"><img src=x onerror=alert(1)><script>alert(1)</script><b hx-get="/spend/?fired" hx-trigger="load">'


def sent_from(page) -> list[str]:
    """The addresses that a page asks for from now on."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    return asked


def test_the_trap_would_snap(page_of, alice):
    """Otherwise the silence of the other tests would mean nothing."""
    page = page_of(alice)
    page.goto("/spend/")

    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=https://evil.example/a onerror=alert(1)>')")
    page.evaluate("fetch('https://evil.example/b').catch(() => 0)")
    page.evaluate("setTimeout(() => alert(1))")
    page.wait_for_event("dialog")

    for words in ("img-src", "connect-src", "script-src", "dialog: 1"):
        assert any(words in complaint for complaint in page.complaints), words
        page.forgive(words)
    page.forgive("evil.example")


def test_an_answer_and_a_question_full_of_attacks_do_nothing(page_of, alice, sandbox, conversation):
    sandbox.enqueue(say=EVERYTHING)
    Conversation.objects.filter(id=conversation.id).update(title=TITLE, system_prompt=EVERYTHING)
    page = page_of(alice)
    asked = sent_from(page)
    page.goto(f"/conversations/{conversation.id}/")
    standing = page.locator("#standing").inner_text()

    send(page, EVERYTHING)
    page.locator('[data-role="assistant"][data-status="done"]').wait_for(timeout=30_000)
    _is_inert(page, asked)
    page.reload()
    _is_inert(page, asked)

    assert page.locator("#standing").inner_text().split(" left")[0].startswith("$")
    assert "1,000,000" not in page.locator("#standing").inner_text() + standing
    assert page.locator(".topbar__title").inner_text() == TITLE
    over(conversation.turns.get())


def _is_inert(page, asked: list[str]) -> None:
    # Two frames and a moment for what would fire by itself.
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 200)))")
    assert [url for url in asked if "fired" in url or "evil" in url] == []
    written = page.locator(".message__body, .message__said")
    assert written.locator("script, style, iframe, img, form, input, link, meta, object, svg, base").count() == 0
    names = written.locator("*").evaluate_all("found => found.flatMap(element => element.getAttributeNames())")
    assert [name for name in set(names) if name.startswith(("on", "hx-", "data-hx", "sse-", "style", "src"))] == []
    # Between a mark and its note, within the answer, there are links of our own.
    links = written.locator("a:not([role=doc-noteref], [role=doc-backlink])").evaluate_all(
        "links => links.map(link => [link.protocol, link.rel, link.target])"
    )
    inner = written.locator("a:is([role=doc-noteref], [role=doc-backlink])").evaluate_all(
        "links => links.map(link => [link.getAttribute('href'), link.closest('.message').id])"
    )
    assert [href for href, message in inner if not re.fullmatch(rf"#{message}-(mark|note)-\w+", href)] == []
    # ":" is what a browser makes of an address that it cannot read; such a link leads nowhere.
    assert {protocol for protocol, _, _ in links} <= {"http:", "https:", "mailto:", ":"}
    assert {(rel, target) for _, rel, target in links} == {("noopener noreferrer nofollow ugc", "_blank")}


def test_the_pages_of_the_admin_keep_the_policy(page_of, ada, alice, conversation):
    Conversation.objects.filter(id=conversation.id).update(title=TITLE)
    alice.first_name = '<img src=x onerror="alert(1)">'
    alice.save(update_fields=["first_name"])
    page = page_of(ada)

    for path in (
        "/admin/",
        "/admin/spend/",
        "/admin/chat/",
        "/admin/chat/user/",
        f"/admin/chat/user/{alice.pk}/change/",
        f"/admin/chat/user/{alice.pk}/delete/",
        "/admin/chat/price/add/",
        "/admin/chat/budget/",
        "/admin/chat/budget/add/",
        "/admin/chat/usagerecord/",
        "/admin/password_change/",
    ):
        assert page.goto(path).status == 200, path


def test_the_pages_of_an_account_keep_the_policy(page_of, alice):
    visitor, owner = page_of(), page_of(alice)

    for path in ("/accounts/login/", "/accounts/password/reset/", "/accounts/signup/"):
        assert visitor.goto(path).status == 200, path
    for path in ("/spend/", "/accounts/password/change/", "/accounts/logout/"):
        assert owner.goto(path).status == 200, path
