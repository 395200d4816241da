"""The figures of the design, each with what it may be at most. A group of them is one function."""

import asyncio
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import urlencode

from bench import client
from bench.client import Answer, Person, Tally, Upstream
from bench.stand import Stand

TTFT_MS = 200
SEARCHES = 20  # of each query
RATE = 50
TWENTY_TOKENS = "Which of the two bridges over the river was built first, and how long did the work take?"


@dataclass(frozen=True)
class Scale:
    """How much is measured. The defaults are those of the design."""

    crowd: int = 100
    tokens: int = 200
    levels: tuple[int, ...] = (100, 200, 300)
    long_tokens: int = 400
    repeats: int = 3
    alone: int = 20
    idle: int = 200
    burst: int = 100
    threads: tuple[int, ...] = (200, 1000)
    library: int = 1_000_000

    @property
    def people(self) -> int:
        return max(self.crowd, self.idle, *self.levels)


@dataclass(frozen=True)
class Row:
    """One line of the table. Several values of a figure stand side by side, as p50 / p95 do."""

    figure: str
    unit: str
    most: tuple[float, ...]
    tally: tuple[float, ...] = ()
    bare: tuple[float, ...] = ()
    is_least: bool = False
    wrong: str = ""  # what makes it miss the figure although the number is right
    notes: list[str] = field(default_factory=list)

    @property
    def is_reached(self) -> bool | None:
        """None if it was not measured."""
        if not self.tally:
            return None
        pairs = zip(self.tally, self.most, strict=True)
        return not self.wrong and all(value >= most if self.is_least else value <= most for value, most in pairs)


class Bench:
    """A stand with people in it, warmed up: nothing is loaded, made or compiled for the first time in a measurement."""

    def __init__(self, stand: Stand, scale: Scale):
        self.stand, self.scale = stand, scale
        self.tally, self.upstream = Tally(stand), Upstream(stand)
        found = stand.seed("people", count=scale.people, prefix="load")["people"]
        self._people = [Person(**person) for person in found]
        asks = [partial(self.tally.ask, person, story(5), 5) for person in self.people(min(10, scale.people))]
        client.run(client.together(asks, 0.5))
        stand.wait_until_quiet()
        self.idle_memory = stand.memory()

    def people(self, count: int) -> list[Person]:
        """So many people, each in a new conversation."""
        people = self._people[:count]
        made = self.stand.seed("conversations", owners=[person.id for person in people])["conversations"]
        return [replace(person, conversation=uuid) for person, uuid in zip(people, made, strict=True)]


def story(tokens: int) -> str:
    return f"[[sandbox ttft={TTFT_MS} rate={RATE} tokens={tokens} stamp=1]] Tell me a story."


def first_token(bench: Bench) -> list[Row]:
    """One person at a time, nobody else there."""
    count, tokens = bench.scale.alone, 10
    people = bench.people(min(count, bench.scale.people))
    asked = client.run(client.one_by_one(partial(bench.tally.ask, p, story(tokens), tokens) for p in people))
    bare = client.run(client.one_by_one(partial(bench.upstream.ask, p, story(tokens), tokens) for p in people))
    back = _percentile([answer.lags[0] for answer in asked if answer.lags], 50)
    there = _percentile([answer.first_ms - TTFT_MS - answer.lags[0] for answer in asked if answer.lags], 50)
    notes = [f"alone: {there:.1f} ms until the upstream has been asked, {back:.1f} ms from it to the page"]
    figure = "added to first token, 1 at once, p50"
    return [_with_losses(Row(figure, "ms", (20,), (_added(asked, 50),), (_added(bare, 50),), notes=notes), asked)]


def crowd(bench: Bench) -> list[Row]:
    """Many press Send within a second: the wait of each, the lag of each token, and what it cost."""
    scale, runs, bares, cpu = bench.scale, [], [], []
    text = story(scale.tokens)
    for _ in range(scale.repeats):
        people = bench.people(scale.crowd)
        before = bench.stand.cpu_seconds()
        runs.append(client.run(client.together([partial(bench.tally.ask, p, text, scale.tokens) for p in people], 1)))
        bench.stand.wait_until_quiet()
        cpu.append(1000 * (bench.stand.cpu_seconds() - before) / max(1, sum(answer.tokens for answer in runs[-1])))
        bares.append(
            client.run(client.together([partial(bench.upstream.ask, p, text, scale.tokens) for p in people], 1))
        )
    everybody = [answer for run in runs for answer in run]
    many = f"{scale.crowd} pressing Send within a second"
    rows = [
        Row(
            f"added to first token, {many}, p50 / p95",
            "ms",
            (40, 200),
            (_middle(_added, runs, 50), _middle(_added, runs, 95)),
            (_middle(_added, bares, 50), _middle(_added, bares, 95)),
        ),
        Row(
            f"lag per token at {scale.crowd}, p95",
            "ms",
            (100,),
            (_middle(_lag, runs, 95),),
            (_middle(_lag, bares, 95),),
            notes=[f"lag p50: {_middle(_lag, runs, 50):.0f} ms, bare {_middle(_lag, bares, 50):.1f} ms"],
        ),
        Row(
            f"CPU s per 1,000 tokens at {scale.crowd}, all processes",
            "s",
            (0.25,),
            (statistics.median(cpu),),
            notes=["CPU includes a title for each conversation; runs: " + ", ".join(f"{one:.3f}" for one in cpu)],
        ),
    ]
    return [_with_losses(row, everybody) for row in rows]


