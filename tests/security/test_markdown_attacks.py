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

from chat.rendering import Live, blocks, code, links, live, maths, render, split
from chat.rendering.cleaning import clean
from chat.rendering.live import LIMIT


def corpus(name):
    text = (Path(__file__).parent / "corpus" / name).read_text(encoding="utf-8")
    return [line.replace("⏎", "\n") for line in text.split("\n") if line]


LINKS = corpus("links.txt")
MATHS = corpus("maths.txt")
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
    "<mark>{}</mark>", "<sub>a<br>{}", "{}</sup>", "> [!NOTE] {}", "[^name]: {}",
    "${}$", "$\\text{{{}}}$", "\\({}\\)", "$$\n{}\n$$", "\\[\n{}", "[^1]: {}", "- [ ] {}",
]  # fmt: skip
BARE = frozenset(("hr", "br", "em", "s", "sub", "kbd", "mark", "code", "figcaption", "thead", "tbody", "tr"))
DIRECTED = frozenset(("p", "ul", "blockquote", "table", "h3", "h4", "h5", "h6"))
ALLOWED = {
    **dict.fromkeys(BARE, frozenset()),
    **dict.fromkeys(DIRECTED, frozenset({"dir"})),
    "p": frozenset({"dir", "class", "tabindex"}),
    **dict.fromkeys(("li", "sup"), frozenset({"class"})),
    "blockquote": frozenset({"dir", "class"}),
    "strong": frozenset({"dir"}),
    "table": frozenset({"dir", "tabindex"}),
    **dict.fromkeys(("td", "th"), frozenset({"align"})),
    "a": {"href", "class", "target", "rel"},
    "ol": {"dir", "start"},
    "figure": {"class", "dir"},
    "pre": {"dir", "tabindex"},
    "span": {"class", "role", "aria-label"},
}
CLASSES = {
    "a": {"cite"},
    "blockquote": {"alert"},
    "figure": {"code", "code long"},
    "li": {"task"},
    "p": {"footnote", "formula"},
    "sup": {"note"},
}
# Of MathML nothing that loads, links, runs, or may hold HTML.
MATHML = frozenset(
    """mrow mi mo mn mtext mspace mfrac msqrt mroot msup msub msubsup mover munder munderover mtable mtr mtd mstyle
    mpadded mphantom""".split()  # noqa: SIM905 - a page of quotes reads worse
)
MATHML_ATTRIBUTES = frozenset(
    """accent columnalign columnlines depth displaystyle fence form height largeop linethickness lspace mathvariant
    maxsize minsize movablelimits rowlines rspace scriptlevel separator stretchy width""".split()  # noqa: SIM905
)
FORMULA = re.compile("<math .*?</math>", re.DOTALL)


class Inspector(HTMLParser):
    """Fails at the first thing that our own markup never has."""

    formula = ()

    def handle_starttag(self, tag, attrs):
        if tag == "math":
            assert not self.formula
            assert [name for name, _ in attrs] in (["display", "alttext"], ["display", "alttext", "class", "tabindex"])
        elif self.formula:
            assert tag in MATHML, f"<{tag}> in a formula"
            assert self.formula[-1] not in {"mi", "mo", "mn", "mtext"}, f"<{tag}> in <{self.formula[-1]}>"
            for name, value in attrs:
                is_line = name == "class" and tag == "mrow" and value in {"box", "over", "strike", "under"}
                assert is_line or name in MATHML_ATTRIBUTES, f"<{tag} {name}>"
                assert re.fullmatch(r"[-+.\w ]{0,40}", value)
        if tag == "math" or self.formula:
            self.formula += (tag,)
            return
        assert tag in ALLOWED, f"<{tag}>"
        for name, value in attrs:
            assert name in ALLOWED[tag], f"<{tag} {name}>"
            if name == "href":
                url = urlsplit(value)
                assert url.scheme in {"http", "https", "mailto"}
                assert url.scheme == "mailto" or url.hostname
            if name == "class":
                assert tag == "span" or not value or value in CLASSES[tag]

    def handle_endtag(self, tag):
        if self.formula:
            assert self.formula[-1] == tag
            self.formula = self.formula[:-1]

    def handle_comment(self, data):
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def inspect(html):
    inspector = Inspector()
    inspector.feed(html)
    inspector.close()
    assert not inspector.formula


def without_formulas(html):
    """What the sanitiser has seen: formulas are put in their places after it."""
    return FORMULA.sub("", html)


def test_the_corpus_is_worth_its_name():
    assert len(LINKS) >= 60
    assert len(HTML) >= 150
    assert len(MATHS) >= 80


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
    for attack in HTML + LINKS + MATHS:
        html = without_formulas(render(place.format(attack)))
        assert clean(html) == html


@pytest.mark.parametrize("place", PLACES)
def test_a_formula_holds_nothing_but_mathml_and_text(place):
    """S6: a sanitiser of HTML may be fooled by MathML, so formulas are built from a list of their own."""
    for attack in MATHS:
        inspect(render(place.format(attack)))


