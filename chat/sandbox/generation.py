"""One answer under way: paced by deadlines, broken where its scenario says so, billed exactly once."""

import copy
import json
import math

from . import errors, plan, sse
from .ids import new_id

_QUIET_SECONDS = 5
_PING_SECONDS = 0.2
_SEARCH_RESULT_TOKENS = 4_000
_END = object()


class Generation:
    def __init__(self, api, connection, prompt, scenario, request_id, betas):
        self._api = api
        self._connection = connection
        self._prompt = prompt
        self._scenario = scenario
        self._request_id = request_id
        self._message_id = new_id("msg")
        self._input = api.cache.look_up(prompt)
        self._input_at_start = copy.copy(self._input)
        self._plan = plan.build(prompt, scenario, api.variant(prompt), betas)
        self._streams = bool(prompt.body.get("stream"))
        self._rate = scenario.rate or api.rate
        self._ttft = (api.ttft_ms if scenario.ttft is None else scenario.ttft) / 1000
        self._generated = 0
        self._searches = 0
        self._sent_at = 0.0
        self._opened = False
        self._over = False
        self.steps = self._run()

    def abandon(self):
        """The client has left: what was generated up to now is billed all the same."""
        if not self._over:
            self._bill("client_left")
            self.steps.close()

    def discard(self):
        """Forget this answer without a line in the invoice."""
        self._over = True
        self.steps.close()
        self._connection.reset()

    def _run(self):
        scenario = self._scenario
        if scenario.hang:
            yield self._api.pacer.now() + scenario.hang
        if scenario.rst_before_headers:
            self._break_off("cut", self._connection.reset)
            return
        start = self._api.pacer.now()
        yield start + self._ttft / 2
        if self._streams:
            self._connection.start_stream(self._request_id)
        if scenario.error_at == 0:
            self._over = True
            self._api.live.discard(self)
            self._say_overloaded()
            return
        self._opened = True
        self._api.cache.keep(self._input)

        first = start + self._ttft
        fault, turn = scenario.turning_point
        turn = math.inf if turn is None else turn
        for item in self._items():
            if item is _END:
                if fault and self._generated <= turn:
                    yield from self._turn_for_the_worse(fault)
                    if self._over:
                        return
                self._bill("refused" if self._plan.stop_reason == "refusal" else "complete")
                if not self._streams:
                    self._connection.respond(200, json.dumps(self._message()).encode(), self._request_id)
                    return
            elif item.__class__ is int:
                yield first + self._generated / self._rate
                if self._generated >= turn:
                    turned_at, turn = self._api.pacer.now(), math.inf
                    yield from self._turn_for_the_worse(fault)
                    fault = None
                    if self._over:
                        return
                    first += self._api.pacer.now() - turned_at
                self._generated += item
                if self._streams and self._api.pacer.now() - self._sent_at > _QUIET_SECONDS:
                    self._send(sse.PING)
            elif item is plan.SEARCHED:
                # The model reads everything again, and a reader sees what it looks for meanwhile.
                yield self._api.pacer.now() + self._ttft
                first += self._ttft
                self._grow_input()
            elif self._streams:
                if scenario.one_byte:
                    for i in range(len(item)):
                        self._send(item[i : i + 1])
                        yield 0
                else:
                    self._send(item)
        self._connection.end_stream()

    def _items(self):
        """Everything to send, in order; an int stands for tokens about to be generated."""
        yield sse.event("message_start", message=self._message_at_start())
        frames = self._plan.frames()
        if self._plan.parts:
            yield next(frames)
            yield sse.PING
        if self._scenario.unknown_event:
            yield sse.event("sandbox_novelty", value="An event that nobody has heard of.")
        yield from frames
        yield _END
        yield sse.event("message_delta", delta=self._ending(), usage=self._final_usage())
        yield sse.MESSAGE_STOP

    def _turn_for_the_worse(self, fault):
        """What the scenario breaks, at the moment the next token would have been sent."""
        connection = self._connection
        match fault:
            case "cut_at":
                self._break_off("cut", connection.cut)
            case "rst_at":
                self._break_off("cut", connection.reset)
            case "eof_at":
                self._break_off("cut", connection.end_stream if self._streams else connection.cut)
            case "error_at":
                self._break_off("error", self._say_overloaded)
            case "stall_at":
                stall = self._scenario.stall
                yield None if stall is None else self._api.pacer.now() + stall
            case "ping_forever_at":
                while True:
                    if self._streams:
                        self._send(sse.PING)
                    yield self._api.pacer.now() + _PING_SECONDS
            case "bad_json_at" if self._streams:
                self._send(b"event: content_block_delta\ndata: {\n\n")
            case "bad_utf8_at" if self._streams:
                self._send(sse.text_delta(0, "?").replace(b"?", b"\xff\xfe\x80"))

    def _break_off(self, ended, how):
        if self._opened:
            # The model does not know yet that nobody listens any more.
            self._generated = min(self._plan.tokens, self._generated + self._scenario.after)
        self._bill(ended)
        how()

    def _say_overloaded(self):
        if self._streams:
            error = {"type": "overloaded_error", "message": "Overloaded"}
            self._send(sse.event("error", error=error, request_id=self._request_id))
            self._connection.end_stream()
        else:
            self._connection.refuse(errors.overloaded(), self._request_id)

    def _send(self, frame):
        self._sent_at = self._api.pacer.now()
        self._connection.send_chunk(frame)

    def _grow_input(self):
        """After a search the model reads the prompt again (what was cached, from the cache) and the results."""
        start, now = self._input_at_start, self._input
        self._searches += 1
        now.read += start.total - start.uncached
        now.uncached += start.uncached + self._searches * _SEARCH_RESULT_TOKENS

    def _bill(self, ended):
        """Before the last byte goes out, so that whoever has read the end finds its line in the invoice."""
        self._over = True
        self._api.live.discard(self)
        self._api.invoice.add(
            self._prompt.model,
            request_id=self._request_id,
            message_id=self._message_id,
            ended=ended,
            free=ended == "refused" and not self._generated,
            usage={
                "input_tokens": self._input.uncached,
                "cache_write_5m": self._input.write_5m,
                "cache_write_1h": self._input.write_1h,
                "cache_read": self._input.read,
                "output_tokens": self._generated,
                "thinking_tokens": self._thinking_generated,
                "web_searches": self._searches,
                "fast": self._prompt.body.get("speed") == "fast",
                "us": self._place == "us",
            },
        )

    @property
    def _place(self):
        default = "us" if self._scenario.us and self._prompt.model.price.get("us") else "global"
        return self._prompt.body.get("inference_geo") or default

    @property
    def _thinking_generated(self):
        return min(self._generated, self._plan.thinking_tokens)

    def _message_at_start(self):
        return {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "model": self._prompt.model.answers_as,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": {
                **self._input_usage(),
                "cache_creation": {
                    "ephemeral_5m_input_tokens": self._input.write_5m,
                    "ephemeral_1h_input_tokens": self._input.write_1h,
                },
                # A placeholder: the final figure comes with message_delta.
                "output_tokens": 1 if self._plan.parts or self._plan.unseen_tokens else 0,
                "service_tier": "standard",
                "inference_geo": self._place,
                **({"speed": self._prompt.body["speed"]} if self._prompt.body.get("speed") else {}),
            },
        }

    def _message(self):
        start = self._message_at_start()
        usage = {**start["usage"], **self._final_usage()}
        return {**start, "content": self._plan.content(), **self._ending(), "usage": usage}

    def _ending(self):
        return {
            "stop_reason": self._plan.stop_reason,
            "stop_sequence": self._plan.stop_sequence,
            "stop_details": self._plan.stop_details,
        }

    def _input_usage(self):
        return {
            "input_tokens": self._input.uncached,
            "cache_creation_input_tokens": self._input.write_5m + self._input.write_1h,
            "cache_read_input_tokens": self._input.read,
            **({"sandbox_units": 7, "sandbox_tokens": 3} if self._scenario.unknown_usage else {}),
        }

    def _final_usage(self):
        usage = {**self._input_usage(), "output_tokens": self._generated}
        if self._plan.thinking_tokens:
            usage["output_tokens_details"] = {"thinking_tokens": self._thinking_generated}
        if self._searches:
            usage["server_tool_use"] = {"web_search_requests": self._searches, "web_fetch_requests": 0}
        return usage
