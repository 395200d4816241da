"""The database, the static files and the first admin, in a process of its own: supervisord's stays small."""

import os
import secrets
from collections.abc import Mapping

import django
from django.contrib.auth import get_user_model
from django.core.management import call_command


def main() -> None:
    """Print the one line about the admin; everything else goes to standard error."""
    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    print(ensure_admin(os.environ))


def ensure_admin(environ: Mapping[str, str]) -> str:
    """Make the admin that the environment names, or a first one. Says a password only if we chose it."""
    users = get_user_model().objects
    name = environ.get("DJANGO_SUPERUSER_USERNAME")
    admins = users.filter(is_superuser=True, is_active=True).order_by("date_joined")
    known = admins.filter(username=name).first() if name else admins.first()
    if known is not None:
        return f"{known.username} (new password: .venv/bin/python manage.py changepassword {known.username})"
    chosen = environ.get("DJANGO_SUPERUSER_PASSWORD")
    password = chosen or secrets.token_urlsafe(12)
    admin = users.create_superuser(
        username=name or "admin", email=environ.get("DJANGO_SUPERUSER_EMAIL", ""), password=password
    )
    if chosen:
        return f"{admin.username} (password from DJANGO_SUPERUSER_PASSWORD)"
    return f"{admin.username}, password {password} (shown only this once)"


if __name__ == "__main__":
    main()
