"""What people ask. A question carries in itself how the sandbox model is to answer, and what with.

Its answer names the question in every word, so that no text can pass for that of another one.
"""

import random
import re
import uuid
from dataclasses import dataclass, field
from urllib.parse import quote

MARKER = re.compile(r"\bq\d+n\d+\b")

# (how often, what the directive says beside the text). Most answers are sound; of the faults each has its share.
_SCENARIOS = [
    (55, "sound", ""),
    (6, "thinking", "thinking=60"),
    (5, "odd", "unknown_event unknown_block"),
    (2, "odd", "one_byte"),
    (4, "busy", "status=529 times=2"),
    (2, "busy", "error_at=0 times=1"),
    (2, "busy for good", "status=529"),
    (2, "rate limited", "status=429 retry_after=1 times=1"),
    (2, "provider's fault", "status=500 times=1"),
    (2, "silent for a while", "hang=1"),
    (1, "silent", "hang=30"),
    (1, "reset before the head", "rst_before_headers times=1"),
    (2, "cut", "cut_at={k}"),
    (2, "reset", "rst_at={k}"),
    (2, "ends too early", "eof_at={k}"),
    (1, "ends too early", "no_delta"),
    (1, "overloaded on the way", "error_at={k}"),
    (1, "stalls", "stall_at={k}"),
    (1, "pings for ever", "ping_forever_at={k}"),
    (1, "pauses for a moment", "stall_at={k} stall=1"),
    (1, "unreadable", "bad_json_at={k}"),
    (1, "unreadable", "bad_utf8_at={k}"),
    (1, "refusal", "stop=refusal"),
    (1, "refusal", "stop=refusal_mid"),
    (3, "pause", "stop=pause_turn times=1"),
    (1, "pause for good", "stop=pause_turn"),
    (1, "full window", "stop=model_context_window_exceeded"),
    (4, "searching", "searches=1"),
    (2, "searching", "searches=3"),
    (1, "searching", "searches=2 cut_at={k}"),
    (1, "searching", "searches=3 stop=pause_turn times=1"),
]
# What the stand-in says before it searches, and what it cites, with our link behind it; as far as it came.
_ABOUT_SEARCHING = re.compile(r"I'll look that up\.(A stand-in has [^\n]*(\n\n|$)|A[^\n]{0,14}$)?")


@dataclass
class Question:
    """`said` is what the provider says to it, each time that it is asked."""

    marker: str
    scenario: str
    text: str
    said: str
    client_id: uuid.UUID = field(default_factory=uuid.uuid4)

    @property
    def searches(self) -> bool:
        return self.scenario == "searching"


def draw(rng: random.Random, person: int, number: int) -> Question:
    marker = f"q{person}n{number}"
    weights, names, directives = zip(*_SCENARIOS, strict=True)
    [chosen] = rng.choices(range(len(weights)), weights)
    said = _answer(rng, marker)
    fault = directives[chosen].format(k=rng.randrange(1, 30))
    directive = f"say={quote(said, safe='')} rate={rng.choice([30, 60, 120, 200])} ttft={rng.choice([5, 50, 300])}"
    client_id = uuid.UUID(int=rng.getrandbits(128), version=4)
    return Question(marker, names[chosen], f"{marker}? [[sandbox {directive} {fault}]]", said, client_id)


def marker_in(text: str) -> str:
    found = MARKER.search(text)
    return found[0] if found else ""


def searched(text: str) -> str:
    """What an answer says to its question, without the words around a search."""
    return "" if text and "I'll look that up.".startswith(text) else _ABOUT_SEARCHING.sub("", text)


def _answer(rng: random.Random, marker: str) -> str:
    words = [f"{marker}.{n}" for n in range(rng.randrange(4, 40))]
    for at in range(0, len(words), 7):
        words[at] = rng.choice(["**{}**", "`{}`", "é{}😀", "\n\n- {}", "\n\n{}"]).format(words[at])
    return " ".join(words).strip()
