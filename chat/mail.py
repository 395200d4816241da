"""Mail about money: warnings, alarms, requests and what was decided. Sent by the sweeper, at most once each.

A row is claimed before its mail is sent and given back when the server does not take it; so a mail is lost only where
a process is killed between the two. Nothing of a conversation is in any mail, and nothing that a person wrote is in
those to administrators.
"""

import smtplib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage, mailers
from django.core.validators import validate_email
from django.db.models import Model, Q
from django.db.models.functions import Now
from django.template.loader import render_to_string
from django.utils import timezone

from chat import asking, budgets, limits, warnings
from chat.models import Alarm, Budget, BudgetRequest, BudgetWarning, User

log = structlog.get_logger(__name__)

MAILS_A_ROUND = 20
SECONDS_A_ROUND = 10
PAUSE_SECONDS = 60
ALARMS_A_MAIL = 50

# When this process may try again after the server did not answer, on the monotonic clock.
_not_before = 0.0


@dataclass(frozen=True)
class Letter:
    """A mail to be: the rows it is about, the column that says it was sent, and who writes it when they are claimed."""

    rows: list[Any]
    column: str
    write: Callable[[list[Any]], EmailMessage | None]


def send_outstanding() -> None:
    """Send what has not been sent, as much as fits into one round. A server that is away is left alone for a minute.

    Two callers at once are harmless. The database's errors are the caller's.
    """
    global _not_before
    if time.monotonic() < _not_before:
        return
    letters = list(islice(_outstanding(), MAILS_A_ROUND))
    if not letters:
        return
    until = time.monotonic() + SECONDS_A_ROUND
    try:
        with mailers.default as post:
            for letter in letters:
                _send(letter, post)
                if time.monotonic() > until:
                    return
    except (OSError, ValueError) as error:  # smtplib's errors are of the first kind, a wrong sender of the second
        _not_before = time.monotonic() + PAUSE_SECONDS
        _failed(error, again=True)


def _send(letter: Letter, post) -> None:
    """Claim, write, send. Raises OSError or ValueError when nothing was taken; then the rows are free again."""
    claimed = [row for row in letter.rows if _mark(row, letter.column)]
    message = letter.write(claimed) if claimed else None
    if message is None:
        return
    try:
        post.send_messages([message])
    except (OSError, ValueError) as error:
        if _for_good(error):
            # Tried again and again at the head of the queue, it would keep back all others.
            _failed(error, again=False)
            return
        _give_back(claimed, letter.column)
        raise


def _outstanding() -> Iterator[Letter]:
    alarms = list(Alarm.objects.filter(mailed_at=None).order_by("first_at")[:ALARMS_A_MAIL])
    if alarms:
        yield Letter(alarms, "mailed_at", _alarms)
    requests = BudgetRequest.objects.select_related("user", "decided_by").order_by("pk")
    asked = requests.filter(state=BudgetRequest.State.OPEN, asked_mailed_at=None)
    for request in asked[:MAILS_A_ROUND]:
        yield Letter([request], "asked_mailed_at", _asked)
    decided = requests.filter(state__in=warnings.DECIDED, decision_mailed_at=None)
    for request in decided[:MAILS_A_ROUND]:
        yield Letter([request], "decision_mailed_at", _decided)
    for warning in warnings.current().filter(mailed_at=None).order_by("pk")[:MAILS_A_ROUND]:
        yield Letter([warning], "mailed_at", _warning)


def _alarms(alarms: list[Alarm]) -> EmailMessage | None:
    return _message("alarms", _administrators(), alarms=alarms)


def _asked(requests: list[BudgetRequest]) -> EmailMessage | None:
    [request] = requests
    about = asking.accounts_in_words([request])[request.account]
    return _message("request", _administrators(), request=request, about=about, until=limits.day_words(request.until))


def _decided(requests: list[BudgetRequest]) -> EmailMessage | None:
    [request] = requests
    return _message("decision", _address(request.user), request=request, words=warnings.decision_words(request))


def _warning(found: list[BudgetWarning]) -> EmailMessage | None:
    [warning] = found
    kind, _, number = warning.period.account.partition(":")
    person = User.objects.filter(pk=int(number)).first() if kind == "user" else None
    source = _source(warning, person) if person else ""
    if not warnings.is_true(warning):
        return None  # raised meanwhile
    percent = warnings.percent_used(warning)
    if kind != "user":
        words, pot = warnings.pot_words(warning), warnings.pot_name(warning)
        return _message("pot", _administrators(), percent=percent, words=words, pot=pot)
    if person is None:
        return None
    words, refused = warnings.words(warning, source), warnings.stops(warning)
    return _message("warning", _address(person), person=person, percent=percent, words=words, refused=refused)


def _source(warning: BudgetWarning, person: User) -> str:
    """Where the limit comes from; its figure of today is written into the warning's period on the way."""
    for account in budgets.accounts_of(person, timezone.now()):
        period = warning.period
        if (account.key, account.period, account.start) == (period.account, period.period, period.start):
            period.limit, period.warn_limit = account.limit, account.warn_limit
            # An account is named after what stops, if anything does.
            return account.source if warning.mode == Budget.Mode.BLOCK or account.limit is None else ""
    return ""


def _message(template: str, to: list[str], **context) -> EmailMessage | None:
    """A mail from templates/mail/, whose first line is the subject; None without anybody to send it to."""
    if not to:
        return None
    context |= {"site": settings.SITE_URL, "product": settings.PRODUCT}
    subject, _, body = render_to_string(f"mail/{template}.txt", context).strip().partition("\n")
    # Nobody's "I am away" comes back to it.
    return EmailMessage(subject, body.strip() + "\n", to=to, headers={"Auto-Submitted": "auto-generated"})


def _administrators() -> list[str]:
    """The addresses of who can decide about money."""
    able = User.objects.with_perm("chat.change_budget").filter(Q(is_superuser=True) | Q(is_staff=True))
    return sorted({address for person in able for address in _address(person)})


def _address(person: User) -> list[str]:
    """Where a person can be told something: nowhere, if they left or their address is none."""
    try:
        validate_email(person.email)
    except ValidationError:
        return []
    return [person.email] if person.is_active else []


def _mark(row: Model, column: str) -> bool:
    """Claim a row. False if another sweeper has it."""
    mine = type(row)._default_manager.filter(pk=row.pk, **{column: None})
    return bool(mine.update(**{column: Now()}))


def _give_back(rows: list[Model], column: str) -> None:
    for row in rows:
        type(row)._default_manager.filter(pk=row.pk).update(**{column: None})


def _for_good(error: Exception) -> bool:
    """Whether the server knows none of the recipients and never will."""
    refused = error.recipients.values() if isinstance(error, smtplib.SMTPRecipientsRefused) else ()
    return bool(refused) and all(code >= 500 for code, _ in refused)


def _failed(error: Exception, *, again: bool) -> None:
    """The kind of error and the server's code; its words often quote addresses."""
    log.warning("mail_failed", kind=type(error).__name__, code=getattr(error, "smtp_code", None), again=again)
