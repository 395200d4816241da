from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from chat import submission
from chat.models import User


@admin.register(User)
class PersonAdmin(UserAdmin):
    def save_model(self, request, obj, form, change) -> None:
        """Whoever may no longer sign in has nothing written for them any more either."""
        super().save_model(request, obj, form, change)
        if not obj.is_active:
            submission.stop(obj.turns.all())
