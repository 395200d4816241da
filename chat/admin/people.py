from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from chat import submission
from chat.models import Turn, User


@admin.register(User)
class PersonAdmin(UserAdmin):
    def get_deleted_objects(self, objs, request):
        """A person's turns go with them. That nobody may delete those one by one is no reason to keep a person."""
        to_delete, counts, needed, protected = super().get_deleted_objects(objs, request)
        return to_delete, counts, needed - {Turn._meta.verbose_name}, protected

    def save_model(self, request, obj, form, change) -> None:
        """Whoever may no longer sign in has nothing written for them any more either."""
        super().save_model(request, obj, form, change)
        if not obj.is_active:
            submission.stop(obj.turns.all())
