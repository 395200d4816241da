"""`manage.py check` says what an operator has forgotten."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.core.checks import Error, Tags, Warning, register

from chat import catalogue


@register()
def models_are_offered(app_configs, **kwargs):
    ids = {model.id for model in catalogue.offered()}
    if settings.DEFAULT_MODEL not in ids:
        yield Error(
            f"DEFAULT_MODEL is {settings.DEFAULT_MODEL!r}, which is not offered.",
            hint=f"Offered are: {', '.join(sorted(ids))}. The MODELS setting names others.",
            id="tally.E001",
        )


@register()
def titles_have_a_model(app_configs, **kwargs):
    if settings.TITLE_MODEL not in {model.id for model in (*catalogue.shipped(), *catalogue.offered())}:
        yield Error(
            f"TITLE_MODEL is {settings.TITLE_MODEL!r}, which Tally does not know.",
            hint="Without a model that has a price no conversation gets a title.",
            id="tally.E003",
        )


@register()
def summaries_have_a_model(app_configs, **kwargs):
    if settings.SUMMARY_MODEL not in {model.id for model in (*catalogue.shipped(), *catalogue.offered())}:
        yield Error(
            f"SUMMARY_MODEL is {settings.SUMMARY_MODEL!r}, which Tally does not know.",
            hint="Without a model that has a price the older turns of a long chat cannot be summarised.",
            id="tally.E004",
        )


@register()
def time_zone_exists(app_configs, **kwargs):
    try:
        ZoneInfo(settings.TIME_ZONE)
    except (ZoneInfoNotFoundError, ValueError):
        yield Error(
            f"TIME_ZONE is {settings.TIME_ZONE!r}, which is not a time zone.",
            hint="Budgets start again at midnight there; use a name such as Europe/Paris.",
            id="tally.E002",
        )


@register(Tags.security, deploy=True)
def somebody_can_answer(app_configs, **kwargs):
    if settings.SANDBOX:
        yield Warning(
            "SANDBOX is on: answers come from a stand-in, not from Claude.",
            hint="Set ANTHROPIC_API_KEY for the worker and remove SANDBOX.",
            id="tally.W001",
        )
