from datetime import UTC, date, datetime

from django.core.management.base import BaseCommand, CommandError

from chat import reconciliation
from chat.claude import ClaudeError
from chat.money import dollars, spoken


class Command(BaseCommand):
    help = "Compare a day of our books with Anthropic's cost report. Exits with 1 when they are more than 1 % apart."

    def add_arguments(self, parser) -> None:
        parser.add_argument("--day", metavar="YYYY-MM-DD", help="In UTC, as Anthropic counts. Yesterday if not given.")

    def handle(self, *args, **options) -> None:
        day = _day(options["day"]) if options["day"] else reconciliation.yesterday()
        try:
            result = reconciliation.reconcile(day)
        except ClaudeError as error:
            raise CommandError(reconciliation.why_not(error)) from error
        self.stdout.write(f"{f'{day}, UTC':<24}{'our books $':>18}{'Anthropic $':>18}{'difference':>14}{'drift':>10}")
        for row in [*result.models, result.total]:
            self.stdout.write(
                f"{row.name:<24}{dollars(row.ours):>18.9f}{dollars(row.theirs):>18.9f}"
                f"{spoken(row.difference):>14}{row.drift:>8.2f} %"
            )
        if not result.agrees:
            raise CommandError(result.words)
        self.stdout.write(result.words)


def _day(given: str) -> date:
    try:
        day = date.fromisoformat(given)
    except ValueError:
        raise CommandError(f"{given!r} is not a day; write it as 2026-11-23.") from None
    if day > datetime.now(UTC).date():
        raise CommandError(f"{day} has not begun yet (in UTC).")
    return day
