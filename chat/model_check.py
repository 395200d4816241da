"""Whether the models in use can go on being used: their price, and how long the provider keeps them."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import structlog
from django.conf import settings
from django.db.models.functions import Now

from chat import alarms, catalogue, spend
from chat.catalogue import ClaudeModel
from chat.claude import ClaudeError, organization
from chat.claude.organization import Life
from chat.models import Alarm, Conversation, Price
from chat.money import spoken

log = structlog.get_logger(__name__)

IN_USE_FOR = timedelta(days=30)
# So long before its end is time to choose another model.
WARNED_BEFORE = timedelta(days=60)
# Alarms about what only the provider knows.
OF_THE_PROVIDER = ("model_retiring", "unknown_model")


@dataclass(frozen=True)
class Checked:
    """A model in use. `life` is None when the provider does not know it; `alarms`: words by kind."""

    model: str
    price: Price | None
    life: Life | None
    alarms: dict[str, str]

    @property
    def price_words(self) -> str:
        if self.price is None:
            return "none"
        return f"{spoken(self.price.input)} in, {spoken(self.price.output)} out per million"


def check() -> tuple[list[Checked], str]:
    """Look at every model in use; sound what is wrong and settle what no longer is.

    The second value is why the provider could not be asked, or empty. Then the shipped dates of retirement stand
    for its word, and no alarm that rests on its word is settled.
    """
    models = _in_use()
    asked_at = datetime.now(UTC).date()
    why_not = ""
    try:
        lives = organization.lives({model.id for model in models})
    except ClaudeError as error:
        why_not = str(error)
        log.warning("models_not_asked_for", why=why_not)
        lives = {model.id: _shipped_life(model, asked_at) for model in models}
    checked = [_checked(model, lives[model.id], asked_at) for model in models]
    for one in checked:
        for kind, words in one.alarms.items():
            alarms.sound(kind, words, subject=one.model)
    _settle_the_others(checked, ("no_price",) if why_not else ("no_price", *OF_THE_PROVIDER))
    return checked, why_not


def _in_use() -> list[ClaudeModel]:
    recent = Conversation.objects.filter(updated_at__gte=Now() - IN_USE_FOR)
    names = [settings.DEFAULT_MODEL, settings.TITLE_MODEL, settings.SUMMARY_MODEL]
    names += recent.values_list("model", flat=True).distinct()
    models = [*catalogue.offered(), *map(catalogue.find, filter(None, names))]
    return sorted({model.id: model for model in models}.values(), key=lambda model: model.id)


def _shipped_life(model: ClaudeModel, today: date) -> Life:
    if model.retires_on is None:
        return Life("not asked", None)
    retires_on = date.fromisoformat(model.retires_on)
    return Life("retired" if retires_on <= today else "not asked", retires_on)


def _checked(model: ClaudeModel, life: Life | None, today: date) -> Checked:
    found = {}
    try:
        price, _ = spend.current_price(model.id)
    except spend.Unpriceable:
        price = None
        found["no_price"] = f"{model.id} has no usable price, so nothing is sent to it. Add one, or stop offering it."
    if life is None:
        found["unknown_model"] = f"Anthropic does not know {model.id}. Take it out of MODELS, or choose another one."
    elif life.stage in ("deprecated", "retired") or (life.retires_on and life.retires_on <= today + WARNED_BEFORE):
        found["model_retiring"] = _retiring_words(model.id, life)
    return Checked(model.id, price, life, found)


def _retiring_words(name: str, life: Life) -> str:
    when = f" on {life.retires_on}" if life.retires_on else ""
    if life.stage == "retired":
        return f"Anthropic has retired {name}{when}. Choose another model, or its calls will fail."
    return f"Anthropic will retire {name}{when or ', and has not said when'}. Choose another model before."


def _settle_the_others(checked: list[Checked], kinds: tuple[str, ...]) -> None:
    """Of a model that is no longer in use, too."""
    wrong = {(kind, one.model) for one in checked for kind in one.alarms}
    # An alarm without a subject is not about a model.
    sounding = Alarm.objects.filter(closed_at=None, kind__in=kinds).exclude(subject="")
    for kind, subject in sounding.values_list("kind", "subject"):
        if (kind, subject) not in wrong:
            alarms.settle(kind, subject)
