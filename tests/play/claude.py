"""Claude as the machine plays it: what reaches it, what it makes of that, and what stands on its invoice."""

import base64
import struct
from asyncio import CancelledError

from chat.claude import Answer, ClaudeError
from chat.models import UsageRecord
from tests.books import HAIKU, SONNET
from tests.play.stage import Clock, here, wait_for_the_machine

# Nano-dollars per token, in and out, and beyond how many tokens of prompt the other rates hold.
RATES = {SONNET: (2_000, 10_000), HAIKU: (100, 500)}
LONG_RATES, LONG_ABOVE = {HAIKU: (500, 2_500)}, 100_000
SEARCH_FEE = 10_000_000
# Tokens: of what a search finds at most, of asking for it, of being told how to search, of one page of a PDF.
FOUND, ASKED, ABOUT_SEARCHING = 20_000, 20, 2_679
PAGE, DENSE_PAGE = 2_000, 9_000
PIXELS = 28


class Post:
    """One request that has reached Claude. `dear` says that it is billed as dearly as it may be: all of its prompt is
    written to the cache, and it is served in the US."""

    def __init__(self, record: UsageRecord, request, max_tokens: int, answer: Answer, *, dear: bool):
        self.record, self.answer, self.most, self.dear = record, answer, max_tokens, dear
        self.run = None
        self.prompt = self.read = tokens_of(request)
        self.searches_left, self.searches = request.searches, 0
        self.begun, self.output, self.billed, self._index = False, 0, 0, 0
        self._cached = bool(request.ttl)
        assert self.prompt <= record.input_bound, f"{self.prompt} tokens were sent and {record.input_bound} held for"

    def begin(self) -> None:
        if not self.begun:
            self.begun = True
            message = {"id": f"msg_{self.record.id}", "usage": {**self._usage(), "output_tokens": 1}}
            self.answer.feed({"type": "message_start", "message": message})
            self._open({"type": "text", "text": ""})
            self._bill()

    def generate(self, tokens: int, *, visible: bool) -> None:
        """As fast as any model can."""
        self.begin()
        tokens = min(tokens, self.most - self.output)
        self.output += tokens
        if visible and tokens:
            delta = {"type": "text_delta", "text": "word " * tokens}
            self.answer.feed({"type": "content_block_delta", "index": self._index, "delta": delta})
        self._bill()

    def search(self) -> None:
        """And read everything once more, with what was found."""
        if self.searches_left and self.most - self.output > ASKED:
            self.generate(ASKED, visible=False)
            self.searches_left, self.searches = self.searches_left - 1, self.searches + 1
            self._close()
            use = {"type": "server_tool_use", "id": f"srvtoolu_{self._index}", "name": "web_search", "input": {}}
            result = {"type": "web_search_tool_result", "tool_use_id": use["id"], "content": []}
            for block in (use, result):
                self._open(block)
                self._close()
            self._open({"type": "text", "text": ""})
            self.read += self.prompt + self.searches * FOUND + self.output
            self._bill()

    def finish(self, stop_reason: str) -> None:
        self.begin()
        self._close()
        usage = {**self._usage(), "output_tokens": self.output}
        self.answer.feed({"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage})
        self.answer.feed({"type": "message_stop"})
        if stop_reason == "refusal" and not self.output:
            self.billed = 0

    def _open(self, block: dict) -> None:
        self._index += 1
        self.answer.feed({"type": "content_block_start", "index": self._index, "content_block": block})

    def _close(self) -> None:
        self.answer.feed({"type": "content_block_stop", "index": self._index})

    def _usage(self) -> dict:
        kind = "cache_creation_input_tokens" if self.dear and self._cached else "input_tokens"
        usage = {kind: self.read, "inference_geo": "us" if self.dear else "global"}
        return usage | ({"server_tool_use": {"web_search_requests": self.searches}} if self.searches else {})

    def _bill(self) -> None:
        rates = LONG_RATES if self.read > LONG_ABOVE and self.record.model in LONG_RATES else RATES
        dear_in, dear_out = rates[self.record.model]
        # Hundredths, for a quarter more to write to the cache and a tenth more in the US.
        written, place = (125, 110) if self.dear else (100, 100)
        amount = self.read * dear_in * (written if self._cached else 100) + self.output * dear_out * 100
        self.billed = -(-amount * place // 10_000) + self.searches * SEARCH_FEE


class Claude:
    """In the place of the engine, and of the client that the engine has."""

    FINISHED = ("end_turn", "max_tokens", "pause_turn", "refusal")
    REFUSED = {
        "busy": {"again": True, "retry_after": 0},
        "rate_limited": {"again": True, "retry_after": 3_600},
        "bad_request": {},
    }
    BROKEN = ("cut", "timeout")
    OUTCOMES = [*FINISHED, *REFUSED, *BROKEN]

    def __init__(self, clock: Clock):
        self.clock, self.posts, self.counts = clock, [], True

    def show(self, run) -> None:
        wait_for_the_machine("claimed")

    def forget(self, run) -> None:
        pass

    def ask(self, call):
        return call(self)

    def wait(self, result):
        """What is a coroutine of the product's runs to its end here: where it waits, its greenlet stands still."""
        if not hasattr(result, "send"):
            return result
        try:
            result.send(None)
        except StopIteration as ended:
            return ended.value
        raise AssertionError("nothing here is waited for by a loop")

    def count(self, request) -> int | None:
        return tokens_of(request) if self.counts else None

    def carry(self, run, request, max_tokens: int) -> Answer:
        run.answer = Answer(self.clock)
        post = self._posted(request, max_tokens, run.answer)
        post.run = run
        try:
            outcome = wait_for_the_machine("posted")
            if run.stopping.is_set():
                raise ClaudeError(run.why)
            self._end(post, outcome)
            return post.answer
        finally:
            post.answer.end()
            run.blocks += post.answer.blocks

    async def stream(self, request, max_tokens: int, answer: Answer, progress) -> None:
        post = self._posted(request, max_tokens, answer)
        try:
            outcome = wait_for_the_machine("posted")
            if here().task.is_cancelled:
                raise CancelledError
            if outcome == "timeout":
                raise TimeoutError
            self._end(post, outcome)
        finally:
            answer.end()

    def complete(self, request, max_tokens: int) -> dict:
        post = self._posted(request, max_tokens, Answer(self.clock))
        self._end(post, wait_for_the_machine("posted"))
        answer = {"usage": post.answer.usage, "stop_reason": post.answer.stop_reason, "content": post.answer.blocks}
        return {**answer, "request_id": ""}

    def _posted(self, request, max_tokens: int, answer: Answer) -> Post:
        sent = UsageRecord.objects.filter(state=UsageRecord.State.SENT, max_tokens=max_tokens, model=request.model)
        news = list(sent.exclude(id__in=[post.record.id for post in self.posts]))
        assert len(news) == 1, f"one request is sent, and {len(news)} calls are in the books for it"
        post = Post(news[0], request, max_tokens, answer, dear=len(self.posts) % 2 == 0)
        self.posts.append(post)
        here().post = post
        return post

    def _end(self, post: Post, outcome: str) -> None:
        if outcome in self.FINISHED:
            return post.finish(outcome)
        if outcome in self.REFUSED and not post.begun:
            raise ClaudeError(outcome, unbilled=True, **self.REFUSED[outcome])
        raise ClaudeError("timeout" if outcome == "timeout" else "cut")


def tokens_of(request) -> int:
    """What Claude counts in a request as it goes over the wire: a word is a token."""
    body = request.countable()
    about_searching = ABOUT_SEARCHING if body.get("tools") else 0
    blocks = [block for message in body["messages"] for block in _blocks(message)]
    return 30 + _words(body.get("system", "")) + about_searching + sum(map(_in, blocks))


def _blocks(message: dict) -> list[dict]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _in(block: dict) -> int:
    match block:
        case {"type": "text", "text": text}:
            return _words(text)
        case {"type": "image", "source": {"type": "base64", "data": data}}:
            width, height = struct.unpack(">II", base64.b64decode(data)[16:24])
            return -(-width // PIXELS) * -(-height // PIXELS)
        case {"type": "document", "source": {"type": "text", "data": words}}:
            return _words(words)
        case {"type": "document", "source": {"type": "base64"}, "title": title}:
            return 2 * (DENSE_PAGE if title.startswith("dense") else PAGE)
        case {"type": "server_tool_use"}:
            return ASKED
        case {"type": "web_search_tool_result"}:
            return FOUND
    raise AssertionError(f"Claude takes no {block['type']} from this product")


def _words(text: str) -> int:
    return len(text.split())
