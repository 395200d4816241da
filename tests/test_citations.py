"""Sources of a web search: the same links live, kept and shown, and strangers' words made harmless."""

import pytest

from chat import rendering
from chat.citations import Sources, failures_of, sources_of, text_of
from chat.claude import Answer

PAGE = "https://example.com/rain"


def citation(url=PAGE, title="Rain"):
    return {"type": "web_search_result_location", "cited_text": "…", "url": url, "title": title, "encrypted_index": "x"}


def cited(text, *citations):
    return {"type": "text", "text": text, "citations": list(citations)}


def fed(blocks, answer=None):
    """An answer that has heard these blocks, the text of each in pieces."""
    answer = answer or Answer()
    for index, block in enumerate(blocks):
        opening = {"type": "text", "text": "", **({"citations": []} if "citations" in block else {})}
        answer.feed({"type": "content_block_start", "index": index, "content_block": opening})
        for each in block.get("citations", []):
            delta = {"type": "citations_delta", "citation": each}
            answer.feed({"type": "content_block_delta", "index": index, "delta": delta})
        text = block["text"]
        for piece in (text[:1], text[1:-1], text[-1:] if len(text) > 1 else ""):
            delta = {"type": "text_delta", "text": piece}
            answer.feed({"type": "content_block_delta", "index": index, "delta": delta})
        answer.feed({"type": "content_block_stop", "index": index})
    return answer


def test_a_mark_stands_behind_the_words_that_it_is_about():
    blocks = [cited("It rains.\n\n", citation()), {"type": "text", "text": "It snows."}]

    assert text_of(blocks) == f"It rains. [1](<{PAGE}>)\n\nIt snows."


def test_each_page_has_one_number_in_the_order_of_citing():
    other = citation("https://example.org/", "Other")
    blocks = [cited("A.", other), cited("B.", citation(), other, citation())]

    assert text_of(blocks) == f"A. [1](<https://example.org/>)B. [2](<{PAGE}>) [1](<https://example.org/>)"
    assert [(source.number, source.title, source.host) for source in sources_of(blocks)] == [
        (1, "Other", "example.org"),
        (2, "Rain", "example.com"),
    ]


@pytest.mark.parametrize("text", ["It rains.", "It rains.\n\n", "  \n \n", "- It rains\n  ", "It rains!"])
def test_the_live_text_is_the_text_that_is_kept(text):
    blocks = [{"type": "text", "text": "Let me look.\n"}, cited(text, citation()), {"type": "text", "text": " And on."}]

    answer = fed(blocks)

    assert "".join(answer.new_text) == text_of(answer.blocks) == text_of(blocks)


def test_numbers_go_on_in_the_next_answer_of_a_turn():
    sources = Sources()
    first, second = [cited("A.", citation())], [cited("B.", citation("https://example.org/"), citation())]

    live = [*fed(first, Answer(sources=sources)).new_text, *fed(second, Answer(sources=sources)).new_text]

    assert "".join(live) == text_of(first + second)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "mailto:ada@example.com", "//evil.example/",
        "/spend/", "https://", "https://bank.example@evil.example/", "https://evil%2eexample/", "ftp://example.com/",
        "https://[", "https://" + "a" * 3_000, "", None, 7, ["https://example.com/"], "https://a..b\ud800/",
    ],
)  # fmt: skip
def test_what_is_no_address_of_the_web_is_no_source(url):
    blocks = [cited("It rains.", citation(url))]

    assert text_of(blocks) == "It rains."
    assert sources_of(blocks) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a b", "https://example.com/>x", "https://example.com/<script>",
        "https://example.com/\n\n# x",
        "https://example.com/`x`", "https://example.com/$x$", "https://example.com/a\\", "https://example.com/?a=1&lt;b",
        "https://example.com/|", 'https://example.com/"onclick="x', "https://example.com/)[x](y", "https://example.com/é",
        "https://example.com/*_~!", "https://example.com/a\u2028b", "HTTPS://EXAMPLE.COM/", "https://example.com/%3Cx%3E",
    ],
)  # fmt: skip
def test_whatever_an_address_holds_it_is_one_link(url):
    html = rendering.render(
        text_of([cited("It costs $5 and `so`.", citation(url)), {"type": "text", "text": " `$x$` *a*"}])
    )

    assert html.count("<a ") == 1
    assert '" class="cite" target="_blank" rel="noopener noreferrer nofollow ugc">1</a>' in html
    assert "<em>a</em>" in html


def test_a_host_is_shown_in_letters_that_cannot_pass_for_others():
    [source] = sources_of([cited("x", citation("https://аpple.com/", "Apple"))])

    assert source.host == "xn--pple-43d.com"


def test_a_title_is_one_line_of_bearable_length_and_never_missing():
    titles = [citation("https://a.example/", " a\n\tb "), citation("https://b.example/", "x" * 999)]
    titles += [citation("https://c.example/", None), citation("https://d.example/", "")]

    shown = [source.title for source in sources_of([cited("x", *titles)])]

    assert shown == ["a b", "x" * 200, "c.example", "d.example"]


@pytest.mark.parametrize("odd", ["text", None, 7, [], {"url": {}}, {"title": "no address"}])
def test_citations_of_other_kinds_are_left_out(odd):
    assert text_of([cited("It rains.", odd)]) == "It rains."


def test_a_search_that_failed_is_said_once_in_words():
    def failed(code):
        return {
            "type": "web_search_tool_result",
            "content": {"type": "web_search_tool_result_error", "error_code": code},
        }

    found = {"type": "web_search_tool_result", "content": []}

    assert failures_of([found]) == []
    assert failures_of([failed("max_uses_exceeded"), failed("max_uses_exceeded"), failed("novelty")]) == [
        "Claude wanted to search the web more often than this chat allows.",
        "A web search failed. The answer does without it.",
    ]


def test_an_answer_tells_what_it_searches_for():
    answer = Answer()
    opening = {"type": "server_tool_use", "id": "1", "name": "web_search", "input": {}}
    answer.feed({"type": "content_block_start", "index": 0, "content_block": opening})
    asked = {"type": "input_json_delta", "partial_json": '{"query": "rain\\n today"}'}
    answer.feed({"type": "content_block_delta", "index": 0, "delta": asked})
    before = answer.query
    answer.feed({"type": "content_block_stop", "index": 0})
    during = answer.query
    result = {"type": "web_search_tool_result", "tool_use_id": "1", "content": []}
    answer.feed({"type": "content_block_start", "index": 1, "content_block": result})

    assert (before, during, answer.query) == (None, "rain today", "")


def test_time_in_thinking_is_that_of_its_blocks_shown_or_not():
    now = iter(range(100))
    answer = Answer(clock=lambda: next(now))

    for kind in ("thinking", "text", "redacted_thinking"):
        answer.feed({"type": "content_block_start", "index": 0, "content_block": {"type": kind}})
        answer.feed({"type": "ping"})
        answer.feed({"type": "content_block_stop", "index": 0})
    answer.end()

    assert answer.thinking_ms() == 4_000


def test_thinking_that_was_cut_off_counts_to_the_end():
    now = iter(range(100))
    answer = Answer(clock=lambda: next(now))

    answer.feed({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}})
    answer.feed({"type": "ping"})
    answer.end()

    assert answer.thinking_ms() == 2_000
