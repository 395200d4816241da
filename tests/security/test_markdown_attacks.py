"""What a model may write and must not achieve (S1 to S6, S8 and S31; ASVS V1.2.2, V1.2.3, V1.3.5).

The corpus holds one attack a line, with ⏎ where it has a line break.
"""

import re
import time
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chat.rendering import Live, blocks, code, links, live, render, split
from chat.rendering.cleaning import clean
from chat.rendering.live import LIMIT


def corpus(name):
    text = (Path(__file__).parent / "corpus" / name).read_text(encoding="utf-8")
    return [line.replace("⏎", "\n") for line in text.split("\n") if line]


LINKS = corpus("links.txt")
HTML = corpus("html.txt") + [
    f"<{tag} {event}=alert(1) {trigger}>x</{tag}>"
    for tag, (event, trigger) in product(
        ["p", "a", "li", "td", "pre", "code", "span", "figure", "h3", "blockquote", "ol", "table"],
        [
            ("onclick", ""),
            ("onfocus", "tabindex=1 autofocus"),
            ("OnAnimationStart", "style=animation:x"),
            ("on%00load", ""),
        ],
    )
]
# Everywhere a text can stand, and one place inside a link, a title, an alt text, a language.
PLACES = [
    "{}", "- {}", "> {}", "# {}", "| a |\n|---|\n| {} |", "**{}**", "`{}`", "```{}\nx\n```", "```html\n{}\n```",
    "    {}", "[{}](https://example.com)", '[x](https://example.com "{}")', "![{}](https://example.com)",
    "[x](https://example.com/{})", "<https://example.com/{}>", "[x]({})", "\\{}",
]  # fmt: skip
BARE = frozenset(("li", "hr", "br", "em", "strong", "s", "code", "figcaption", "thead", "tbody", "tr"))
DIRECTED = frozenset(("p", "ul", "blockquote", "table", "h3", "h4", "h5", "h6"))
ALLOWED = {
    **dict.fromkeys(BARE, frozenset()),
    **dict.fromkeys(DIRECTED, frozenset({"dir"})),
    "table": frozenset({"dir", "tabindex"}),
    **dict.fromkeys(("td", "th"), frozenset({"align"})),
    "a": {"href", "target", "rel"},
    "ol": {"dir", "start"},
    "figure": {"class", "dir"},
    "pre": {"dir", "tabindex"},
    "span": {"class"},
}


class Inspector(HTMLParser):
    """Fails at the first thing that our own markup never has."""

    def handle_starttag(self, tag, attrs):
        assert tag in ALLOWED, f"<{tag}>"
        for name, value in attrs:
            assert name in ALLOWED[tag], f"<{tag} {name}>"
            if name == "href":
                url = urlsplit(value)
                assert url.scheme in {"http", "https", "mailto"}
                assert url.scheme == "mailto" or url.hostname
            if name == "class":
                assert tag == "span" or value == "code"

    def handle_comment(self, data):
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def inspect(html):
    inspector = Inspector()
    inspector.feed(html)
    inspector.close()


def test_the_corpus_is_worth_its_name():
    assert len(LINKS) >= 60
    assert len(HTML) >= 150


@pytest.mark.parametrize("text", LINKS)
def test_no_spelling_of_a_link_leaves_http_https_and_mailto(text):
    for place in ("{}", "- {}", "| a |\n|---|\n| {} |", "**{}**"):
        inspect(render(place.format(text)))


@pytest.mark.parametrize("text", [text for text in LINKS if "https://example.com" not in text])
def test_a_refused_link_is_plain_text(text):
    assert "href" not in render(text)


@pytest.mark.parametrize("place", PLACES)
def test_no_html_of_the_model_becomes_html_of_ours(place):
    for attack in HTML:
        inspect(render(place.format(attack)))


@pytest.mark.parametrize("place", PLACES)
def test_the_sanitiser_had_the_last_word(place):
    """S3, S6: parsing what was written changes nothing, so that the browser reads what nh3 has seen."""
    for attack in HTML + LINKS:
        html = render(place.format(attack))
        assert clean(html) == html


@pytest.mark.parametrize("attack", HTML)
def test_the_sanitiser_alone_would_be_enough(attack):
    once = clean(attack)

    inspect(once)
    assert clean(once) == once


