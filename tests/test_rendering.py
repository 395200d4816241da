"""Markdown as people see it, and the promise that an answer looks the same however it arrived."""

import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat import rendering
from chat.rendering import Live, blocks, linked, quick, render, split
from chat.rendering.live import LIMIT, LINES

BENCH = "; ".join(f"{n}@123456789{n:03}" for n in range(80))

# Whatever a block can begin, end or turn into, and the characters that come apart on the wire.
PLAIN = [
    "a",
    "b ",
    "word word ",
    "1",
    "12@34; ",
    "x_y",
    ".",
    ")",
    ":",
    "=",
    '"',
    "'",
    "(",
    "~",
    "é",
    "漢",
    " ",
    "  ",
    "\n",
]
FRAGMENTS = [
    *PLAIN, "👩\u200d💻", "\n\n", "\r\n", "\r", "    ", "\t", "\xa0", "\u3000", "\x0b", "\x1c", "\u2028", "\ufeff",
    "- ", "* ", "+ ", "1. ", "2) ", "-", "# ", "#", "> ", "===", "---", "***", "[x] ", "- [ ] ",
    "```", "```py\n", "~~~", "\n```\n", "`", "``", "|", "a|b\n", "|-|-|", "\n|-|\n", "\0", "\ud800",
    "*", "**", "_", "~~", "\\", "&amp;", "&", "<b>", "<http://a.b>", "[", "]", "](http://a.b)", "![",
    "$", "$$", "$$\n", "\n$$", "\\(", "\\)", "\\[", "\\]", "x^2", "\\frac12 ", "[^1]", "[^1]: ", "[^", "]:", "[1](http://a.b)",
    "[^n]", "[^n]: ", "<br>", "<sub>", "</sub>", "<mark>", "</mark>", "> [!NOTE]", "[!tip]", "\u202e", "&#x202e;",
]  # fmt: skip
markdown = st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join)
bounded = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def stream(text, sizes=(1,)):
    """Feed a text in pieces of the given sizes, over and over. All done blocks, and the last open part."""
    live, done, start, turn = Live(), [], 0, 0
    while start < len(text):
        size = sizes[turn % len(sizes)]
        live.feed(text[start : start + size])
        done += live.flush().done
        start, turn = start + size, turn + 1
    return done, live.flush().open


def as_read(text):
    """With one kind of line ending, nothing that no database takes, and nothing that turns its direction."""
    return (
        text.replace("\0", "")
        .replace("\ud800", "\ufffd")
        .replace("\u202e", "")
        .replace("\r\n", "\n")
        .replace("\r", "\n")
    )


def by_parser_alone(text):
    """The text rendered without any shortcut: parsed whole, every paragraph in one stretch."""
    source = as_read(text)
    stretch, blocks.STRETCH = blocks.STRETCH, 10**9
    try:
        return "".join(block.html(blocks.Memo()) for block in blocks.blocks(source))
    finally:
        blocks.STRETCH = stretch


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch):
    """So that short texts, too, are put together from several."""
    monkeypatch.setattr(blocks, "STRETCH", 6)


@bounded
@given(markdown)
def test_the_parts_of_a_text_are_the_whole(text):
    done, open_ = split(text)

    assert "".join(done) + open_ == render(text)


@bounded
@given(markdown)
def test_what_is_done_never_changes_whatever_follows(text):
    whole = split(text).done

    for end in range(len(text)):
        done = split(text[:end]).done
        assert done == whole[: len(done)]


