"""var/local.env: what config/settings.py reads where the real environment says nothing."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from local import redis
from local.ports import LOOPBACK, free_port

# The stand-in's own default: its invoice is no secret.
SANDBOX_ADMIN_KEY = "sandbox-admin-key"
HEADING = "# `make run` keeps this file. Lines of your own stay; the real environment wins over all of them."


def refresh(path: Path, environ: Mapping[str, str], redis_socket: Path) -> dict[str, str]:
    """Write what this run needs and return it. A Redis or a Claude that `environ` names is not replaced."""
    values = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "HTTPS": "False",
        "ALLOWED_HOSTS": "127.0.0.1,localhost,[::1]",
        **_read(path),
    }
    values.pop("REDIS_URL", None)
    if "REDIS_URL" not in environ:
        values["REDIS_URL"] = redis.url(redis_socket)
    if values.pop("SANDBOX", "") == "True":
        # Those of the last run's sandbox. Without that mark they are lines of the user's own.
        values.pop("ANTHROPIC_BASE_URL", None)
        values.pop("ANTHROPIC_API_KEY", None)
        if values.get("ANTHROPIC_ADMIN_KEY") == SANDBOX_ADMIN_KEY:
            del values["ANTHROPIC_ADMIN_KEY"]
    if not {"ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"} & {*values, *environ}:
        values["ANTHROPIC_BASE_URL"] = f"http://{LOOPBACK}:{free_port()}"
        values["ANTHROPIC_API_KEY"] = f"sandbox-{secrets.token_urlsafe(18)}"
        values.setdefault("ANTHROPIC_ADMIN_KEY", SANDBOX_ADMIN_KEY)
        values["SANDBOX"] = "True"
    _write(path, values)
    return values


def _read(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def _write(path: Path, values: Mapping[str, str]) -> None:
    # A command that starts meanwhile reads the old file or the new one, never half of one.
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join([HEADING, *(f"{name}={value}" for name, value in values.items()), ""]))
    draft.replace(path)
