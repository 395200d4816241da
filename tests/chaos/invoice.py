"""What the provider has billed beside what we have booked."""

from collections import defaultdict
from dataclasses import dataclass, field

from chat.models import UsageRecord
from chat.sandbox import Sandbox

# Instead of a question: of a title, and of a chat that was deleted.
NOBODY_KNOWS = ""


@dataclass
class Comparison:
    """Amounts in nano-dollars. `problems` are sentences; empty when every line is in the books.

    `estimated_invoiced` is what the provider billed for the calls that we have `estimated`, `estimated_held` what was
    held for them.
    """

    posts: int = 0
    exact: int = 0
    exact_difference: int = 0
    estimates: int = 0
    estimated: int = 0
    estimated_invoiced: int = 0
    estimated_held: int = 0
    invoiced: int = 0
    problems: list[str] = field(default_factory=list)


def compare(sandbox: Sandbox) -> Comparison:
    """Every call that the provider has seen is booked once: exact to the nano-dollar, or estimated and never below.

    Records and invoice have to be those of the same time: the sandbox is reset when the database is emptied.
    """
    lines, requests = sandbox.invoice, sandbox.requests
    closed = UsageRecord.objects.filter(state__in=[UsageRecord.State.SETTLED, UsageRecord.State.VOID])
    records = list(closed.select_related("turn__question").defer("usage", "price_numbers", "terms"))
    sent = UsageRecord.objects.exclude(sent_at=None).count()
    found = Comparison(posts=len(requests), invoiced=sum(line.cost_nanos for line in lines))
    if len(requests) > sent:
        found.problems.append(f"{len(requests)} POSTs, but only {sent} calls in the books.")
    by_request = {line.request_id: line for line in lines}
    unnamed = []
    for record in records:
        line = by_request.pop(record.request_id, None)
        if record.state == UsageRecord.State.VOID:
            if line and line.cost_nanos:
                found.problems.append(f"{record.id} was let go, and billed at {line.cost_nanos}.")
        elif record.confidence == UsageRecord.Confidence.EXACT:
            _compare_exact(found, record, line)
        else:
            found.estimates += 1
            found.estimated += record.cost
            found.estimated_held += record.held
            if line:
                _compare_estimate(found, record, line)
            else:
                unnamed.append(record)
    ours = {record.turn.question.text for record in records if record.turn}
    questions = {post["request_id"]: _question(post["body"]) for post in requests if post["body"].get("stream")}
    left = {}
    for line in by_request.values():
        if line.cost_nanos:
            question = questions.get(line.request_id, NOBODY_KNOWS)
            left[line] = question if question in ours else NOBODY_KNOWS
    _find_in(unnamed, left, found)
    return found


def _compare_exact(found: Comparison, record: UsageRecord, line) -> None:
    found.exact += record.cost
    billed = line.cost_nanos if line else 0
    found.exact_difference += abs(record.cost - billed)
    if record.cost != billed:
        found.problems.append(f"{record.id} cost {record.cost}, the provider says {billed if line else 'nothing'}.")


def _compare_estimate(found: Comparison, record: UsageRecord, line) -> None:
    found.estimated_invoiced += line.cost_nanos
    if not line.cost_nanos <= record.cost <= record.held:
        found.problems.append(f"{record.id}: {line.cost_nanos} <= {record.cost} <= {record.held} is not true.")


def _find_in(records: list[UsageRecord], lines: dict, found: Comparison) -> None:
    """Each line that is left belongs to a call of which nobody saw the head: one for its question and dear enough.

    The dearest line chooses first, and takes the cheapest call that will do. What fits it fits every other line of that
    question, so if there is any way to give each line a call of its own, this finds one.
    """
    waiting = defaultdict(list)
    for record in sorted(records, key=lambda record: record.cost):
        waiting[record.model, record.turn.question.text if record.turn else NOBODY_KNOWS].append(record)
    for line in sorted(lines, key=lambda line: -line.cost_nanos):
        candidates = waiting[line.model, lines[line]]
        record = next((record for record in candidates if line.cost_nanos <= record.cost <= record.held), None)
        if record is None:
            found.problems.append(f"{line.request_id} was billed at {line.cost_nanos}, and is not in the books.")
        else:
            candidates.remove(record)
            found.estimated_invoiced += line.cost_nanos


def _question(body: dict) -> str:
    """What a request asks."""
    content = [message["content"] for message in body["messages"] if message["role"] == "user"][-1]
    return content if isinstance(content, str) else [block["text"] for block in content if "text" in block][-1]
