"""What a browser is told with every answer, and what no page contains (S26, S28, S39; ASVS V3.2 to V3.7)."""

import http.client
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from django.templatetags.static import static
from django.test import Client

from chat import sidebar
from tests.conftest import PASSWORD
from tests.pages import without_tokens
from tests.security.routes import every_route

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
)
# What people have attached gets less than a page: nothing at all.
FILES, INERT = {"application/octet-stream", "image/webp"}, "sandbox; default-src 'none'"
ELSEWHERE = [
    "//evil.example/",
    "https://evil.example/",
    "http:///evil.example/",
    "https:evil.example",
    "/\\evil.example/",
    "\\\\evil.example/",
    "////evil.example/",
    "\x08//evil.example/",
    " //evil.example/",
    "javascript:alert(1)",
    "data:text/html,x",
]


def problems(headers, *, signed_in: bool) -> list[str]:
    """What is missing from the headers of an answer."""
    wanted = {
        "Content-Security-Policy": INERT if headers.get("Content-Type") in FILES else CSP,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    if signed_in:
        wanted["Cache-Control"] = "no-store, private"
    wrong = [name for name, value in wanted.items() if headers.get(name) != value]
    if signed_in and not {"Cookie", "HX-Request"} <= {name.strip() for name in headers.get("Vary", "").split(",")}:
        wrong.append("Vary")
    wrong += [name for name in ("Access-Control-Allow-Origin", "Server", "X-Tally-Ticket") if headers.get(name)]
    return wrong


@pytest.mark.django_db
def test_every_route_answers_with_all_headers(people, address):
    statuses = set()
    for path in (address(route) for route in every_route()):
        for name in ("anonymous", "alice", "ada"):
            for method in ("get", "post") if name == "anonymous" else ("get",):
                response = getattr(people[name], method)(path)
                statuses.add(response.status_code)
                assert problems(response, signed_in=name != "anonymous") == [], (method, path, name)

    assert statuses >= {200, 302, 403, 404, 405}


@pytest.mark.django_db
def test_so_do_refusals_and_failures(people, answered, waiting, alice, monkeypatch):
    client = people["alice"]
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    client.raise_request_exception = False
    busy = f"/conversations/{waiting.conversation_id}/messages/"
    answers = [
        client.post(busy, {"text": "Hello"}),
        client.post(busy, {"text": ""}),
        client.post(busy, {"text": "Hello"}, headers={"HX-Request": "true"}),
        client.post(f"/turns/{answered.id}/stop/", headers={"HX-Request": "true"}),
        strict.post(busy, {"text": "Hello"}),
    ]
    monkeypatch.setattr(sidebar, "sidebar", None)
    answers.append(client.get("/conversations/"))

    assert [answer.status_code for answer in answers] == [409, 422, 409, 204, 403, 500]
    assert [problems(answer, signed_in=True) for answer in answers] == [[]] * len(answers)
    # Refused before Django comes to that header; the policy's frame-ancestors says the same.
    refused = client.get("/", headers={"Host": "evil.example"})
    assert problems(refused, signed_in=False) == ["X-Frame-Options"]


@pytest.mark.django_db(transaction=True)
def test_so_does_a_stream(site, browse, alice, waiting):
    """The relay takes over from Django in the middle of the answer, with the headers that Django gave it."""
    client = browse(alice)
    connection = http.client.HTTPConnection(urlsplit(site).netloc, timeout=5)
    cookie = f"sessionid={client.cookies['sessionid'].value}"

    connection.request("GET", f"/turns/{waiting.id}/stream/", headers={"Cookie": cookie})
    response = connection.getresponse()
    first = response.readline()
    client.post(f"/turns/{waiting.id}/stop/")
    connection.close()

    assert first == b"retry: 1000\n"
    assert response.getheader("Content-Type") == "text/event-stream; charset=utf-8"
    headers = {name: value for name, value in response.getheaders() if (name.lower(), value) != ("server", "uvicorn")}
    assert problems({_titled(name): value for name, value in headers.items()}, signed_in=True) == []


@pytest.mark.django_db(transaction=True)
def test_so_does_a_static_file(site):
    """It is answered in front of Django."""
    connection = http.client.HTTPConnection(urlsplit(site).netloc, timeout=5)
    connection.request("GET", static("css/app.css"))
    response = connection.getresponse()
    connection.close()

    assert response.status == 200
    assert response.headers["Content-Security-Policy"] == CSP
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Access-Control-Allow-Origin"] is None


def _titled(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


class Inspector(HTMLParser):
    """Collects what our policy would block, and what would leave our origin."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        # A block of data is not a script: no browser runs JSON.
        if tag == "script" and "src" not in given and given.get("type") != "application/json":
            self.found.append("<script>")
        if tag in {"style", "iframe", "object", "embed", "base"}:
            self.found.append(f"<{tag}>")
        for name, value in attributes:
            if name == "style" or name.startswith(("on", "hx-on")):
                self.found.append(f"<{tag} {name}>")
            if name in {"src", "href", "action", "formaction", "srcset", "poster", "ping"}:
                url = urlsplit(value or "")
                ours = not url.scheme and not url.netloc
                if not ours and (tag != "a" or url.scheme not in {"http", "https"}):
                    self.found.append(f"<{tag} {name}={value}>")


@pytest.mark.django_db
def test_no_page_has_inline_script_or_style_or_anything_from_elsewhere(people, address):
    pages = 0
    for path in (address(route) for route in every_route()):
        for name in ("anonymous", "alice", "ada"):
            response = people[name].get(path)
            if not response["Content-Type"].startswith("text/html") or not response.content:
                continue
            pages += 1
            inspector = Inspector()
            inspector.feed(response.content.decode())
            assert inspector.found == [], (path, name)

    assert pages > 90


@pytest.mark.django_db
@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_signing_in_and_out_leads_nowhere_else(elsewhere, browse, alice, ada):
    client = browse()

    signed_in = client.post("/accounts/login/", {"username": "alice", "password": PASSWORD, "next": elsewhere})
    signed_out = client.post("/accounts/logout/", {"next": elsewhere})
    by_admin = browse(ada).get("/admin/login/", {"next": elsewhere})

    assert signed_in["Location"] == "/conversations/"
    assert signed_out["Location"] == "/accounts/login/"
    assert urlsplit(by_admin["Location"]).netloc == ""


@pytest.mark.django_db
@pytest.mark.parametrize(
    "host",
    ["evil.example", "testserver.evil.example", "testserver@evil.example", "evil.example:80", "testserver/x?", ""],
)
def test_a_host_that_is_not_ours_is_refused(host, browse):
    response = browse().get("/accounts/login/", headers={"Host": host}, SERVER_NAME=host or "evil.example")

    assert response.status_code == 400
    assert b"evil" not in response.content


@pytest.mark.django_db
def test_headers_that_a_proxy_would_send_change_nothing_by_themselves(browse, alice):
    forged = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Server": "evil.example",
        "Forwarded": "host=evil.example",
        "X-Original-URL": "/admin/",
        "X-Rewrite-URL": "/admin/",
        "X-HTTP-Method-Override": "DELETE",
        "X-Forwarded-User": "ada",
        "Accept-Language": '"><script>alert(1)</script>',
        "User-Agent": "canary<script>",
        "Referer": "https://canary.example/<script>",
    }
    plain = browse(alice).get("/spend/")

    response = browse(alice).get("/spend/", headers=forged)

    assert without_tokens(response) == without_tokens(plain)
    assert browse().get("/conversations/", headers=forged)["Location"].startswith("/accounts/login/")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/conversations/?text={}", "/accounts/login/?next={}", "/nowhere/{}", "/admin/spend/?sort={}"]
)
def test_what_an_address_says_comes_back_escaped(path, browse, ada):
    attack = "\"'></textarea><img src=x onerror=alert(1)>{{7*7}}"

    body = browse(ada).get(path.format(attack)).content.decode() + browse().get(path.format(attack)).content.decode()

    assert "<img src=x" not in body
    assert "49</textarea>" not in body
