from django.core.management.base import BaseCommand, CommandError

from chat import model_check


class Command(BaseCommand):
    help = "Check price and lifecycle of every model in use. Exits with 1 if an administrator has to do something."

    def handle(self, *args, **options) -> None:
        checked, why_not = model_check.check()
        if why_not:
            self.stderr.write(f"Anthropic could not be asked ({why_not}); the dates are those that Tally ships.")
        self.stdout.write(f"{'model':<24}{'price':<40}{'lifecycle':<14}retires on")
        for one in checked:
            stage = one.life.stage if one.life else "unknown"
            retires_on = one.life.retires_on if one.life else None
            self.stdout.write(f"{one.model:<24}{one.price_words:<40}{stage:<14}{retires_on or '-'}")
        words = [words for one in checked for words in one.alarms.values()]
        if words:
            raise CommandError("\n".join(words))