def at_once(bench: Bench) -> list[Row]:
    """The largest level that is kept up: people who ask again as soon as they have their answer."""
    scale, reached, notes = bench.scale, 0, []
    text = story(scale.long_tokens)
    seconds = TTFT_MS / 1000 + scale.long_tokens / RATE

    def rounds(ask: Callable, level: int) -> list[Answer]:
        once, again = bench.people(level), bench.people(level)
        queues = [[partial(ask, p, text, scale.long_tokens) for p in pair] for pair in zip(once, again, strict=True)]
        return client.run(client.steadily(queues, seconds))

    for level in sorted(scale.levels):
        before = bench.stand.cpu_seconds()
        answers = rounds(bench.tally.ask, level)
        cores = (bench.stand.cpu_seconds() - before) / (3 * seconds)
        is_kept, words = _judge(answers)
        notes.append(f"{level} at once: {words}, {cores:.2f} cores")
        bench.stand.wait_until_quiet()
        if not is_kept:
            break
        reached = level
    is_kept, words = _judge(rounds(bench.upstream.ask, level))
    notes.append(f"{level} at once, bare: {words}")
    figure = "answers at once, nothing lost, lag p95 < 150 ms, first token p95 < 500 ms"
    return [Row(figure, "", (300,), (reached,), (level if is_kept else 0,), is_least=True, notes=notes)]


def memory(bench: Bench) -> list[Row]:
    """All processes, idle and warm; then with pages open whose answers are silent."""
    idle = bench.idle_memory
    words = ", ".join(f"{name} {mib:.0f}" for name, mib in sorted(idle.items()))
    before, during = client.run(_open_pages(bench, bench.scale.idle))
    bench.stand.wait_until_quiet()
    parts = {name: 1024 * (during[name] - before[name]) / bench.scale.idle for name in during}
    each = ", ".join(f"{name} {kib:.0f}" for name, kib in sorted(parts.items()))
    return [
        Row("memory, idle, all processes", "MiB", (300,), (sum(idle.values()),), notes=[f"MiB when idle: {words}"]),
        Row(
            "memory per idle open page",
            "KiB",
            (64,),
            (sum(parts.values()),),
            notes=[f"KiB for each of {bench.scale.idle} pages waiting for a silent answer, its turn included: {each}"],
        ),
    ]


def burst(bench: Bench) -> list[Row]:
    """One person, many turns at the same instant, money for two."""
    stand, count = bench.stand, bench.scale.burst
    person = Person(**stand.seed("people", count=1, prefix="poor")["people"][0])
    ids = stand.seed("conversations", owners=[person.id] * (count + 1), effort="quick")["conversations"]
    probe, *tabs = [replace(person, conversation=uuid) for uuid in ids]
    # The same length in both, so that the same is held for them. The second is longer than anybody may pay for, and
    # begins when all have been refused: two answers at full speed would take the cores that refusals are measured on.
    ask = "[[sandbox ttft=3000 rate=4000 tokens={:06}]] Tell me everything."
    client.run(client.one_by_one([partial(bench.tally.ask, probe, ask.format(10), 0)]))
    stand.wait_until_quiet()
    purse, paid_before = stand.seed("purse", person=person.id, calls=2), len(_invoice(stand))
    answers = client.run(client.together([partial(bench.tally.ask, tab, ask.format(200_000), 0) for tab in tabs], 0))
    stand.wait_until_quiet()
    paid = _invoice(stand)[paid_before:]
    over = max(0, sum(line["cost_nanos"] for line in paid) - purse["limit_nanos"] + purse["spent_nanos"])
    books = stand.seed("books", person=person.id)
    refused = [answer for answer in answers if client.REFUSED in answer.body]
    replies = [line for line in paid if line["output_tokens"] > 1000]
    wrong = "; ".join(books["problems"])
    if len(replies) != 2 or len(refused) != count - 2:
        wrong = wrong or f"{len(replies)} answers, {len(refused)} refusals, {_losses(answers)} lost"
    waits = [(answer.ended - answer.pressed) / 1e6 for answer in refused]
    return [
        Row(
            f"overspend, {count} turns at once, money for 2",
            "$",
            (0,),
            (over / 1e9,),
            wrong=wrong,
            notes=[f"the burst: {len(replies)} answers, {len(refused)} refusals, books agree: {not books['problems']}"],
        ),
        Row("refusal p50 in that burst", "s", (0.1,), (_percentile(waits, 50) / 1000,) if waits else ()),
    ]


