"""What the stand-in says: texts written in advance, chosen by the question."""

import json
import re
import zlib
from functools import cache
from pathlib import Path
from string import Template

from . import tokens, tools, wording
from .catalogue import Catalogue

_TEXTS = Path(__file__).parent / "texts"

# The first that fits wins; texts/<topic>-<n>.md are its variants.
_TOPICS = [
    ("show", r"\b(everything|show me what|what can you (do|show)|markdown|demo|footnotes?)\b"),
    ("long", r"(?<!how )\b(long|longer|essay|article|story|in detail|at length|in depth)\b"),
    ("code", r"\b(code|python|function|script|program|class|regex|bug|snippet|algorithm)\b|```"),
    ("faults", r"\b(an? (error|fault|failure|outage)|errors|faults|break|broken|overloaded)\b"),
    ("maths", r"\b(maths?|mathematics|formulas?|equations?|integrals?|algebra|calculus|latex|solve)\b"),
    ("table", r"\b(table|compare|comparison|models?|versus|vs|haiku|sonnet|opus|fable)\b"),
    ("stop", r"\b(stop|stopped|cancel|abort|interrupt|halt)\b"),
    ("limit", r"\b(limit|budget|quota|allowance|money left|run out|over budget)\b"),
    ("cost", r"\b(cost|costs|price|prices|tokens?|expensive|cheap|cents?|dollars?|spend|bill)\b"),
    ("list", r"\b(list|checklist|steps|plan|tips|ideas|ways|examples)\b"),
    ("thanks", r"^\W*(thanks|thank you|cheers|great|perfect|merci|danke)\b"),
    (
        "tally",
        r"\b(tally|hello|hi|hey|who are you|what is this|what can you do|help|how does this work|looking at)\b",
    ),
]
_OPENINGS = (
    "You asked: “$question”",
    "You wrote “$question”, so here is an answer to that.",
    "Your question was: “$question”",
    "About “$question”:",
)
_FAREWELLS = (
    "*I am the sandbox model, a stand-in for Claude. This text was written in advance; the tokens, the cost "
    "line and your limit behave as they will with the real one.*",
    "*This comes from Tally's stand-in, not from Claude: the words are canned, the bookkeeping is real.*",
    "*A stand-in wrote this. Set `ANTHROPIC_API_KEY` and the same page talks to Claude.*",
)


def reply(prompt, variant):
    """The natural answer to a prompt, in Markdown."""
    wanted = (prompt.body.get("output_config") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(tools.fill(wanted["schema"], prompt), ensure_ascii=False)
    if prompt.asks_for_title:
        return wording.title(prompt.question)
    if prompt.asks_for_summary:
        return wording.summary(prompt.question)
    earlier = prompt.earlier_questions
    # Bound to how the conversation began: what follows on each other in it is never the same text.
    first = (*earlier, prompt.question)[0]
    seed = zlib.crc32(first.encode("utf-8", "surrogatepass")) + len(earlier) + variant
    parts = [
        _opening(prompt, seed),
        *_attachments(prompt),
        _body(_topic(prompt.question), seed),
        _history(earlier),
    ]
    return "\n\n".join([*filter(None, parts), _FAREWELLS[seed % len(_FAREWELLS)]])


def thinking(prompt, variant):
    """What is shown of the thinking, when it is shown."""
    topic = " ".join(wording.keywords(prompt.question, 4)) or "their message"
    ways = (
        f"The person writes about {topic}. I am a stand-in, so I choose the prepared text that fits best, "
        "open it with their own words, and say plainly what I am.",
        f"Let me see: {topic}. I have no knowledge of my own here. The honest way is to pick a prepared "
        "answer, keep it short, and point at what can be seen on the page.",
    )
    return ways[variant % len(ways)]


@cache
def filler():
    """Plain ASCII prose to cut any number of tokens from."""
    return " ".join((_TEXTS / "filler.txt").read_text().split()) + " "


def _opening(prompt, seed):
    question = wording.quoted(prompt.question)
    if len(question.split()) < 2:  # "hi" and "thanks" need no quoting back
        return None
    return Template(_OPENINGS[seed % len(_OPENINGS)]).substitute(question=question)


def _topic(question):
    return next((topic for topic, words in _TOPICS if re.search(words, question, re.IGNORECASE)), "other")


def _body(topic, seed):
    variants = _variants(topic)
    return Template(variants[seed % len(variants)]).substitute(models=_models_table())


@cache
def _variants(topic):
    return [path.read_text().strip() for path in sorted(_TEXTS.glob(f"{topic}-*.md"))]


@cache
def _models_table():
    rows = ["| Model | Input | Output | Cache read | Context |", "|---|--:|--:|--:|--:|"]
    for model in Catalogue().models:
        if "-5-" in model.id and "mythos" not in model.id:
            price = model.price
            rows.append(
                f"| {model.name} | ${price['input']} | ${price['output']} | ${price['cache_read']} "
                f"| {model.context // 1_000_000} M |"
            )
    return "\n".join(rows)


def _attachments(prompt):
    content = prompt.body["messages"][-1]["content"]
    blocks = content if isinstance(content, list) else []
    images = sum(block["type"] == "image" for block in blocks)
    documents = sum(block["type"] == "document" for block in blocks)
    if images:
        size = sum(tokens.of_block(block, prompt.model.tokenizer) for block in blocks if block["type"] == "image")
        many = "an image" if images == 1 else f"{images} images"
        yield f"You attached {many}: I cannot see, but it arrived, and was counted as {size:,} input tokens."
    if documents:
        many, it = ("a document", "it is") if documents == 1 else (f"{documents} documents", "they are")
        yield f"You attached {many}. I do not read, but {it} in the prompt and in the price of this answer."


def _history(earlier):
    if len(earlier) % 4 != 1:  # said now and then, or it becomes tiresome
        return None
    first = wording.quoted(earlier[0], 50)
    count = "one question" if len(earlier) == 1 else f"{len(earlier)} questions"
    return (
        f"Before this you asked {count}, beginning with “{first}”. All of it was sent along again, "
        "which is why the input of each turn grows."
    )
