"""One asyncio loop per worker process carries all of its streams.

The task of a turn runs in a thread of Celery's pool, does the database's work there and waits in `carry`. The
loop reads from Claude, gathers what arrived for some 60 ms and writes it to Redis, for all turns in one round trip;
the first token of a turn does not wait. If Redis is slow or gone, reading goes on.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, NamedTuple, cast

import structlog
import uvloop
from django.conf import settings
from django.utils import timezone

from chat import failpoints, fragments, progress, rendering
from chat.citations import Sources
from chat.claude import Answer, ClaudeError, Request
from chat.claude.client import Claude
from chat.desks import away
from chat.streams import Entry, EntryId, Lost, Publisher, data_lines

log = structlog.get_logger(__name__)

# What one page is to be sent of a block that grows: each time the whole block. More where it would rest too long.
BYTES_PER_SECOND = 100_000
# Seconds; a reader should not think that it has stopped.
LONGEST_REST = 0.4


class Shown(NamedTuple):
    """What the page has after an entry: the first characters of text and thinking."""

    id: EntryId
    text: int
    thinking: int


class Run:
    """A turn while a worker has it: what it has received, what it has published, whether it should stop.

    The loop writes the text, the keeper's thread reads it; strings and ints are replaced whole, so no lock is needed.
    """

    def __init__(self, turn):
        self.turn_id, self.attempt = turn.id, turn.attempt
        self.answer: Answer | None = None
        self.live = rendering.Live()
        self.text = ""
        self.thinking = ""
        self._wait_for(progress.THINKING)
        self.sources = Sources()
        self.blocks: list[dict] = []
        self.stopping = threading.Event()
        self.why = ""
        self.published = 0
        self.shown = Shown(EntryId(self.attempt, 0), 0, 0)
        self.afresh = self._restless = True
        self.rest_until = 0.0
        self._written = self._thought = 0
        self._thought_before = 0
        self._query: str | None = None
        self._time_sent = ""
        self._notice_sent: str | None = None
        self._task: asyncio.Task | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def say(self, notice: str) -> None:
        """Tell the reader what they are waiting for."""
        self._wait_for(notice)
        self._restless = True

    def stop(self, why: str) -> None:
        """End it from any thread: `stopped`, `replaced`, `stalled` or `deadline`. The first word counts."""
        if not self.stopping.is_set():
            self.why = why
            self.stopping.set()
            if self._loop and self._task:
                self._loop.call_soon_threadsafe(self._task.cancel)

    def attach(self, task: asyncio.Task) -> None:
        self._task, self._loop = task, task.get_loop()
        if self.stopping.is_set():
            task.cancel()

    def detach(self) -> None:
        self._task = None

    @property
    def thinking_ms(self) -> int:
        """How long Claude has thought, over all answers of the turn."""
        return self._thought_before + (self.answer.thinking_ms() if self.answer else 0)

    def begin(self) -> Answer:
        """The next answer of the turn: the first, one more try, or after a pause."""
        self.take()  # what came before and is not published yet
        self._thought_before = self.thinking_ms
        self.answer = Answer(sources=self.sources)
        return self.answer

    @property
    def has_news(self) -> bool:
        answer = self.answer
        unpublished = (len(self.text), len(self.thinking)) != self.shown[1:]
        if self._restless or unpublished:
            return True
        return answer is not None and (bool(answer.new_text or answer.new_thinking) or answer.query != self._query)

    def take(self) -> None:
        """Move what the answer has received into the text of the run."""
        if answer := self.answer:
            if answer.new_thinking:
                self.thinking += "".join(answer.new_thinking)
                answer.new_thinking.clear()
            if answer.new_text:
                new = "".join(answer.new_text)
                answer.new_text.clear()
                self.text += new
                self.live.feed(new)
                self.notice = ""
            if answer.query is not None and answer.query != self._query:
                self._wait_for(progress.searching(answer.query))
            self._query = answer.query

    def _wait_for(self, notice: str) -> None:
        self.notice, self.since = notice, timezone.now()

    def next_entry(self) -> Entry:
        """What the page does not have yet; everything after a gap."""
        self.take()
        began = time.monotonic()
        afresh, data = self.afresh, data_lines(self._fragment())
        # What is dear to render or long to send is sent less often, so that no answer slows down the others.
        dear = 20 * (time.monotonic() - began)
        self.rest_until = began + min(LONGEST_REST, max(dear, len(data) / BYTES_PER_SECOND))
        self.published += 1
        self.shown = Shown(EntryId(self.attempt, self.published), len(self.text), len(self.thinking))
        return Entry(self.shown.id, data, afresh)

    def _fragment(self) -> str:
        afresh, pieces = self.afresh, []
        if afresh or self.notice != self._notice_sent:
            pieces.append(fragments.notice(self.turn_id, self.notice, self.since))
        if afresh or len(self.thinking) > self._thought:
            words = self.thinking if afresh else self.thinking[self._thought :]
            pieces.append(fragments.thinking(self.turn_id, words, afresh=afresh))
        if self.text and ((took := progress.thought(self.thinking_ms)) != self._time_sent or afresh):
            pieces.append(fragments.thought(self.turn_id, took, is_shown=bool(self.thinking)))
            self._time_sent = took
        if afresh:
            parts = rendering.split(self.text)
            self.live.flush()
            pieces.append(fragments.text(self.turn_id, parts.done, parts.open, afresh=True))
        elif len(self.text) > self._written:
            parts = self.live.flush()
            pieces.append(fragments.text(self.turn_id, parts.done, parts.open))
        self._notice_sent, self._thought, self._written = self.notice, len(self.thinking), len(self.text)
        self.afresh = self._restless = False
        return "".join(pieces)

    def lost(self) -> None:
        """An entry did not reach Redis: the page lacks it, so the next one has to bring everything."""
        self.afresh = self._restless = True


class Engine:
    """Use `engine()`: one for each process, made on first use."""

    def __init__(self):
        self._loop = uvloop.new_event_loop()
        self._runs: set[Run] = set()
        self._urgent = asyncio.Event()
        self._claude: Claude | None = None
        threading.Thread(target=self._main, name="engine", daemon=True).start()

    def carry(self, run: Run, request: Request, max_tokens: int) -> Answer:
        """Send the request and wait until its stream has ended. Call from a thread without an open connection.

        Returns the answer when it finished. Raises ClaudeError otherwise, with `run.answer` as far as it came;
        `run.why` says whether we ended it ourselves.
        """
        return self.wait(self._carry(run, request, max_tokens))

    def wait(self, coroutine: Coroutine) -> Any:
        """Run a coroutine in the loop and wait for its result, away from the desk."""
        with away():
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def ask(self, call: Callable[[Claude], Coroutine]) -> Any:
        """One request beside the streams, with the client of the loop."""
        return await call(self._client())

    def show(self, run: Run) -> None:
        """Publish a run's notices, also while nothing is being streamed for it."""
        self._loop.call_soon_threadsafe(self._runs.add, run)
        self._loop.call_soon_threadsafe(self._urgent.set)

    def forget(self, run: Run) -> None:
        self._loop.call_soon_threadsafe(self._runs.discard, run)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._publishing = self._loop.create_task(self._publish_for_ever())
        self._loop.run_forever()

    def _client(self) -> Claude:
        if self._claude is None:
            self._claude = Claude()
        return self._claude

    async def _carry(self, run: Run, request: Request, max_tokens: int) -> Answer:
        answer = run.begin()
        task = cast(asyncio.Task, asyncio.current_task())

        def progress() -> None:
            failpoints.reached("after_message_start")
            if run.published < 2 and run.has_news:
                self._urgent.set()

        try:
            run.attach(task)
            await self._client().stream(request, max_tokens, answer, progress)
        except asyncio.CancelledError:
            task.uncancel()
            raise ClaudeError(run.why, request_id=answer.request_id) from None
        finally:
            run.detach()
            run.blocks += answer.blocks
        return answer

    async def _publish_for_ever(self) -> None:
        publisher = Publisher()
        while True:
            try:
                await asyncio.wait_for(self._urgent.wait(), settings.GATHER_SECONDS)
                urgent = True
            except TimeoutError:
                urgent = False
            self._urgent.clear()
            try:
                self._watch()
                await self._publish(publisher, urgent)
            except Exception:
                log.exception("publishing_failed")

    async def _publish(self, publisher: Publisher, urgent: bool) -> None:
        """One round. When a first token hurries, only the runs that have published no text yet are taken."""
        batch, now = [], time.monotonic()
        for run in [run for run in self._runs if run.has_news]:
            if (urgent and run.published > 1) or run.rest_until > now:
                continue
            batch.append((run, run.next_entry()))
            if len(batch) % 16 == 0:
                await asyncio.sleep(0)  # rendering for hundreds must not hold up the reading
        if not batch:
            return
        try:
            taken = await publisher.publish([(run.turn_id, entry) for run, entry in batch])
        except Lost:
            taken = [False] * len(batch)
        for (run, _), ok in zip(batch, taken, strict=True):
            if not ok:
                run.lost()

    def _watch(self) -> None:
        """Silence and endless answers. Pings are not progress."""
        for run in self._runs:
            answer = run.answer
            if answer is None or answer.ended_at is not None:
                continue
            now = self._loop.time()
            if now - answer.last_progress_at > settings.NO_PROGRESS_SECONDS:
                run.stop("stalled")
            elif now - answer.sent_at > settings.TURN_DEADLINE_SECONDS:
                run.stop("deadline")


@cache
def engine() -> Engine:
    """The engine of this process."""
    return Engine()