@bounded
@given(markdown, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_an_answer_looks_the_same_however_it_was_cut(text, sizes):
    expected = (split(text).done, split(text).open)

    assert stream(text, sizes) == expected
    assert stream(text) == expected


@bounded
@given(markdown)
def test_at_every_moment_of_a_stream_the_reader_sees_the_text_so_far(text):
    live, done = Live(), []

    for end, character in enumerate(text, start=1):
        live.feed(character)
        new, open_ = live.flush()
        done += new
        assert "".join(done) + open_ == render(text[:end])

    assert live.text == text


@bounded
@given(markdown)
def test_shortcuts_give_what_the_parser_gives(text):
    assert render(text) == by_parser_alone(text)


@settings(bounded, max_examples=400)
@given(st.lists(st.sampled_from([*PLAIN, *PLAIN, *FRAGMENTS]), max_size=12).map("".join))
def test_plain_text_is_taken_for_a_paragraph_only_when_it_is_one(text):
    shortcut = quick.quick(as_read(text))

    assert shortcut is None or shortcut == by_parser_alone(text)


@pytest.mark.parametrize(
    "text",
    [
        "before\r\n\r\n```python\r\nx = '```'\r\n```\r\nafter",
        "a\rb\r\rc",
        "[text](https://example.com/a?b=1&c=2 'title') and ![alt](https://example.com/p.png)",
        "fish &amp; chips &copy; &#128169; &notanentity;",
        "family: 👨‍👩‍👧‍👦, flag: 🏴󠁧󠁢󠁳󠁣󠁴󠁿, e\u0301" + "\u0301" * 300,
        "| a | b |\n|---|:-:|\n| 1 | 2 |\n\ntext\n---\n# a | b\n|---|---|\n",
        "1. one\n\n   ```sh\n   ls\n   ```\n2. two\n   - [x] three\n\nend",
        "> quote\nlazy\n\n    code\n\n\n    more\n- - - x\n***\n",
    ],
)
def test_no_cut_of_a_text_shows(text):
    whole = render(text)

    for cut in range(len(text)):
        live = Live()
        live.feed(text[:cut])
        done = live.flush().done
        live.feed(text[cut:])
        more, open_ = live.flush()
        assert "".join([*done, *more]) + open_ == whole


def test_a_finished_paragraph_is_not_sent_again():
    live = Live()
    live.feed("First.\n\nSec")
    first = live.flush()

    live.feed("ond.")
    second = live.flush()

    assert first.done == ['<p dir="auto">First.</p>\n']
    assert second == ([], '<p dir="auto">Second.</p>\n')


def test_a_flush_without_news_repeats_the_open_part():
    live = Live()
    live.feed("Hello")
    live.flush()

    assert live.flush() == ([], '<p dir="auto">Hello</p>\n')


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("*em* **strong** ~~gone~~ `a<b`", "<em>em</em> <strong>strong</strong> <s>gone</s> <code>a&lt;b</code>"),
        ("a  \nb\\\nc", "a<br>\nb<br>\nc"),
        ("R&D, a < b, caf\xa0é", "R&amp;D, a &lt; b, caf&nbsp;é"),
        ("$5 and $10, snake_case, 2 * 3 * 4", "$5 and $10, snake_case, 2 * 3 * 4"),
        ("a note[^1] and [^a-z]", 'a note<sup class="note">1</sup> and [^a-z]'),
        ("a<br>b<br/>c<BR />d", "a<br>\nb<br>\nc<br>\nd"),
        ("H<sub>2</sub>O, m<sup>*2*</sup>", "H<sub>2</sub>O, m<sup><em>2</em></sup>"),
        ("<kbd>Ctrl</kbd> is **<mark>new</mark>**", "<kbd>Ctrl</kbd> is <strong><mark>new</mark></strong>"),
        ("<sub>open, *<sup>a*</sup>", "&lt;sub&gt;open, <em>&lt;sup&gt;a</em>&lt;/sup&gt;"),
        ("`<br>` \\<br> <sub >a</sub>", "<code>&lt;br&gt;</code> &lt;br&gt; &lt;sub &gt;a&lt;/sub&gt;"),
        ("\u202eabc\u202c &#x202e;\u2067x\u2069 `\u202e`", "abc x ``"),
    ],
)
def test_text_in_a_paragraph(text, html):
    assert render(text) == f'<p dir="auto">{html}</p>\n'


def test_headings_stand_below_those_of_the_page():
    assert render("# One\n## Two\n###### Six") == (
        '<h3 dir="auto">One</h3>\n<h4 dir="auto">Two</h4>\n<h6 dir="auto">Six</h6>\n'
    )


def test_tasks_are_characters_not_form_controls():
    html = render("- [ ] open\n- [x] done\n- [y] neither")

    assert html == (
        '<ul dir="auto">\n<li class="task"><span role="img" aria-label="To do">☐</span> open</li>\n'
        '<li class="task"><span role="img" aria-label="Done">☑</span> done</li>\n<li>[y] neither</li>\n</ul>\n'
    )


def test_a_table_keeps_its_alignment_without_a_style_attribute():
    html = render("| a | b |\n|:-:|--:|\n| 1 | 2 |")

    assert '<table dir="auto" tabindex="0">' in html
    assert '<td align="center">1</td>\n<td align="right">2</td>' in html
    assert "style" not in html


