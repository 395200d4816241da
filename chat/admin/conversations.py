"""What an admin may see of a chat: that it exists. Never a word of it."""

from django.contrib import admin

from chat.admin.money import ReadOnly
from chat.models import Turn


@admin.register(Turn)
class TurnAdmin(ReadOnly):
    list_display = ["id", "user", "state", "model", "attempt", "error", "created_at", "finished_at"]
    list_filter = ["state", "model", "error"]
    list_select_related = ["user"]
    fields = [
        "id",
        "user",
        "state",
        "model",
        "effort",
        "attempt",
        "error",
        "stop_reason",
        "created_at",
        "finished_at",
    ]
