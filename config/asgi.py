import os

import django
from django.conf import settings
from django.utils.csp import build_policy
from servestatic import ServeStaticASGI  # type: ignore[import-untyped]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)

from chat.relay import Relay  # noqa: E402  they need the apps that the line above has loaded
from config.handler import Handler  # noqa: E402

django_application = Handler()


def with_static_files(application) -> ServeStaticASGI:
    """Files go out before Django sees the request, so they get the headers of its middleware here."""
    policy = build_policy(settings.SECURE_CSP)

    def add_headers(headers, path: str, url: str) -> None:
        headers["Content-Security-Policy"] = policy
        headers["X-Content-Type-Options"] = "nosniff"

    return ServeStaticASGI(
        application,
        root=settings.STATIC_ROOT,
        prefix=settings.STATIC_URL,
        allow_all_origins=False,
        add_headers_function=add_headers,
    )


application = with_static_files(Relay(django_application))