def test_no_formula_is_made_of_what_only_looks_like_its_place():
    html = render("<var>$x$</var> `<var>$x$</var>` [<var>$x$</var>](https://example.com)")

    assert html.count("<math") == 1
    assert "<var>" not in html


@pytest.mark.parametrize(
    "tex",
    [
        r"\newcommand{\a}{\b\b}\newcommand{\b}{\c\c}\a", r"\def\x{\x\x}\x", "{" * 400 + "}" * 400, r"\sqrt" * 500,
        r"\left(" * 200 + r"\right)" * 200, "x^" * 900, "&" * 2_000, "x" * 4_000, r"\frac{" * 300,
        r"\begin{matrix}" * 99,
    ],
    ids=lambda tex: tex[:12],
)  # fmt: skip
def test_no_formula_takes_long_or_nests_without_end(tex):
    html = render(f"$$\n{tex}\n$$")

    assert is_quick(f"$$\n{tex}\n$$")
    inspect(html)
    assert len(html) < 200_000


def test_what_a_formula_moves_stays_in_its_place():
    html = render(r"$\hspace{-9em}\rule{99em}{99em}\hspace{500px}\mspace{-300mu}x$")

    assert all(abs(float(size)) < 20 for size in re.findall(r'"([-+]?[\d.]+)(?:em|ex|pt|px)"', html))
    assert "<mi>x</mi>" in html


@pytest.mark.parametrize("attack", HTML)
def test_the_sanitiser_alone_would_be_enough(attack):
    once = clean(attack)

    inspect(once)
    assert clean(once) == once


def test_no_attack_is_made_by_cutting_a_text():
    for attack in HTML + LINKS + MATHS:
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
        "<br class=x>", "<br onload=alert(1)>", "</br>", "<br/ >", "<sub >a</sub >", "<sup/>a</sup>", "<kbd/>", "<mark",
        "&lt;mark>a&lt;/mark>", "\\<mark>a</mark>", "<sub>a</sup>", "</sub>a<sub>", "<s>a</s>", "<u>a</u>", "<b>a</b>",
        "<script>a</script>", '<sup class="note">1</sup>', '<span class="note">x</span>', "<sub\u0131>a</sub>",
    ],
)  # fmt: skip
def test_of_html_only_a_few_bare_tags_in_pairs_are_more_than_text(text):
    assert set(re.findall("<[^>]*>", render(text))) == {'<p dir="auto">', "</p>"}


def test_tags_in_tags_end_before_a_browser_loses_count():
    html = render("<sub>" * 1_400 + "a" + "</sub>" * 1_400)

    assert html.count("<sub>") == html.count("</sub>") < 20
    assert clean(html) == html


@pytest.mark.parametrize(
    "text",
    ["[example.c<sup>o</sup>m](https://evil.example)", "[exam<br>ple.com](https://evil.example)"],
)
def test_no_tag_hides_what_name_a_link_shows(text):
    assert " (evil.example)</a>" in render(text)


@pytest.mark.parametrize(
    "text",
    [
        "{}", "`{}`", "```\n{}\n```", "| a |\n|---|\n| {} |", "[{}](https://example.com)", "![{}](https://example.com)",
        "<https://example.com/{}>", "$\\text{{{}}}$", "$$\n{}", "```py {}\nx\n```", "x" * LIMIT + "{}",
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "&#x202e;", "&#8238;"])
def test_no_mark_turns_the_direction_of_what_follows(text, mark):
    """evil.example/\u202egpj.exe reads as evil.example/exe.jpg"""
    html = render(text.format(f"a{mark}b"))

    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(html)


@pytest.mark.parametrize("tex", [r"\unicode{x202e}abc", r"\text{a&#x202e;b}", r"\char'20056 a"])
def test_no_formula_turns_the_direction_either(tex):
    assert "\u202e" not in render(f"${tex}$")


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
    [(live, "blocks"), (blocks, "clean"), (blocks, "_stretch"), (links, "shown"), (code, "coloured"), (maths, "drawn")],
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
        "$", "$a$ ", "$a ", "\\(", "\\(a\\) ", "\\([", "$[", "$$\n", "$$\na\n", "\\[\n", "[^1]", "[^1]: a\n", "[^1]: ",
        "<sub>", "</sub>", "<sub></sub>", "<sub><sup>", "<sub>*</sub>", "<br>", "<sub>a b ", "[^ab]", "[^ab]: a\n",
        "[^a-", "> [!NOTE]\n\n", "> [!NOTE]\n", "<mark>*a " * 1_900 + "\n\n", "<sub>" * 1_400 + "</sub>" * 1_400,
        "$a$ " * 3_900 + "\n\n", "$a " * 5_200 + "\n\n", "\\(" * 7_900 + "\n\n", "\\([" * 5_200 + "\n\n",
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
        "".join(f"$a_{{{n}}}x^{n}$ " + "\n\n" * (n % 500 == 0) for n in range(9_000)),
        "\n\n".join("$" + str(n) + "x" * 2_800 + "$" for n in range(70)),
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
