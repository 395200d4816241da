"""The books as CSV files: a row for each call, person or entry, with exact dollars and without a row of sums, so that
whoever has the file can add it up to the nano-dollar.

Names, titles and reasons are written by people, and a spreadsheet takes a cell for a formula by how it begins: text
that begins so gets an apostrophe in front. Figures get none, and a correction downwards stays a number: they are made
here, from numbers, of nothing but digits, a point and a minus, and whatever is read into "-0.250000000" can only be
that amount.
"""

import csv
import io
import re
from array import array
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.db.models import Case, CharField, F, QuerySet, Value, When
from django.db.models.expressions import Combinable
from django.http import StreamingHttpResponse
from django.utils import timezone

from chat import reports
from chat.models import LedgerEntry, UsageRecord
from chat.money import dollars

ROWS_AT_ONCE = 1_000

# White space in front does not stop every spreadsheet; the wide signs are what some input methods type.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n\x00]")


Columns = Mapping[str, str | Combinable]

# {heading: where it comes from}. A heading in _dollars is money.
_FIGURES: Columns = {
    "model": "model",
    "state": "state",
    "confidence": "confidence",
    "stop_reason": "stop_reason",
    "input_tokens": "input_tokens",
    "cache_write_5m_tokens": "cache_write_5m_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "output_tokens": "output_tokens",
    "thinking_tokens": "thinking_tokens",
    "unknown_tokens": "unknown_tokens",
    "searches": "searches",
    "duration_ms": "duration_ms",
    "request_id": "request_id",
    "held_dollars": "held",
    "cost_dollars": "cost",
}
OWN_CALLS: Columns = {
    "admitted_at": "admitted_at",
    "call": "id",
    "conversation": "conversation",
    "title": Case(
        When(conversation=None, then=Value("Deleted conversation")),
        When(conversation__title="", then=Value("New conversation")),
        default=F("conversation__title"),
        output_field=CharField(),
    ),
    "purpose": "purpose",
    **_FIGURES,
}
CALLS: Columns = {
    "admitted_at": "admitted_at",
    "call": "id",
    "person": Case(
        When(user=None, then=Value(reports.LEFT)),
        default=F("user__username"),
        output_field=CharField(),
    ),
    "team": "group__name",
    "purpose": "purpose",
    "unusual": "unusual",
    **_FIGURES,
}
LEDGER: Columns = {
    "written_at": "created_at",
    "entry": "id",
    "kind": "kind",
    "account": "period__account",
    "period": "period__period",
    "period_start": "period__start",
    "call": "record",
    "person": Case(
        When(record=None, then=Value("")),
        When(record__user=None, then=Value(reports.LEFT)),
        default=F("record__user__username"),
        output_field=CharField(),
    ),
    "actor": "actor",
    "reason": "reason",
    "amount_dollars": "amount",
}
PEOPLE = ["person", "full_name", "calls", "tokens_in", "tokens_out", "estimated_dollars", "spent_dollars"]

Cell = str | int | Decimal | datetime | None


class Download(StreamingHttpResponse):
    """A CSV file that is made while it is sent, a thousand rows at a time.

    Django would make the whole of it before ASGI sends the first byte. Here each part is made when the last one is on
    its way, in whichever thread is free, which keeps no database connection: a slow reader costs nobody anything.
    """

    def __init__(self, name: str, headings: Iterable[str], chunks: Iterable[Iterable[Sequence[Cell]]]):
        headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
        super().__init__(_parts(headings, chunks), content_type="text/csv; charset=utf-8", headers=headers)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = iter(self)
        while part := await sync_to_async(_next, thread_sensitive=False)(parts):
            yield part


def calls(name: str, records: QuerySet[UsageRecord], columns: Columns) -> Download:
    """Calls by the time of their admission. One that ends while the file is made is in it with or without its cost."""
    return Download(name, columns, _calls(records, columns))


def ledger(name: str, entries: QuerySet[LedgerEntry]) -> Download:
    """Entries in the order in which they were written."""
    return Download(name, LEDGER, _entries(entries, LEDGER))


def people(name: str, start: datetime, end: datetime) -> Download:
    """One row per person, as on the admin's page."""
    rows = (
        [
            person.username if person else reports.LEFT,
            person.get_full_name() if person else "",
            sums["calls"],
            sums["tokens_in"],
            sums["tokens_out"],
            dollars(sums["estimated"]),
            dollars(sums["spent"]),
        ]
        for person, sums in reports.by_person(start, end)
    )
    return Download(name, PEOPLE, [rows])


def cell(value: Cell | Any) -> str:
    """A value as it stands in a file. Only text can be an attack, and only text is changed."""
    match value:
        case None:
            return ""
        case Decimal():
            return f"{value:.9f}"
        case datetime():
            return timezone.localtime(value).isoformat(timespec="milliseconds")
        case int():
            return str(int(value))
        case _:
            text = str(value)
            return f"'{text}" if _FORMULA.match(text) else text


def _calls(records: QuerySet[UsageRecord], columns: Columns) -> Iterator[Iterator[list[Cell]]]:
    """In queries that each go on behind the last row of the one before: no cursor, and so no connection, has to be kept
    open in between."""
    records = records.order_by("admitted_at", "id")
    rest = records
    while chunk := list(rest.values_list("admitted_at", "id", *columns.values())[:ROWS_AT_ONCE]):
        yield _cells([row[2:] for row in chunk], columns)
        admitted_at, last = chunk[-1][:2]
        rest = records.filter(admitted_at__gte=admitted_at).exclude(admitted_at=admitted_at, id__lte=last)


def _entries(entries: QuerySet[LedgerEntry], columns: Columns) -> Iterator[Iterator[list[Cell]]]:
    """By their numbers, eight bytes each: no index has the entries of a period in an order to go on in."""
    numbers = array("q", entries.order_by("id").values_list("id", flat=True).iterator())
    for start in range(0, len(numbers), ROWS_AT_ONCE):
        chunk = LedgerEntry.objects.filter(id__in=numbers[start : start + ROWS_AT_ONCE]).order_by("id")
        yield _cells(chunk.values_list(*columns.values()), columns)


def _cells(rows: Iterable[tuple], columns: Columns) -> Iterator[list[Cell]]:
    money = [heading.endswith("_dollars") for heading in columns]
    for row in rows:
        yield [dollars(value) if is_money else value for value, is_money in zip(row, money, strict=True)]


def _parts(headings: Iterable[str], chunks: Iterable[Iterable[Sequence[Cell]]]) -> Iterator[bytes]:
    yield _lines([list(headings)])
    for chunk in chunks:
        yield _lines(chunk)


def _lines(rows: Iterable[Sequence[Cell]]) -> bytes:
    lines = io.StringIO()
    csv.writer(lines, quoting=csv.QUOTE_ALL).writerows([cell(value) for value in row] for row in rows)
    return lines.getvalue().encode()


def _next(parts: Iterator[bytes]) -> bytes:
    try:
        return next(parts, b"")
    finally:
        connection.close()