def test_code_has_its_language_above_and_is_coloured_by_class():
    html = render("```python title=x\ndef f(): pass\n```")

    assert html.startswith(
        '<figure class="code" dir="ltr"><figcaption>python</figcaption><pre tabindex="0"><code><span class="k">def'
    )
    assert html.endswith("</code></pre></figure>\n")


@pytest.mark.parametrize(("lines", "is_long"), [(30, False), (31, True)])
def test_long_code_is_marked_once_it_is_complete(lines, is_long):
    text = "```python\n" + "x = 1\n" * lines

    assert 'class="code"' in render(text)
    assert ('class="code long"' in render(text + "```")) == is_long


def test_a_diagram_is_its_source_and_says_so():
    assert "<figcaption>mermaid, the source of a diagram</figcaption>" in render("```mermaid\ngraph TD\n```")


def test_a_note_is_a_paragraph_where_it_stands():
    html = render("Said[^1] twice[^2].\n\n[^1]: By *one*.\n[^2]: By\nanother.\n\nThe end.")

    assert html == (
        '<p dir="auto">Said<sup class="note">1</sup> twice<sup class="note">2</sup>.</p>\n'
        '<p class="footnote" dir="auto"><sup class="note">1</sup> By <em>one</em>.</p>\n'
        '<p class="footnote" dir="auto"><sup class="note">2</sup> By\nanother.</p>\n'
        '<p dir="auto">The end.</p>\n'
    )


def test_a_mark_leads_to_its_note_and_the_note_back_to_the_first_mark():
    html = linked(render("One[^1], again[^1].\n\n[^1]: The note."), "message-7")

    assert html == (
        '<p dir="auto">One<sup><a id="message-7-mark-1" href="#message-7-note-1" role="doc-noteref" '
        'aria-label="Note 1">1</a></sup>, again<sup><a href="#message-7-note-1" role="doc-noteref" '
        'aria-label="Note 1">1</a></sup>.</p>\n'
        '<p class="footnote" dir="auto" id="message-7-note-1"><sup><a href="#message-7-mark-1" role="doc-backlink" '
        'aria-label="1: back to the text">1</a></sup> The note.</p>\n'
    )


@pytest.mark.parametrize("name", ["a", "note", "some-note", "note_2", "примечание"])
def test_a_mark_may_have_a_name_if_a_note_of_that_name_begins_a_line(name):
    html = linked(render(f"Said[^{name}].\n\n[^{name}]: The note."), "message-7")

    assert html == (
        f'<p dir="auto">Said<sup><a id="message-7-mark-{name}" href="#message-7-note-{name}" role="doc-noteref" '
        f'aria-label="Note {name}">{name}</a></sup>.</p>\n'
        f'<p class="footnote" dir="auto" id="message-7-note-{name}"><sup><a href="#message-7-mark-{name}" '
        f'role="doc-backlink" aria-label="{name}: back to the text">{name}</a></sup> The note.</p>\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        "Not a vowel: [^aeiou], or [^a-z], or [^a-zA-Z].",
        "Not a vowel: `[^aeiou]`.\n\n[^aeiou]: is said of the others.",
        "```\n[^abc]\n```\n\n[^abc]: neither.",
        "[^a-z]: every other sign. [^a-z] once more.",
        "[^abc]:x. And [^abc]",
        "- [^abc]: in a list\n- [^abc]",
        "Its note [^abc] follows in the line [^abc]: so.",
        "[a link with [^ab] in it](https://example.com/)\n\n[^ab]: A note.",
    ],
)
def test_a_piece_of_a_regular_expression_is_no_mark(text):
    html = linked(render(text), "message-7")

    assert html == render(text)
    assert "<sup" not in html
    assert "[^a" in html


@pytest.mark.parametrize("kind", ["NOTE", "Tip", "important", "WARNING", "CAUTION"])
@pytest.mark.parametrize("between", ["\n> ", " ", "\n"])
def test_an_alert_says_in_words_what_it_is(kind, between):
    html = render(f"> [!{kind}]{between}Mind the *gap*.")

    assert html == (
        '<blockquote dir="auto" class="alert">\n'
        f'<p><strong dir="ltr">{kind.capitalize()}</strong><br>\nMind the <em>gap</em>.</p>\n</blockquote>\n'
    )


