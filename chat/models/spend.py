from django.db import models
from django.db.models import Q

from chat.ids import uuid7
from chat.money import MoneyField
from chat.pricing import KINDS


class WriteOnce(Exception):
    """A row of money was about to be changed or deleted. Corrections are new rows."""


class WriteOnceModel(models.Model):
    """Refuses update and delete; for the ledger triggers in the database refuse them too."""

    class Meta:
        abstract = True

    def save(self, *args, **kwargs):
        if not self._state.adding:
            raise WriteOnce(f"{self} is written once; add a new row instead.")
        super().save(*args, **kwargs)

    def delete(self, *args, **kwargs):
        raise WriteOnce(f"{self} is kept for good.")


class PriceQuerySet(models.QuerySet):
    def in_force(self, model, at):
        """The first is the price of a model at that moment; if there is none, it may not be called."""
        return self.filter(model=model, effective_from__lte=at).order_by("-effective_from", "-id")

    def current_of(self, models, at) -> dict[str, "Price"]:
        """The prices in force at that moment, by model, in one query. What has none is not in it."""
        return {
            price.model: price
            for price in Price.objects.filter(model__in=models, effective_from__lte=at).order_by("effective_from", "id")
        }


class Price(WriteOnceModel):
    """What a model costs from a date on. Amounts are nano-dollars per million tokens, as the vendor quotes."""

    model = models.CharField(max_length=100)
    effective_from = models.DateTimeField()
    input = MoneyField()
    output = MoneyField()
    cache_write_5m = MoneyField()
    cache_write_1h = MoneyField()
    cache_read = MoneyField()
    long_above = models.PositiveIntegerField(
        null=True, blank=True, help_text="Prompts of more tokens pay the long prices for every token."
    )
    long_input = MoneyField(null=True, blank=True)
    long_output = MoneyField(null=True, blank=True)
    long_cache_write_5m = MoneyField(null=True, blank=True)
    long_cache_write_1h = MoneyField(null=True, blank=True)
    long_cache_read = MoneyField(null=True, blank=True)
    fast_percent = models.PositiveSmallIntegerField(null=True, blank=True)
    us_percent = models.PositiveSmallIntegerField(null=True, blank=True)
    search = MoneyField(default=0, help_text="Dollars per thousand web searches.")
    source = models.CharField(max_length=300)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PriceQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "effective_from"], name="price_once_per_date")]

    def __str__(self) -> str:
        return f"{self.model} from {self.effective_from:%Y-%m-%d}"

    @property
    def is_usable(self) -> bool:
        """No price, zero or negative: a call would be free or would give money back."""
        amounts = [getattr(self, kind) for kind in KINDS]
        if self.long_above is not None:
            amounts += [getattr(self, f"long_{kind}") for kind in KINDS]
        return all(amount is not None and amount > 0 for amount in amounts) and self.search >= 0

    def numbers(self) -> dict:
        """What the row says, to be copied into the records that it priced."""
        names = [*KINDS, *(f"long_{kind}" for kind in KINDS)]
        names += ["long_above", "fast_percent", "us_percent", "search"]
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class UsageRecord(models.Model):
    """One row per provider call, made before the POST. Only chat/spend/ writes here.

    HELD: the money is put aside and nothing is sent yet. Spend belongs to the period of `admitted_at`.
    """

    class Purpose(models.TextChoices):
        REPLY = "reply", "Answer"
        TITLE = "title", "Title"
        SUMMARY = "summary", "Summary"

    class State(models.TextChoices):
        HELD = "held", "Waiting"
        SENT = "sent", "Running"
        SETTLED = "settled", "Settled"
        VOID = "void", "Not billed"

    OPEN = (State.HELD, State.SENT)

    class Unusual(models.TextChoices):
        """Why somebody should look at a call. The first that is true."""

        DEAR = "dear", "Above the ceiling in dollars"
        LONG = "long", "Above the ceiling in tokens"
        FAR = "far", "Far above the person's usual"

    class Confidence(models.TextChoices):
        EXACT = "exact"
        ESTIMATED = "estimated"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey("chat.User", models.SET_NULL, null=True, related_name="usage_records")
    group = models.ForeignKey("auth.Group", models.SET_NULL, null=True, blank=True, related_name="usage_records")
    conversation = models.ForeignKey(
        "chat.Conversation", models.SET_NULL, null=True, blank=True, related_name="usage_records"
    )
    turn = models.ForeignKey("chat.Turn", models.SET_NULL, null=True, blank=True, related_name="usage_records")
    purpose = models.CharField(max_length=10, choices=Purpose)
    attempt = models.PositiveIntegerField(default=1)
    model = models.CharField(max_length=100)
    price = models.ForeignKey(Price, models.PROTECT, related_name="+")
    price_numbers = models.JSONField()
    input_bound = models.PositiveIntegerField(help_text="Tokens; the prompt cannot have more.")
    terms = models.JSONField(default=dict, help_text="What it may be billed as: the rest of pricing.Terms.")
    max_tokens = models.PositiveIntegerField()
    fitted = models.BooleanField(default=False, help_text="max_tokens was lowered to what the budgets hold.")
    input_tokens = models.PositiveIntegerField(default=0)
    cache_write_5m_tokens = models.PositiveIntegerField(default=0)
    cache_write_1h_tokens = models.PositiveIntegerField(default=0)
    cache_read_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    thinking_tokens = models.PositiveIntegerField(default=0, help_text="Part of the output.")
    searches = models.PositiveIntegerField(default=0)
    unknown_tokens = models.PositiveIntegerField(
        default=0, help_text="Of kinds that no price names: billed at the dearest rate, and an alarm."
    )
    usage = models.JSONField(default=dict, help_text="As the provider reported it, unknown fields included.")
    stop_reason = models.CharField(max_length=60, blank=True)
    request_id = models.CharField(max_length=100, blank=True)
    message_id = models.CharField(max_length=100, blank=True)
    first_token_ms = models.PositiveIntegerField(null=True, blank=True)
    duration_ms = models.PositiveIntegerField(null=True, blank=True)
    hidden_ms = models.PositiveIntegerField(
        default=0, help_text="Milliseconds in which tokens may have been made that we do not see."
    )
    held = MoneyField()
    cost = MoneyField(default=0)
    confidence = models.CharField(max_length=10, choices=Confidence, default=Confidence.EXACT)
    unusual = models.CharField(max_length=10, choices=Unusual, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.SENT)
    admitted_at = models.DateTimeField(help_text="By the database's clock, as the others.")
    sent_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(held__gte=0), name="usage_held_not_negative"),
            models.CheckConstraint(condition=Q(cost__gte=0), name="usage_cost_not_negative"),
            models.CheckConstraint(condition=~Q(state="void") | Q(cost=0), name="usage_void_costs_nothing"),
            models.UniqueConstraint(
                fields=["turn"],
                condition=Q(state__in=["held", "sent"], purpose="reply"),
                name="usage_one_open_per_turn",
            ),
            models.UniqueConstraint(
                fields=["conversation"],
                condition=Q(purpose="title") & ~Q(state="void"),
                name="usage_one_title_per_conversation",
            ),
        ]
        indexes = [
            models.Index(fields=["user", "admitted_at"], name="usage_by_user"),
            models.Index(fields=["admitted_at"], name="usage_by_time"),
            models.Index(fields=["admitted_at"], condition=~Q(unusual=""), name="usage_unusual"),
            models.Index(fields=["admitted_at"], condition=Q(state__in=["held", "sent"]), name="usage_open"),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} on {self.model} ({self.state})"

    @property
    def prompt_tokens(self) -> int:
        """All that was sent, cached or not."""
        return self.input_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens + self.cache_read_tokens


class LedgerEntry(WriteOnceModel):
    """Append-only. What an account spent is the sum of its charges and adjustments, what it holds the sum of
    its holds and releases. Only chat/spend/ writes here, and chat/budgets.py when it opens a period; triggers refuse
    UPDATE and DELETE.
    """

    class Kind(models.TextChoices):
        HOLD = "hold"
        RELEASE = "release"
        CHARGE = "charge"
        ADJUST = "adjust"

    kind = models.CharField(max_length=10, choices=Kind)
    amount = MoneyField(help_text="Signed: a release takes back what its hold put in.")
    key = models.CharField(max_length=120, unique=True, help_text="Makes writing it twice impossible.")
    period = models.ForeignKey("chat.BudgetPeriod", models.PROTECT, related_name="entries")
    record = models.ForeignKey(
        UsageRecord,
        models.PROTECT,
        null=True,
        related_name="entries",
        help_text="None: what was spent before.",
    )
    actor = models.CharField(max_length=40, blank=True, help_text="user:7 of who corrected it; no name.")
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "ledger entries"
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["hold", "charge"], amount__gte=0)
                | Q(kind="release", amount__lte=0)
                | Q(kind="adjust"),
                name="ledger_sign_fits_kind",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount}"
