"""Formulas: what is one and what is a price, while they are typed, and as MathML."""

import re

import pytest

from chat.rendering import Live, maths, render, split
from chat.rendering.mathml import formula


def formulas(text):
    """The TeX of what is drawn, in capitals where it has a line of its own."""
    found = re.findall('<math display="(\\w+)" alttext="([^"]*)"', render(text))
    return [tex.upper() if display == "block" else tex for display, tex in found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a $x$, b \\(y\\) c", ["x", "y"]),
        ("the $n$th and $k$-th, ($m$), **$b$**, _$i$_", ["n", "k", "m", "b", "i"]),
        ("in a line $$x$$ and \\[y=1\\] too", ["X", "Y=1"]),
        ("$$\nx\n$$", ["X"]),
        ("$$ x = 1 $$", ["X = 1"]),
        ("$$x$$.", ["X."]),
        ("\\[\nx\n\\],\nand so on", ["X,"]),
        ("\\[\\begin{aligned}\na&=b\n\\end{aligned}\\]", ["\\BEGIN{ALIGNED}\nA&AMP;=B\n\\END{ALIGNED}"]),
        ("text\n$$\nx\n$$\nmore", ["X"]),
        ("1. one\n   $$\n   x\n   $$\n2. two", ["X"]),
        ("> \\[\n> x\n> \\]", ["X"]),
        ("| a |\n|---|\n| $x$ |", ["x"]),
        ("# On $x$", ["x"]),
        ("a note[^1]\n\n[^1]: where $x$", ["x"]),
        ("$x \\$ y$ and $5$", ["x \\$ y", "5"]),
        ("$a*b*c$ and $a_1 b_2$", ["a*b*c", "a_1 b_2"]),
        ("two\nlines $a\n+b$", ["a\n+b"]),
    ],
)
def test_a_formula_is_known_wherever_it_stands(text, found):
    assert formulas(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "$5 and $10", "from $5 to $10 (or US$5)", "it costs 5$ or 10$ a month", "$5, that is $ 5",
        "between $5 and US$ 10",
        "$HOME/$USER and $PATH", "`$x$` and `\\(x\\)`", "```\n$x$\n$$\ny\n$$\n```", "    $$\n    x", "\\$x\\$", "$ x $",
        "$",
        "$$", "$$$$", "$$ is my currency", "\\[1\\] Smith, \\[2\\] Jones, \\[see there\\]", "\\(\\)", "\\(x", "\\[x",
        "$x",
        "It costs $5 and `so $x`.", "a $x\n\ny$ b", "$5 for you and me, not 6$",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_formula_stays_text(text):
    assert formulas(text) == []


@pytest.mark.parametrize(
    "text", ["a $x^2$ b", "a \\(x\\) b", "$$\nx\n$$\nb", "text\n\\[\nx = 1\n\\]\n\nb", "- $$x$$\n- b"]
)
def test_a_formula_is_its_source_until_it_is_whole_and_then_a_formula_for_good(text):
    live, seen = Live(), []

    done = ""
    for character in text:
        live.feed(character)
        new, open_ = live.flush()
        done += "".join(new)
        seen.append("<math" in done + open_)

    assert seen == sorted(seen)
    assert seen[-1]


def test_a_formula_that_is_still_typed_is_shown_as_it_is_typed():
    html = render("So:\n\n$$\n\\frac{1}{<2")

    assert '<p class="formula" dir="ltr"><code>$$\n\\frac{1}{&lt;2</code></p>' in html


def test_a_formula_that_was_never_closed_ends_with_its_paragraph():
    html = render("$$\n\\frac{1}{2}\n\nAnd *so* on.")

    assert "<code>$$\n\\frac{1}{2}</code></p>\n" in html
    assert "<em>so</em>" in html


def test_a_finished_formula_is_not_sent_again():
    live = Live()
    live.feed("$$\nx\n$$\nAnd")
    done, open_ = live.flush()

    assert len(done) == 1
    assert "<math" in done[0]
    assert "And" in open_


@pytest.mark.parametrize(
    ("tex", "shown"),
    [
        ("x^2", "<msup><mi>x</mi><mn>2</mn></msup>"),
        ("a<b", "<mo>&lt;</mo>"),
        ("\\mathbb{RN}", "<mi>ℝ</mi><mi>ℕ</mi>"),
        ("\\mathbf{x1}", "<mi>𝐱</mi><mn>𝟏</mn>"),
        ("\\mathcal{L}\\mathfrak{g}", "<mi>ℒ</mi><mi>𝔤</mi>"),
        ("\\boldsymbol{x}", "<mi>𝒙</mi>"),
        ("\\mathrm{kg}", '<mi mathvariant="normal">k</mi>'),
        ("\\text{if } x", "<mtext>if&nbsp;</mtext>"),
        ("\\unheardof x", "<mi>\\unheardof</mi><mi>x</mi>"),
        ("\\begin{dcases}1\\\\2\\end{dcases}", "<mtable>"),
        ("\\overline{AB}", '<mrow class="over"><mrow><mi>A</mi>'),
        ("\\underline{x}", '<mrow class="under">'),
        ("\\boxed{x}", '<mrow class="box">'),
        ("\\cancel{x}", '<mrow class="strike">'),
        ("\\mathop{f}", "<mrow><mi>f</mi></mrow>"),
        ("x \\label{eq}", "<mrow><mi>x</mi></mrow>"),
    ],
)
def test_tex_becomes_mathml(tex, shown):
    assert shown in formula(f"${tex}$")


def test_limits_stand_below_where_there_is_room():
    assert "<munder><mo>lim</mo>" in formula("$$\\lim_{x\\to0} x$$")
    assert "<msub><mo>lim</mo>" in formula("$\\lim_{x\\to0} x$")


def test_equations_are_aligned_and_carry_no_numbers():
    html = formula("$$\\begin{align}a&=b\\\\c&=d\\end{align}$$")

    assert html.count("<mtr>") == 2
    assert 'columnalign="right"' in html
    assert "(1)" not in html


@pytest.mark.parametrize(
    "source", ["$\\left[x$", "$x_1_2$", "$$ $$", "$\\newcommand{\\a}{x}\\a$", "$" + "x" * 4_000 + "$"]
)
def test_what_nobody_can_read_is_shown_as_its_source(source):
    assert formula(source) == f"<code>{source}</code>"


def test_what_is_copied_and_read_aloud_is_the_tex():
    assert 'alttext="a &lt; &quot;b&quot;"' in formula('$a < "b"$')


def test_after_very_many_formulas_the_rest_is_their_source_however_the_text_was_cut(monkeypatch):
    monkeypatch.setattr(maths, "MOST", 40)
    text = "$x_1$ and\n\n$y_{23}$ and $z$\n\n" * 8

    whole = "".join([*split(text).done, split(text).open])
    live, streamed = Live(), ""
    for start in range(0, len(text), 3):
        live.feed(text[start : start + 3])
        streamed += "".join(live.flush().done)

    assert whole == streamed + live.flush().open
    assert 0 < whole.count("<math") < 24
    assert "<code>$x_1$</code>" in whole
