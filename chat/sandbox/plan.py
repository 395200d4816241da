"""The whole answer to one request, decided before its first byte: blocks, tokens, how it ends."""

import json
import time
from dataclasses import dataclass, field
from itertools import cycle, islice

from . import answers, signatures, sse, tokens, tools
from .ids import new_id

STAMP = object()
SEARCHED = object()

_EFFORT_TOKENS = {"low": 12, "medium": 32, "high": 48, "xhigh": 96, "max": 160}
_TOKEN_COUNT_BETA = "thinking-token-count-2026-05-13"  # noqa: S105 - the name of a beta, not a secret
_REFUSAL = {
    "type": "refusal",
    "category": "cyber",
    "explanation": "This request was declined because it could enable cyber harm.",
}


@dataclass(slots=True)
class Part:
    """One content block. A step is (tokens, delta): text, a delta's fields, STAMP, or None: nothing shown."""

    opening: dict
    steps: list = field(default_factory=list)
    searched: bool = False

    @property
    def tokens(self):
        return sum(weight for weight, _ in self.steps)

    def whole(self):
        """The finished block, as a response without a stream carries it."""
        block = dict(self.opening)
        partial_json = ""
        for i, (_, delta) in enumerate(self.steps):
            if isinstance(delta, str):
                block["text"] += delta
            elif delta is STAMP:
                block["text"] += _stamp(i)
            elif delta:
                match delta["type"]:
                    case "thinking_delta":
                        block["thinking"] += delta["thinking"]
                    case "signature_delta":
                        block["signature"] = delta["signature"]
                    case "citations_delta":
                        block["citations"] = [*block["citations"], delta["citation"]]
                    case "input_json_delta":
                        partial_json += delta["partial_json"]
        if partial_json:
            try:
                block["input"] = json.loads(partial_json)
            except ValueError:
                block["input"] = {}  # cut by max_tokens
        return block

    def frames(self, index):
        """Bytes to send; an int n means "n more tokens are generated now", SEARCHED that a search is done."""
        if self.searched:
            yield SEARCHED
        yield sse.event("content_block_start", index=index, content_block=self.opening)
        for i, (weight, delta) in enumerate(self.steps):
            if weight:
                yield weight
            if isinstance(delta, str):
                yield sse.text_delta(index, delta)
            elif delta is STAMP:
                yield sse.text_delta(index, _stamp(i))
            elif delta:
                yield sse.delta(index, delta)
        yield sse.event("content_block_stop", index=index)


@dataclass(slots=True)
class Plan:
    parts: list
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    stop_details: dict | None = None
    thinking_tokens: int = 0
    # Tokens that no block shows: an empty answer still costs two or three.
    unseen_tokens: int = 0

    @property
    def tokens(self):
        return self.unseen_tokens + sum(part.tokens for part in self.parts)

    def frames(self):
        if self.unseen_tokens:
            yield self.unseen_tokens
        for index, part in enumerate(self.parts):
            yield from part.frames(index)

    def content(self):
        return [part.whole() for part in self.parts]


def build(prompt, scenario, variant, betas=()):
    """`variant` counts how often the same request has come: asking again gives another text."""
    if scenario.stop == "refusal":
        return Plan([], "refusal", stop_details=_REFUSAL)
    if scenario.stop == "end_empty":
        return Plan([], unseen_tokens=3)

    room = min(prompt.body["max_tokens"], max(0, prompt.model.context - prompt.tokens))
    out_of_window = "model_context_window_exceeded" if room < prompt.body["max_tokens"] else "max_tokens"
    plan = Plan([])
    if thinking := _thinking(prompt, scenario, variant, room, betas):
        plan.parts.append(thinking)
        plan.thinking_tokens = thinking.tokens
    if scenario.unknown_block:
        novelty = {"type": "sandbox_novelty_delta", "value": "A kind of delta that nobody has heard of."}
        plan.parts.append(Part({"type": "sandbox_novelty", "value": ""}, [(1, novelty)]))
    if tool := tools.forced_tool(prompt):
        _add_tool_use(plan, prompt, tool)
    else:
        _add_searches(plan, prompt, tools.searches(prompt, scenario))
        _add_text(plan, prompt, scenario, variant)
    _end(plan, scenario)
    _cut(plan, room, prompt.model.tokenizer, out_of_window)
    return plan


def _stamp(index):
    return f"{index}@{time.monotonic_ns()}; "