@pytest.mark.parametrize(
    "text", ["[!NOTE] x", "> x [!NOTE]", "> [!NOPE] x", "> [!NOTE]x", "> \\[!NOTE] x", "> `[!NOTE]` x"]
)
def test_what_is_no_alert_is_shown_as_it_is(text):
    assert "alert" not in render(text)
    assert "<strong" not in render(text)


@pytest.mark.parametrize(
    "text",
    [
        "A mark without a note[^1].\n\n[^2]: A note without a mark.",
        "No mark.\n\n[^1]: A note.",
        "A mark[^1] and no note.",
    ],
)
def test_what_has_no_partner_stays_a_number(text):
    assert linked(render(text), "message-7") == render(text)


@pytest.mark.parametrize(
    "attack",
    [
        '<sup id="composer">1</sup>[^1]',
        '<p class="footnote" dir="auto"><sup>1</sup>',
        "[A mark in a link[^1]](https://example.com/)",
        "![a picture[^1]](https://example.com/)",
        "[x](#message-7-note-1)[^1]",
        '[^1" onclick=alert(1)]',
        '[^a1"><b id=x>]',
        "$<sup>1</sup>$[^1]",
        "`<sup>1</sup>`[^1]",
        "```\n<sup>1</sup>\n```\n[^1]",
        "[^1]: <a id=title>[^1]",
        "[<sup>1</sup>](https://example.com/)",
        '<sup class="note">1</sup><span class="note">[^1]</span>',
        "[see [^1x] and <sup>1</sup>](https://example.com/)",
        "`[^name]` and\n\n    [^name]: x",
        '[^na"me] [^na<b>me] [^na\'me]\n\n[^na"me]: x',
    ],
)
def test_no_text_makes_an_id_or_a_link_within_the_page_but_those_of_notes(attack):
    """S6: two of each, ours and no other."""
    html = linked(render(f"{attack}\n\nA mark[^1].\n\n[^1]: A note.\n\n{attack}"), "message-7")

    tags = re.findall(r"<[^>]+>", html)
    own = [re.search(r' id="([^"]*)"', tag)[1] for tag in tags if " id=" in tag]
    inner = {re.search(r'href="(#[^"]*)"', tag)[1] for tag in tags if 'href="#' in tag}
    assert sorted(own) == ["message-7-mark-1", "message-7-note-1"]
    assert inner <= {"#message-7-mark-1", "#message-7-note-1"}
    assert not re.search("<a[^>]*>(?:(?!</a>).)*<a", html, re.DOTALL)


def test_a_link_whose_text_is_a_number_looks_like_the_mark_of_a_source():
    assert '<a href="https://example.com/a" class="cite"' in render("It rains. [12](<https://example.com/a>)")


def test_code_that_is_still_written_is_not_coloured_yet():
    assert render("```python\ndef f(") == (
        '<figure class="code" dir="ltr"><figcaption>python</figcaption>'
        '<pre tabindex="0"><code>def f(</code></pre></figure>\n'
    )


@pytest.mark.parametrize("info", ["", "no-such-language", "<b>", "a" * 40, "&lt;script&gt;", "\\"])
def test_code_in_no_known_language_is_shown_as_it_is(info):
    html = render(f"```{info}\na < b\n```")

    assert "<code>a &lt; b\n</code>" in html
    assert re.search(r"<figcaption>[\w-]+</figcaption>", html)


@settings(bounded, max_examples=60)
@given(st.sampled_from(["python", "html", "js", "c", "bash"]), st.text("ab<&>\"'#/\\{} \n\t(", max_size=60))
def test_colouring_changes_no_character_of_code(language, code):
    html = render(f"```{language}\n{code}\n```")

    shown = re.sub("<[^>]+>", "", html[html.index("<code>") :])
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        shown = shown.replace(entity, character)
    assert shown == code + "\n\n"


