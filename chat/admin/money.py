from django.contrib import admin
from django.contrib.admin.options import ActionLocation
from django.urls import reverse
from django.utils.html import format_html

from chat.models import Budget, BudgetPeriod, BudgetRequest, LedgerEntry, Price, UsageRecord
from chat.money import spoken


class ReadOnly(admin.ModelAdmin):
    """To look at. What is written once is corrected by new rows, not here."""

    def has_add_permission(self, request) -> bool:
        return False

    def has_change_permission(self, request, obj=None) -> bool:
        return False

    def has_delete_permission(self, request, obj=None) -> bool:
        return False


def amount(field: str, label: str):
    """A column of dollars that still sorts by the exact figure."""

    @admin.display(description=label, ordering=field)
    def column(obj) -> str:
        value = getattr(obj, field)
        return "none" if value is None else spoken(value)

    return column


@admin.register(Price)
class PriceAdmin(admin.ModelAdmin):
    """Dollars per million tokens. A new price is a new row from a later date."""

    list_display = ["model", "effective_from", amount("input", "input"), amount("output", "output"), "source"]
    list_filter = ["model"]
    ordering = ["model", "-effective_from"]

    def has_change_permission(self, request, obj=None) -> bool:
        return False

    def has_delete_permission(self, request, obj=None) -> bool:
        return False


@admin.register(Budget)
class BudgetAdmin(admin.ModelAdmin):
    list_display = [
        "source_words",
        amount("limit", "limit"),
        "period",
        "mode",
        "user",
        "group",
        "valid_until",
    ]
    list_filter = ["kind", "period", "mode"]
    autocomplete_fields = ["user"]

    def has_delete_permission(self, request, obj=None) -> bool:
        """The limit for everyone can be changed, not taken away: nobody would be limited any more."""
        if obj and obj.kind == Budget.Kind.PERSONAL and not (obj.user_id or obj.group_id or obj.valid_until):
            return False
        return super().has_delete_permission(request, obj)

    def get_actions(self, request, action_location=ActionLocation.CHANGE_LIST):
        actions = super().get_actions(request, action_location)
        actions.pop("delete_selected", None)  # would pass by the rule above
        return actions


@admin.register(BudgetRequest)
class BudgetRequestAdmin(admin.ModelAdmin):
    list_display = ["user", amount("amount", "amount"), "until", "state", "decided_by"]
    list_filter = ["state"]
    autocomplete_fields = ["user", "decided_by"]


@admin.register(BudgetPeriod)
class BudgetPeriodAdmin(ReadOnly):
    list_display = [
        "account",
        "period",
        "start",
        amount("limit", "limit"),
        amount("spent", "spent"),
        amount("held", "held"),
    ]
    list_filter = ["period"]
    search_fields = ["account"]


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnly):
    list_display = [
        "admitted_at",
        "user",
        "purpose",
        "model",
        amount("cost", "cost"),
        "confidence",
        "state",
        "stop_reason",
    ]
    list_filter = ["state", "confidence", "unusual", "purpose", "model"]
    list_select_related = ["user"]
    search_fields = ["request_id", "message_id", "user__username"]
    exclude = ["conversation", "turn"]
    date_hierarchy = "admitted_at"

    def get_list_display(self, request):
        return [*self.list_display, "correction"] if _may_correct(request) else self.list_display

    def get_readonly_fields(self, request, obj=None):
        return ["correction"] if _may_correct(request) else []

    def get_fields(self, request, obj=None):
        return sorted(super().get_fields(request, obj), key=lambda name: name != "correction")  # first, as a button is

    @admin.display(description="correction")
    def correction(self, obj) -> str:
        if obj.state != UsageRecord.State.SETTLED:
            return "–"
        return format_html('<a href="{}">Correct this cost</a>', reverse("admin:call-correction", args=[obj.pk]))


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnly):
    list_display = ["created_at", "kind", amount("amount", "amount"), "period", "actor", "reason"]
    list_filter = ["kind"]
    list_select_related = ["period"]
    exclude = ["record"]


def _may_correct(request) -> bool:
    return request.user.has_perm("chat.add_ledgerentry")
