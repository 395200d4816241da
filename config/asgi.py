import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django_application = get_asgi_application()

from chat.relay import Relay  # noqa: E402  needs the app registry that the line above fills

application = Relay(django_application)
