"""What the provider has billed beside what we have booked."""

from dataclasses import dataclass

from chat.models import UsageRecord
from chat.sandbox import Sandbox


@dataclass(frozen=True)
class Comparison:
    """Amounts in nano-dollars. `problems` are sentences; empty when every line is in the books."""

    posts: int
    exact: int
    exact_difference: int
    estimated: int
    invoiced: int
    problems: list[str]


def compare(sandbox: Sandbox) -> Comparison:
    """Every call that the provider has seen is booked once: exact to the nano-dollar, or estimated and never below.

    Records and invoice have to be those of the same time: the sandbox is reset when the database is emptied.
    """
    lines = sandbox.invoice
    records = list(UsageRecord.objects.filter(state=UsageRecord.State.SETTLED))
    sent = UsageRecord.objects.exclude(sent_at=None).count()
    problems, difference = [], 0
    if len(sandbox.requests) > sent:
        problems.append(f"{len(sandbox.requests)} POSTs, but only {sent} calls in the books.")
    by_request = {line.request_id: line for line in lines}
    unnamed = []
    for record in records:
        line = by_request.pop(record.request_id, None)
        exact = record.confidence == UsageRecord.Confidence.EXACT
        if line is None:
            # Nobody saw the head of its answer, or it was free.
            if exact and record.cost:
                problems.append(f"{record.id} cost {record.cost}, and the provider knows nothing of it.")
            elif not exact:
                unnamed.append(record)
        elif exact:
            difference += abs(record.cost - line.cost_nanos)
            if record.cost != line.cost_nanos:
                problems.append(f"{record.id} cost {record.cost}, the provider says {line.cost_nanos}.")
        elif not line.cost_nanos <= record.cost <= record.held:
            problems.append(f"{record.id}: {line.cost_nanos} <= {record.cost} <= {record.held} is not true.")
    for line in sorted(by_request.values(), key=lambda line: -line.cost_nanos):
        if not line.cost_nanos:
            continue
        dear_enough = [r for r in unnamed if r.model == line.model and line.cost_nanos <= r.cost <= r.held]
        if dear_enough:
            unnamed.remove(min(dear_enough, key=lambda record: record.cost))
        else:
            problems.append(f"{line.request_id} was billed at {line.cost_nanos}, and is not in the books.")
    return Comparison(
        posts=len(sandbox.requests),
        exact=sum(r.cost for r in records if r.confidence == UsageRecord.Confidence.EXACT),
        exact_difference=difference,
        estimated=sum(r.cost for r in records if r.confidence == UsageRecord.Confidence.ESTIMATED),
        invoiced=sum(line.cost_nanos for line in lines),
        problems=problems,
    )
