"""The models in use, as the provider and our prices see them."""

import io
from datetime import UTC, date, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from django.db.models.functions import Now

from chat import alarms, catalogue, model_check
from chat.claude import organization
from chat.claude.organization import Life
from chat.models import Alarm, Conversation, Price
from chat.money import nano
from chat.pricing import KINDS
from tests.books import HAIKU, OPUS, SONNET
from tests.servers import free_port

pytestmark = pytest.mark.django_db

# Retires on 2026-11-30: near its end, or behind it.
OLD = "claude-sonnet-4-5"
NOBODY_KNOWS = "claude-next-9"


@pytest.fixture
def talk_with(alice):
    """`talk_with(model)`: Alice has a conversation with it."""
    return lambda model: alice.conversations.create(model=model)


@pytest.fixture
def lives(monkeypatch):
    """`lives(model=Life(…))`: the provider's word about some models; the others are active."""

    def lives(known: dict) -> None:
        active = Life("active", None)
        monkeypatch.setattr(organization, "lives", lambda names: {name: known.get(name, active) for name in names})

    lives({})
    return lives


@pytest.fixture
def unreachable(settings):
    settings.ANTHROPIC_BASE_URL = f"http://127.0.0.1:{free_port()}"


def priced(model: str, dollars: str) -> None:
    """From now on every kind of token costs so much a million."""
    Price.objects.create(model=model, effective_from=Now(), source="a test", **dict.fromkeys(KINDS, nano(dollars)))


def open_alarms() -> set:
    return set(Alarm.objects.filter(closed_at=None).values_list("kind", "subject"))


def run() -> str:
    out = io.StringIO()
    call_command("check_models", stdout=out, stderr=out)
    return out.getvalue()


# --- Asked over HTTP


def test_models_that_are_offered_have_a_price_and_are_active(sandbox):
    checked, why_not = model_check.check()

    assert {one.model for one in checked} == {model.id for model in catalogue.offered()} | {HAIKU}
    assert {one.life.stage for one in checked} == {"active"}
    assert why_not == ""
    assert open_alarms() == set()


def test_the_command_shows_price_and_lifecycle_of_each(sandbox):
    lines = run().splitlines()

    [sonnet] = [line for line in lines if line.startswith(SONNET)]
    assert sonnet.split() == [SONNET, "$2.00", "in,", "$10.00", "out", "per", "million", "active", "-"]
    assert len(lines) == 1 + len(catalogue.offered())


def test_a_model_that_retires_is_an_alarm_with_its_date(sandbox, talk_with):
    talk_with(OLD)

    with pytest.raises(CommandError, match=rf"{OLD} on 2026-11-30"):
        run()

    assert open_alarms() == {("model_retiring", OLD)}
    assert "2026-11-30" in Alarm.objects.get().words


def test_a_model_that_the_provider_does_not_know_is_an_alarm(sandbox, talk_with):
    talk_with(NOBODY_KNOWS)

    with pytest.raises(CommandError) as failed:
        run()

    assert f"does not know {NOBODY_KNOWS}" in str(failed.value)
    assert open_alarms() == {("unknown_model", NOBODY_KNOWS), ("no_price", NOBODY_KNOWS)}


@pytest.mark.parametrize("name", ["claude-haiku-4-5", "claude-haiku-4-5-20251001"])
def test_a_model_is_known_by_its_dated_name_and_by_the_other(sandbox, talk_with, name):
    talk_with(name)

    checked, _ = model_check.check()

    [life] = [one.life for one in checked if one.model == "claude-haiku-4-5"]
    assert life.stage == "active"
    assert open_alarms() == set()


def test_every_page_of_the_list_is_read(sandbox, monkeypatch):
    monkeypatch.setattr(organization, "MODELS_PER_PAGE", 2)
    monkeypatch.setattr(organization, "_life_of", lambda client, name: pytest.fail(f"{name} was not in the list"))

    known = organization.lives({HAIKU, OPUS, SONNET, "claude-opus-4-7", "claude-mythos-5"})

    assert {life.stage for life in known.values()} == {"active"}


# --- What is in use


@pytest.mark.parametrize("name", ["DEFAULT_MODEL", "TITLE_MODEL"])
def test_a_model_of_the_settings_is_in_use(lives, settings, name):
    setattr(settings, name, OLD)

    checked, _ = model_check.check()

    assert OLD in {one.model for one in checked}


def test_what_nobody_has_used_for_a_month_is_not_in_use(lives, talk_with):
    conversation = talk_with(OLD)
    at_30_days = Now() - timedelta(days=30)

    Conversation.objects.filter(id=conversation.id).update(updated_at=at_30_days + timedelta(hours=1))
    assert OLD in {one.model for one in model_check.check()[0]}

    Conversation.objects.filter(id=conversation.id).update(updated_at=at_30_days - timedelta(seconds=1))
    assert OLD not in {one.model for one in model_check.check()[0]}


