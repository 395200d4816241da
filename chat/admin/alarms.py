from django.contrib import admin
from django.db.models import F
from django.db.models.functions import Now

from chat.admin.money import ReadOnly, amount
from chat.models import Alarm, BudgetWarning


@admin.register(Alarm)
class AlarmAdmin(ReadOnly):
    """What sounded. Closing one says that it was seen to; should it happen again, it sounds again."""

    list_display = ["kind", "subject", "words", "count", "first_at", "last_at", "mailed_at", "closed_at"]
    list_filter = ["kind", ("closed_at", admin.EmptyFieldListFilter)]
    ordering = [F("closed_at").desc(nulls_first=True), "-last_at"]
    actions = ["close"]

    def has_close_permission(self, request) -> bool:
        return request.user.has_perm("chat.change_alarm")

    @admin.action(description="Close", permissions=["close"])
    def close(self, request, alarms) -> None:
        closed = alarms.filter(closed_at=None).update(closed_at=Now())
        self.message_user(request, f"{closed} alarm{'' if closed == 1 else 's'} closed.")


@admin.register(BudgetWarning)
class BudgetWarningAdmin(ReadOnly):
    list_display = [
        "created_at",
        "period",
        "mode",
        "percent",
        amount("spent", "used"),
        amount("limit", "limit"),
        "mailed_at",
        "dismissed_at",
    ]
    list_filter = ["mode", "percent"]
    list_select_related = ["period"]
    search_fields = ["period__account"]
