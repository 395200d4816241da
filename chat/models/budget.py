from django.db import models
from django.db.models import F, Q

from chat.money import MoneyField, spoken


class Period(models.TextChoices):
    DAY = "day", "a day"
    WEEK = "week", "a week"
    MONTH = "month", "a month"


class Budget(models.Model):
    """A limit that somebody set. A personal limit holds for each person by themself, a pot for all together.

    Neither user nor group: everyone. Of the personal limits the most specific one wins (person, team,
    everyone); of two alike one with an end date, then the newer. `set_by_self` counts beside the winner.
    """

    class Kind(models.TextChoices):
        PERSONAL = "personal", "Personal limit"
        POT = "pot", "Pot"

    class Mode(models.TextChoices):
        BLOCK = "block", "Block"
        WARN = "warn", "Only warn"

    kind = models.CharField(max_length=10, choices=Kind, default=Kind.PERSONAL)
    user = models.ForeignKey("chat.User", models.CASCADE, null=True, blank=True, related_name="budgets")
    group = models.ForeignKey("auth.Group", models.CASCADE, null=True, blank=True, related_name="budgets")
    limit = MoneyField(help_text="Dollars.")
    period = models.CharField(max_length=10, choices=Period, default=Period.MONTH)
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.BLOCK)
    set_by_self = models.BooleanField(default=False)
    valid_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(limit__gte=0), name="budget_limit_not_negative"),
            models.CheckConstraint(
                condition=Q(user__isnull=True) | Q(group__isnull=True), name="budget_for_a_person_or_a_team"
            ),
            models.CheckConstraint(
                condition=~Q(kind="pot") | Q(user__isnull=True), name="budget_pot_is_never_one_persons"
            ),
            models.CheckConstraint(
                condition=Q(set_by_self=False) | Q(user__isnull=False, kind="personal"),
                name="budget_by_self_is_ones_own",
            ),
        ]

    def __str__(self) -> str:
        return f"{spoken(self.limit)} {self.get_period_display()}, {self.source_words}"

    @property
    def source_words(self) -> str:
        """Where a limit comes from, for the page."""
        if self.set_by_self:
            return "your own limit"
        if self.kind == self.Kind.POT:
            return f"the pot of {self.group}" if self.group_id else "the pot of everyone"
        if self.user_id:
            return "a personal limit"
        return f"the limit for members of {self.group}" if self.group_id else "the limit for everyone"


class BudgetPeriod(models.Model):
    """What one account spent and holds in one period: the row that every call has to fit into.

    It belongs to the account (a person, a team, everyone), not to a Budget row, so that a limit changed
    in mid-month does not start at zero again. The limits are copied in at each admission: `limit` stops calls,
    `warn_limit` only warns, NULL only counts. Only chat/spend/ writes here, and chat/budgets.py when it opens
    a period.
    """

    account = models.CharField(max_length=40, help_text="user:7, group:3 or everyone; no name in it.")
    period = models.CharField(max_length=10, choices=Period)
    start = models.DateTimeField()
    end = models.DateTimeField()
    limit = MoneyField(null=True)
    warn_limit = MoneyField(null=True)
    spent = MoneyField(default=0)
    held = MoneyField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "period", "start"], name="budget_period_once"),
            models.CheckConstraint(condition=Q(spent__gte=0), name="budget_period_spent_not_negative"),
            models.CheckConstraint(condition=Q(held__gte=0), name="budget_period_held_not_negative"),
            models.CheckConstraint(condition=Q(end__gt=F("start")), name="budget_period_ends_after_start"),
        ]
        indexes = [models.Index(fields=["end"], name="budget_period_by_end")]

    def __str__(self) -> str:
        return f"{self.account}, {self.period} from {self.start:%Y-%m-%d}"

    @property
    def left(self) -> int | None:
        """Nano-dollars that a new call may still hold; None without a limit."""
        return None if self.limit is None else max(0, self.limit - self.spent - self.held)


class BudgetWarning(models.Model):
    """An account has used 80 or 100 per cent of a limit. Once per period: the row is what makes it once.

    The sweeper writes it and sends the mail; the chat shows it until it is dismissed.
    """

    period = models.ForeignKey(BudgetPeriod, models.PROTECT, related_name="warnings")
    mode = models.CharField(max_length=10, choices=Budget.Mode)
    percent = models.PositiveSmallIntegerField()
    limit = MoneyField()
    spent = MoneyField(help_text="When it was noticed.")
    created_at = models.DateTimeField(auto_now_add=True)
    mailed_at = models.DateTimeField(null=True, blank=True)
    dismissed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["period", "mode", "percent"], name="budget_warning_once")]

    def __str__(self) -> str:
        return f"{self.period}: {self.percent} % used"


class BudgetRequest(models.Model):
    """Somebody asks for more. Granted, it is a Budget with an end date, which is named here."""

    class State(models.TextChoices):
        OPEN = "open", "Waiting for an answer"
        GRANTED = "granted", "Granted"
        DECLINED = "declined", "Declined"
        WITHDRAWN = "withdrawn", "Taken back"

    user = models.ForeignKey("chat.User", models.CASCADE, related_name="budget_requests")
    account = models.CharField(max_length=40, help_text="The one that was in the way: user:7, group:3 or everyone.")
    period = models.CharField(max_length=10, choices=Period, default=Period.MONTH)
    amount = MoneyField(help_text="Dollars on top of the limit.")
    reason = models.TextField(max_length=1_000)
    until = models.DateField(help_text="The last day on which it holds.")
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    decided_by = models.ForeignKey("chat.User", models.SET_NULL, null=True, blank=True, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    budget = models.ForeignKey(Budget, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    asked_mailed_at = models.DateTimeField(null=True, blank=True)
    decision_mailed_at = models.DateTimeField(null=True, blank=True)
    dismissed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="budget_request_above_zero"),
            models.UniqueConstraint(
                fields=["user"], condition=Q(state="open"), name="budget_request_one_open_per_person"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} asks for {spoken(self.amount)}"
