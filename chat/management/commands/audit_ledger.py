from django.core.management.base import BaseCommand, CommandError

from chat import audit
from chat.models import LedgerEntry


class Command(BaseCommand):
    help = "Prove the books: every total again from its entries. Exits with 1 if something does not add up."

    def handle(self, *args, **options) -> None:
        problems = audit.problems()
        for problem in problems:
            self.stderr.write(problem)
        if problems:
            raise CommandError(f"The books do not agree: {len(problems)} problem(s).")
        self.stdout.write(f"The books agree: {LedgerEntry.objects.count():,} entries.")