def test_a_link_opens_elsewhere_and_tells_nothing_about_us():
    html = render("[docs](https://docs.python.org/3/ 'a title')")

    assert html == (
        '<p dir="auto"><a href="https://docs.python.org/3/" target="_blank" '
        'rel="noopener noreferrer nofollow ugc">docs</a></p>\n'
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("![A cat](https://cats.example/1.png)", ">A cat (cats.example)</a>"),
        ("![](https://cats.example/1.png)", ">image (cats.example)</a>"),
        ("![*A* `cat`](https://cats.example/1.png)", ">A cat (cats.example)</a>"),
        ("[![Build](https://ci.example/b.svg)](https://ci.example/)", 'href="https://ci.example/" '),
        ("[![Build](https://ci.example/b.svg)](https://ci.example/)", ">Build</a>"),
        ("<https://аpple.com>", 'href="https://xn--pple-43d.com"'),
        ("<https://аpple.com>", ">https://аpple.com (xn--pple-43d.com)</a>"),
        ("<https://xn--pple-43d.com>", ">https://xn--pple-43d.com (xn--pple-43d.com)</a>"),
        ("[Apple](https://аpple.com)", ">Apple (xn--pple-43d.com)</a>"),
        ("[https://bank.example](https://evil.example/)", ">https://bank.example (evil.example)</a>"),
        ("[example.com](https://example.com/x)", ">example.com</a>"),
        ("<ada@example.com>", 'href="mailto:ada@example.com"'),
    ],
)
def test_a_reader_sees_where_a_link_leads(text, shown):
    assert shown in render(text)


def test_references_are_plain_text_because_their_meaning_may_come_later():
    html = render("See [docs][1].\n\n[1]: https://example.com/")

    assert "<a" not in html
    assert "[1]: https://example.com/" in html


def test_an_alert_in_a_right_to_left_script_keeps_its_direction():
    """The first letter with a direction decides, and our word has one of its own."""
    assert render("> [!NOTE]\n> שלום").startswith('<blockquote dir="auto" class="alert">\n<p><strong dir="ltr">')


def test_right_to_left_text_finds_its_direction_and_code_keeps_its_own():
    html = render("שלום\n\n> שלום\n\n```\nx\n```")

    assert html.count('dir="auto"') == 2
    assert '<figure class="code" dir="ltr">' in html


@pytest.mark.parametrize("text", ["", "\n", " \n\t\n", "\0", "\r"])
def test_nothing_comes_of_nothing(text):
    assert render(text) == ""


def test_unstorable_characters_look_as_they_will_when_stored():
    assert render("a\0b\ud83dc") == '<p dir="auto">ab\ufffdc</p>\n'


def test_lists_nested_without_end_lose_no_text():
    text = "- " * 60 + "deep\n\nafter"

    html = render(text)

    assert html.startswith("<pre")
    assert "deep" in html
    assert "after" in html


@pytest.mark.parametrize("line", ["some words and *marks* \n", "x" * 99 + "\n", "- item\n", "\n", "é" * 997])
def test_beyond_the_limit_an_answer_is_shown_as_typed(line):
    text = line * (LIMIT // len(line) + 300)

    done, open_ = split(text)

    assert (done, open_) == stream(text, (40_001, 7))
    assert len(open_) < 20_000
    assert done[-1].startswith("<pre") or not text.strip()


def test_the_lines_of_an_answer_are_limited_too():
    text = "a\n\n" * LINES

    html = render(text)

    assert html.count("<p ") == LINES / 2
    assert "<pre" in html


def test_a_growing_paragraph_is_cheap():
    """A generous bound, for a busy machine: it takes some 15 µs. Slower than that, hundreds of streams stall."""
    assert seconds_per_flush(BENCH[:1500], "99@123456789099; ") < 0.000_2
    assert quick.quick(BENCH) is not None


@pytest.mark.parametrize(
    "start",
    ["The **quick** `fox` jumps over [it](https://example.com/).\n- **Item**: word\n" * 15 + "- word", "# word"],
)
def test_words_at_the_end_of_anything_are_cheap(start, monkeypatch):
    live = Live()
    live.feed(start)
    live.flush()
    monkeypatch.setattr(rendering.live, "blocks", None)  # so that parsing would fail

    live.feed(" and more words, ")
    live.feed("and more")

    assert "word and more words, and more<" in live.flush().open


def test_a_long_block_of_code_that_grows_is_cheap():
    """It takes some 0.1 ms for 40 kB; the parser alone would take ten times as long."""
    assert seconds_per_flush("```python\n" + "x = compute(1, 2)  # words\n" * 1500, "y = 1\n") < 0.002


def seconds_per_flush(start, piece):
    live = Live()
    live.feed(start)
    live.flush()
    began = time.process_time()
    for _ in range(20):
        live.feed(piece)
        live.flush()
    return (time.process_time() - began) / 20