def test_a_model_by_two_names_is_one(lives, talk_with):
    talk_with("claude-haiku-4-5")
    talk_with("claude-haiku-4-5-20251001")

    names = [one.model for one in model_check.check()[0]]

    assert names.count("claude-haiku-4-5") == 1
    assert "claude-haiku-4-5-20251001" not in names


# --- Lifecycle


@pytest.mark.parametrize(
    ("stage", "days", "sounds"),
    [
        ("active", None, False),
        ("active", 61, False),
        ("active", 60, True),
        ("active", 0, True),
        ("deprecated", None, True),
        ("deprecated", 400, True),
        ("retired", -1, True),
        ("retired", None, True),
    ],
)
def test_sixty_days_before_its_end_or_once_deprecated_a_model_is_an_alarm(lives, stage, days, sounds):
    retires_on = None if days is None else datetime.now(UTC).date() + timedelta(days=days)
    lives({SONNET: Life(stage, retires_on)})

    model_check.check()

    assert open_alarms() == ({("model_retiring", SONNET)} if sounds else set())


def test_a_retired_model_is_spoken_of_in_the_past(lives):
    lives({SONNET: Life("retired", date(2026, 11, 1)), HAIKU: Life("deprecated", None)})

    model_check.check()

    words = dict(Alarm.objects.values_list("subject", "words"))
    assert words[SONNET].startswith(f"Anthropic has retired {SONNET} on 2026-11-01.")
    assert words[HAIKU].startswith(f"Anthropic will retire {HAIKU}, and has not said when.")


# --- Prices


@pytest.mark.parametrize("dollars", ["0", "-1"])
def test_a_price_that_would_give_answers_away_is_an_alarm_until_there_is_a_real_one(lives, dollars):
    priced(SONNET, dollars)
    model_check.check()
    assert open_alarms() == {("no_price", SONNET)}

    priced(SONNET, "3")
    checked, _ = model_check.check()

    assert open_alarms() == set()
    assert [one.price_words for one in checked if one.model == SONNET] == ["$3.00 in, $3.00 out per million"]


def test_the_command_says_that_a_price_is_missing(lives, settings):
    settings.MODELS = [SONNET, NOBODY_KNOWS]
    out = io.StringIO()

    with pytest.raises(CommandError, match=f"{NOBODY_KNOWS} has no usable price"):
        call_command("check_models", stdout=out)

    assert [line.split()[1] for line in out.getvalue().splitlines() if line.startswith(NOBODY_KNOWS)] == ["none"]


# --- Settled when it is over


def test_an_alarm_ends_with_its_reason(lives):
    lives({SONNET: Life("deprecated", None), HAIKU: None})
    model_check.check()
    assert open_alarms() == {("model_retiring", SONNET), ("unknown_model", HAIKU)}

    lives({})
    model_check.check()

    assert open_alarms() == set()


def test_an_alarm_about_a_model_that_is_no_longer_in_use_ends(lives, talk_with):
    lives({OLD: Life("deprecated", None)})
    talk_with(OLD)
    model_check.check()
    assert open_alarms() == {("model_retiring", OLD)}

    Conversation.objects.update(updated_at=F("updated_at") - timedelta(days=31))
    model_check.check()

    assert open_alarms() == set()


def test_checking_again_is_the_same_alarm(lives):
    lives({SONNET: Life("deprecated", None)})

    model_check.check()
    model_check.check()

    assert Alarm.objects.get().count == 2


def test_other_alarms_are_left_alone(lives):
    alarms.sound("drift", "About a day.", subject="2026-11-20")
    alarms.sound("unknown_model", "About no model in particular.")

    model_check.check()

    assert open_alarms() == {("drift", "2026-11-20"), ("unknown_model", "")}


# --- When nobody answers


def test_where_the_provider_cannot_be_asked_the_shipped_date_stands(unreachable, talk_with):
    talk_with(OLD)

    checked, why_not = model_check.check()

    assert why_not.startswith("unreachable")
    assert open_alarms() == {("model_retiring", OLD)}
    assert [one.life.retires_on for one in checked if one.model == OLD] == [date(2026, 11, 30)]


def test_the_command_says_that_the_provider_was_not_asked(unreachable):
    said = run()

    assert said.startswith("Anthropic could not be asked (unreachable")
    assert "not asked" in said.splitlines()[2]


def test_without_a_key_the_shipped_dates_stand(settings):
    settings.ANTHROPIC_API_KEY = settings.ANTHROPIC_BASE_URL = ""

    assert model_check.check()[1] == "no_key: ANTHROPIC_API_KEY is not set"


def test_a_refused_key_is_not_taken_for_an_unknown_model(sandbox, settings):
    settings.ANTHROPIC_API_KEY = "not-this-one"

    _, why_not = model_check.check()

    assert why_not.startswith("provider_auth: HTTP 401")
    assert open_alarms() == set()


def test_what_only_the_provider_knows_is_not_settled_without_it(unreachable):
    for kind in ("model_retiring", "unknown_model", "no_price"):
        alarms.sound(kind, "Said before.", subject=SONNET)

    model_check.check()

    assert open_alarms() == {("model_retiring", SONNET), ("unknown_model", SONNET)}
