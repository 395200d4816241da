from django.core.management.base import BaseCommand, CommandError

from chat.models import Budget, User
from chat.models.budget import Period
from chat.money import nano, spoken


class Command(BaseCommand):
    help = "Set one person's limit. It holds from the next message on; what was spent in the period still counts."

    def add_arguments(self, parser) -> None:
        parser.add_argument("username")
        parser.add_argument("dollars", help="For example 25 or 0.50")
        parser.add_argument("--period", choices=Period.values, default=Period.MONTH)

    def handle(self, *args, **options) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is nobody called {options['username']!r}.")
        try:
            limit = nano(options["dollars"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        if limit < 0:
            raise CommandError("A limit is zero or more.")
        mine = Budget.objects.filter(user=user, kind=Budget.Kind.PERSONAL, set_by_self=False, valid_until=None)
        # Of several the newest counts, see chat/budgets.py.
        budget = mine.order_by("-created_at", "-pk").first() or Budget(user=user)
        budget.limit, budget.period, budget.mode = limit, options["period"], Budget.Mode.BLOCK
        budget.save()
        self.stdout.write(f"{user.username} may spend {spoken(budget.limit)} {budget.get_period_display()}.")