def _thinking(prompt, scenario, variant, room, betas):
    body, model = prompt.body, prompt.model
    asked = body.get("thinking") or {}
    if asked.get("type", "adaptive" if model.thinks_by_default else "disabled") not in (
        "adaptive",
        "enabled",
    ):
        return None
    shown = tokens.split(answers.thinking(prompt, variant), model.tokenizer)
    effort = (body.get("output_config") or {}).get("effort") or model.default_effort
    natural = max(_EFFORT_TOKENS.get(effort, 32), len(shown) * 3 // 2 + 1)
    if scenario.scripted or prompt.asks_for_title:
        natural = 0
    total = min(natural if scenario.thinking is None else scenario.thinking, room)
    if not total:
        return None

    summarized = asked.get("display") == "summarized"
    # What is shown is a summary: at most two thirds of what is billed, spread over the whole time.
    shown = shown[: max(1, total * 2 // 3)] if summarized else []
    part = Part({"type": "thinking", "thinking": "", "signature": ""})
    given = 0
    for tick in range(total):
        due = (tick + 1) * len(shown) // total
        text, given = "".join(shown[given:due]), due
        counted = {"estimated_tokens": 8} if _TOKEN_COUNT_BETA in betas and tick % 8 == 7 else {}
        delta = {"type": "thinking_delta", "thinking": text, **counted} if text or counted else None
        part.steps.append((1, delta))
    signature = signatures.sign(total, model.id, prompt.digest, "".join(shown))
    part.steps.append((0, {"type": "signature_delta", "signature": signature}))
    return part


def _add_tool_use(plan, prompt, tool):
    made = json.dumps(tools.fill(tool["input_schema"], prompt))
    pieces = tokens.split(made, prompt.model.tokenizer)
    opening = {"type": "tool_use", "id": new_id("toolu"), "name": tool["name"], "input": {}}
    plan.parts.append(Part(opening, [(1, {"type": "input_json_delta", "partial_json": piece}) for piece in pieces]))
    plan.stop_reason = "tool_use"


def _add_searches(plan, prompt, searches):
    if not searches:
        return
    say = "I'll look that up."
    plan.parts.append(_text_part(tokens.split(say, prompt.model.tokenizer)))
    allowed = tools.search_uses(prompt)
    for n in range(searches):
        query = json.dumps({"query": tools.search_query(prompt, n)}, ensure_ascii=False)
        use = Part({"type": "server_tool_use", "id": new_id("srvtoolu"), "name": "web_search", "input": {}})
        use.steps = [(0, {"type": "input_json_delta", "partial_json": ""})]
        use.steps += [
            (1, {"type": "input_json_delta", "partial_json": piece})
            for piece in tokens.split(query, prompt.model.tokenizer)
        ]
        granted = n < allowed
        found = (
            tools.search_results(prompt, n)
            if granted
            else {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
        )
        result = {"type": "web_search_tool_result", "tool_use_id": use.opening["id"], "content": found}
        plan.parts += [use, Part(result, searched=granted)]
        if not granted:
            break
    quote, citation = tools.cited_sentence(prompt)
    part = _text_part(tokens.split(quote, prompt.model.tokenizer))
    part.opening["citations"] = []
    part.steps.insert(0, (0, {"type": "citations_delta", "citation": citation}))
    plan.parts.append(part)


def _add_text(plan, prompt, scenario, variant):
    tokenizer = prompt.model.tokenizer
    if scenario.say is not None:
        pieces = tokens.split(scenario.say, tokenizer)
    elif scenario.tokens is not None or scenario.scripted:
        wanted = 40 if scenario.tokens is None else scenario.tokens
        pieces = islice(cycle(tokens.split(answers.filler(), tokenizer)), wanted)
        pieces = [STAMP] * wanted if scenario.stamp else list(pieces)
    else:
        pieces = tokens.split(answers.reply(prompt, variant), tokenizer)

    text = "" if STAMP in pieces else "".join(pieces)
    found = [(text.find(stop), stop) for stop in prompt.body.get("stop_sequences") or [] if stop in text]
    if found:
        at, plan.stop_sequence = min(found)
        plan.stop_reason = "stop_sequence"
        pieces = tokens.split(text[:at], tokenizer)

    part = _text_part(pieces)
    middle = len(part.steps) // 2
    oddities = []
    if scenario.nul:
        oddities.append((1, "before\x00after "))
    if scenario.surrogate:
        oddities += [(1, "\ud83d"), (1, "\ude00"), (1, " alone: \ud800 ")]
    if scenario.big_event:
        big = (answers.filler() * (scenario.big_event // 100 + 1)).encode()[: scenario.big_event].decode("ascii")
        oddities.append((tokens.count(big, tokenizer), big))
    part.steps[middle:middle] = oddities
    if part.steps:
        plan.parts.append(part)


def _end(plan, scenario):
    match scenario.stop:
        case "refusal_mid":
            plan.stop_reason, plan.stop_details = "refusal", _REFUSAL
            for last in plan.parts[-1:]:
                last.steps = last.steps[: max(1, len(last.steps) // 2)]
        case "pause_turn":
            plan.stop_reason = "pause_turn"
            opening = {"type": "server_tool_use", "id": new_id("srvtoolu"), "name": "web_search"}
            query = {"type": "input_json_delta", "partial_json": '{"query": "one more thing"}'}
            plan.parts.append(Part({**opening, "input": {}}, [(1, query)]))
        case str():
            plan.stop_reason = scenario.stop


def _cut(plan, room, tokenizer, reason):
    left = room
    for i, part in enumerate(plan.parts):
        if part.tokens <= left:
            left -= part.tokens
            continue
        kept = []
        for weight, delta in part.steps:
            if weight > left:
                if left and isinstance(delta, str):
                    kept.append((left, "".join(tokens.split(delta, tokenizer)[:left])))
                break
            kept.append((weight, delta))
            left -= weight
        part.steps = kept
        plan.parts = plan.parts[: i + 1 if part.tokens else i]
        plan.stop_reason, plan.stop_sequence, plan.stop_details = reason, None, None
        return


def _text_part(pieces):
    return Part({"type": "text", "text": ""}, [(1, piece) for piece in pieces])
