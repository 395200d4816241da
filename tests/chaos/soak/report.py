"""What happened, as a table; and of each breach what is needed to find its cause."""

from collections import Counter

from chat.models import Attachment, Summary, Turn
from chat.money import spoken
from tests.chaos.invoice import Comparison
from tests.chaos.product import Product
from tests.chaos.soak.diary import Diary
from tests.chaos.soak.laws import Breach, Laws

MOST_BREACHES = 8
AROUND_SECONDS = 5


def table(head: str, diary: Diary, laws: Laws, compared: Comparison) -> str:
    turns = laws.turns
    endings = Counter(f"{turn.state}{': ' + why if (why := turn.error or _why(turn)) else ''}" for turn in turns)
    faults = Counter(fault.kind for fault in diary.faults)
    statuses = Counter(f"{what} {status}" for _, what, _, status in diary.statuses)
    longest = max((seconds(turn) for turn in turns), default=0)
    accepted = len([sent for sent in diary.sent if sent.was_accepted])
    came_back = sum(tab.breaks for _, tab in diary.watched)
    limits = f"{spoken(compared.estimated_invoiced)} on the invoice and {spoken(compared.estimated_held)} held"
    return "\n".join(
        [
            head,
            _row("turns", f"{len(turns)} at the end, {accepted} accepted, {compared.posts} requests to the provider"),
            _row("ended as", _counted(endings)),
            _row(
                "followed", f"{len([turn for turn in turns if turn.asked_after_id])} turns that had waited for another"
            ),
            _row("summaries", _counted(Counter(map(_kind, Summary.objects.all()))) or "none"),
            _row("files", f"{Attachment.objects.exclude(conversation=None).count()} sent"),
            _row("faults", f"{len(diary.faults)}: {_counted(faults)}"),
            _row("people got", _counted(statuses)),
            _row("watchers", f"{len(diary.watched)}, who came back {came_back} times"),
            _row("lost", str(len(laws.lost()))),
            _row("doubled", str(len(laws.doubled()))),
            _row("exact", f"{spoken(compared.exact)}, {compared.exact_difference} nano-dollars from the invoice"),
            _row("estimated", f"{spoken(compared.estimated)} in {compared.estimates} calls, between {limits}"),
            _row("longest", f"{longest:.1f} s until a turn was over"),
        ]
    )


def story(breach: Breach, diary: Diary, laws: Laws, posts: list[dict], lines: list, product: Product) -> str:
    """Everything that is known of the turn of a breach, in the order of time."""
    said = [f"* {breach.law}: {breach.words}"]
    turn = breach.turn
    if breach.look_for:
        said += _logged(product, breach.look_for)
    if turn is None:
        return "\n".join(said)
    at = diary.second_of
    end = at(turn.finished_at) if turn.finished_at else diary.now
    said.append(
        f"    {turn}, attempt {turn.attempt}, error {turn.error!r}, stop {turn.stop_reason!r}, asked at "
        f"{at(turn.created_at):.2f} s, over at {end:.2f} s, "
        f"checkpoint {turn.checkpoint_id} {turn.checkpoint_text[-60:]!r}"
    )
    requests = set()
    for record in laws.records[turn.id]:
        sent = f"{at(record.sent_at):.2f} s" if record.sent_at else "never"
        closed = f"{at(record.settled_at):.2f} s" if record.settled_at else "never"
        requests.add(record.request_id)
        said.append(
            f"    call {record.id}, attempt {record.attempt}, {record.state} {record.confidence}, sent {sent}, closed "
            f"{closed}, cost {record.cost} of {record.held}, stop {record.stop_reason!r}, {record.request_id}"
        )
    marker = turn.question.text.partition("?")[0]
    for post in posts:
        if f"{marker}?" in str(post["body"]["messages"][-1]) or post["request_id"] in requests:
            [line] = [line for line in lines if line.request_id == post["request_id"]] or [None]
            said.append(f"    POST {post['request_id']}: {line}")
    said += [f"    {sent}" for sent in diary.sent if sent.question.marker == marker]
    said += [f"    {fault}" for fault in diary.around(at(turn.created_at) - AROUND_SECONDS, end + AROUND_SECONDS)]
    said += _logged(product, str(turn.id))
    return "\n".join(said)


def _logged(product: Product, word: str) -> list[str]:
    """The beginning and the end of each line: a traceback stands between."""
    lines = product.log_lines(word)
    return [f"    log: {line if len(line) < 700 else line[:300] + ' … ' + line[-400:]}" for line in lines]


def _kind(summary: Summary) -> str:
    kind = "before an answer" if summary.automatic else "for a new chat" if summary.begins_a_chat else "by hand"
    return f"{kind} {summary.state}{': ' + summary.error if summary.error else ''}"


def _why(turn: Turn) -> str:
    return turn.stop_reason if turn.stop_reason not in ("", "end_turn") else ""


def seconds(turn: Turn) -> float:
    return (turn.finished_at - turn.created_at).total_seconds() if turn.finished_at else 0


def _counted(counter: Counter) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())


def _row(name: str, words: str) -> str:
    return f"{name:>10}  {words}"
