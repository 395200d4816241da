"""Django's admin for everything, with the money read-only."""

from chat.admin import alarms, conversations, money, people  # noqa: F401  registers the models