def test_no_attack_is_made_by_cutting_a_text():
    for attack in HTML + LINKS:
        stream = Live()
        for character in attack:
            stream.feed(character)
            done, open_ = stream.flush()
            inspect("".join(done) + open_)


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://evil.example/p)",
        "![x](<https://evil.example/p q>)",
        "![x][1]\n\n[1]: https://evil.example/p",
        "![x]\n\n[x]: https://evil.example/p",
        "[![x](https://evil.example/p)](https://evil.example/)",
        "![x](//evil.example/p)",
        "![x](https://evil.example/p =1x1)",
        '<img srcset="https://evil.example/p 1x">',
        "<link rel=prefetch href=https://evil.example/p>",
        '<p style="background:url(https://evil.example/p)">',
        '<a href="https://evil.example/" ping="https://evil.example/p">x</a>',
        "```css\n@import url(https://evil.example/p);\n```",
        "https://evil.example/p",
    ],
)
def test_nothing_is_loaded_by_looking_at_an_answer(text):
    class NoLoader(Inspector):
        def handle_starttag(self, tag, attrs):
            super().handle_starttag(tag, attrs)
            assert tag == "a" or not any("evil.example" in value for _, value in attrs)

    NoLoader().feed(render(text))


@pytest.mark.parametrize(
    "text",
    [
        "event: done\ndata: 1\n\n",
        '<hx-partial hx-target="#standing">x</hx-partial>',
        '<div id="done-1" class="message__body prose">x</div>',
        "<!--final-->",
        '</div></article><article class="message" data-role="user" data-status="done">',
        '{"type": "tool_use", "name": "x"}',
        '<figure class="code"><figcaption>x</figcaption></figure>',
        '<pre dir="auto" tabindex="0"><code>x</code></pre>',
    ],
)
def test_text_that_looks_like_our_own_markup_stays_text(text):
    html = render(text)

    assert set(re.findall("<[^>]*>", html)) == {'<p dir="auto">', "</p>"}


@pytest.mark.parametrize(
    ("module", "name"),
    [(live, "blocks"), (blocks, "clean"), (blocks, "_stretch"), (links, "shown"), (code, "coloured")],
)
def test_when_rendering_fails_the_text_is_shown_escaped(module, name, monkeypatch, caplog):
    def fail(*args):
        raise RuntimeError("secret of the answer")

    monkeypatch.setattr(module, name, fail)
    text = "*<img src=x onerror=alert(1)>*\n\n```python\n<script>\n```\n"

    html = render(text)

    inspect(html)
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert "&lt;script&gt;" in html
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_a_failure_in_the_middle_keeps_what_was_done(monkeypatch):
    stream = Live()
    stream.feed("First.\n\n*Second*")
    before = stream.flush()

    monkeypatch.setattr(blocks, "clean", None)
    stream.feed(" and *third*\n\n*Fourth*")
    after = stream.flush()

    assert before.done == ['<p dir="auto">First.</p>\n']
    assert after.done == []
    assert "*Second* and *third*\n\n*Fourth*" in after.open


@pytest.mark.parametrize(
    "text",
    [
        "someone.with.a.name@mail.example, ", "someone@mail.example\n", "![", "*", "*a ", "*a_b **c ", "***a** ",
        "[", "[a](", "[a](<", '[a](b "', "[`]`", "[\n", "`", "``a `b ", "<", "<a ", "<http://a ", "&a", "~~a ", "\\",
        "- ", "- a\n", "* a\n- a\n", "1. a\n", ">", "> > a\n", "# a\n", "a\n\n", "    a\n\n", "|a", "|a\n|-\n", "---\n",
        "```\n", "[a] ", "[a](b) ", "\n", " ", "\t", "é̂", "*a " * 5_000 + "\n\n", "[" * 4 + "*a " * 5_000 + "\n\n",
    ],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_no_text_takes_the_square_of_its_length(text):
    text = (text * (LIMIT // len(text) + 1))[:LIMIT]

    assert is_quick(text)


@pytest.mark.parametrize(
    "text",
    [
        "".join("`" * n + " " for n in range(1, 600)),
        "".join("  " * n + "- a\n" for n in range(440)),
        "|" * 300 + "\n" + "|-" * 300 + "|\n" + "|\n" * 5_000,
        "> " * 200 + "a\n" + "b\n" * 50_000,
        "```python\n" + "'''\"\"\"(((" * 2_000 + "\n```\n",
        "```html\n" + "<" * 19_000 + "\n```\n",
        "```js\n" + "/a" * 9_000 + "\n```\n",
    ],
    ids=lambda text: text[:12],
)
def test_no_shape_of_a_text_takes_long(text):
    assert is_quick(text)


def test_a_megabyte_is_shown_as_typed_in_pieces():
    text = "<b>*x*</b> " * 100_000

    done, open_ = split(text)

    assert is_quick(text)
    assert max(map(len, done[1:])) < 40_000
    inspect("".join(done) + open_)


def is_quick(text):
    """Under 4 s of processor time, 1.3 s on a quiet machine; what grows with the square would take minutes."""
    return cpu_seconds(text) < 4


def cpu_seconds(text):
    began = time.process_time()
    render(text)
    return time.process_time() - began