def first_turn(bench: Bench) -> list[Row]:
    """What the provider is asked for, and paid for, before anybody has seen a word."""
    stand = bench.stand
    paid_before = len(_invoice(stand))
    client.run(client.one_by_one([partial(bench.tally.ask, bench.people(1)[0], TWENTY_TOKENS, 0)]))
    stand.wait_until_quiet()
    paid = _invoice(stand)[paid_before:]
    messages = [{"role": "user", "content": TWENTY_TOKENS}]
    body = {"model": "claude-sonnet-5-5", "messages": messages}
    counted = stand.upstream("/v1/messages/count_tokens", body)["input_tokens"]
    figure = "provider calls for the first turn / input tokens for a short question"
    return [Row(figure, "", (2, 120), (len(paid), sum(map(_input, paid))), (1, counted))]


def search(bench: Bench) -> list[Row]:
    """The page of hits, for somebody who wrote a twentieth of everything."""
    library = bench.stand.seed("library", messages=bench.scale.library)
    seconds: dict[str, list[float]] = {query: [] for query in library["queries"]}
    for _ in range(SEARCHES):
        for query, taken in seconds.items():
            taken.append(bench.stand.time_page(f"/conversations/search/?{urlencode({'q': query})}", library["session"]))
    slowest = max(seconds, key=lambda query: statistics.median(seconds[query]))
    words = f"searching: the slowest of {len(seconds)} queries is {slowest!r}, p50 {_ms(seconds[slowest], 50)} ms"
    everything = [one for taken in seconds.values() for one in taken]
    figure = f"search over {bench.scale.library:,} messages, p95"
    return [
        Row(figure, "s", (0.1,), (_percentile(everything, 95),), notes=[f"{words}; of all {_ms(everything, 50)} ms"])
    ]


def later(bench: Bench) -> list[Row]:
    """What there is nothing to measure of yet."""
    return [
        Row("spend page, 1,000 people and 1,000,000 calls", "s", (0.15,)),
    ]


async def _open_pages(bench: Bench, count: int) -> tuple[dict[str, float], dict[str, float]]:
    people = bench.people(count)
    opened: list[tuple[Person, str]] = []
    before = bench.stand.memory()
    asks = [
        bench.tally.ask(person, "[[sandbox hang=600]]", 0, on_stream=partial(_note, opened, person))
        for person in people
    ]
    pages = [asyncio.create_task(ask) for ask in asks]
    for _ in range(300):
        if len(opened) == count or all(page.done() for page in pages):
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(3)
    during = bench.stand.memory()
    still_open = sum(not page.done() for page in pages)
    for person, stream in opened:
        await bench.tally.stop(person, stream)
    await asyncio.gather(*pages)
    if still_open < count:
        raise RuntimeError(f"Only {still_open} of {count} pages stayed open.")
    return before, during


def _note(opened: list[tuple[Person, str]], person: Person, stream: str) -> None:
    opened.append((person, stream))


def _judge(answers: list[Answer]) -> tuple[bool, str]:
    """Whether a level is kept up, and how."""
    lost = _losses(answers)
    lag = _lag(answers, 95)
    first = _percentile([answer.first_ms for answer in answers if answer.first], 95)
    words = f"{lost} of {len(answers)} lost, lag p95 {lag:.0f} ms, first token p95 {first:.0f} ms"
    return not lost and lag < 150 and first < 500, words


def _with_losses(row: Row, answers: list[Answer]) -> Row:
    lost = _losses(answers)
    if not lost:
        return row
    why = next((answer.problem for answer in answers if answer.problem), "tokens are missing")
    return replace(row, wrong=f"{lost} of {len(answers)} answers were lost, the first: {why}")


def _losses(answers: list[Answer]) -> int:
    return sum(not answer.is_whole for answer in answers)


def _added(answers: list[Answer], percent: int) -> float:
    return _percentile([answer.first_ms - TTFT_MS for answer in answers if answer.first], percent)


def _lag(answers: list[Answer], percent: int) -> float:
    return _percentile([lag for answer in answers for lag in answer.lags], percent)


def _middle(figure: Callable[[list[Answer], int], float], runs: list[list[Answer]], percent: int) -> float:
    return statistics.median(figure(run, percent) for run in runs)


def _percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, percent * len(ordered) // 100)] if ordered else float("inf")


def _ms(seconds: list[float], percent: int) -> str:
    return f"{1000 * _percentile(seconds, percent):.0f}"


def _invoice(stand: Stand) -> list[dict]:
    return stand.upstream("/_sandbox/invoice")["lines"]


def _input(line: dict) -> int:
    return line["input_tokens"] + line["cache_write_5m"] + line["cache_write_1h"] + line["cache_read"]
