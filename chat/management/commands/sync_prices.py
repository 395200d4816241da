from django.core.management.base import BaseCommand

from chat import setup


class Command(BaseCommand):
    help = "Load the prices shipped with Tally. Adds what is missing and never changes a row."

    def handle(self, *args, **options) -> None:
        added = setup.sync_prices()
        for price in added:
            self.stdout.write(f"Added {price}")
        self.stdout.write(f"{len(added)} price(s) added.")
