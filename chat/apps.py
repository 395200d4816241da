from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_migrate


class ChatConfig(AppConfig):
    name = "chat"
    verbose_name = "Tally"

    def ready(self) -> None:
        from chat import checks, setup  # noqa: F401  registers the checks

        pre_migrate.connect(setup.before_migrate, sender=self)
        post_migrate.connect(setup.after_migrate, sender=self)
