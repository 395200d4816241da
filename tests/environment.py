"""The world of the tests, made before Django reads its settings: pytest loads this file first (`-p` in pyproject.toml).

A private Redis, the sandbox model over HTTP, SQLite or (TEST_DATABASE=postgres) a private PostgreSQL. Leases and
pauses are short; everything else is as in production.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from chat.sandbox import Sandbox
from tests.servers import postgres_url, start_redis, stop

directory = Path(tempfile.mkdtemp(prefix="tally-tests-"))
atexit.register(shutil.rmtree, directory, ignore_errors=True)

redis_url, _redis = start_redis(directory)
atexit.register(stop, _redis)

sandbox = Sandbox(key="key-of-the-tests", ttft_ms=5, rate=2000)
sandbox.start()
atexit.register(sandbox.stop)

on_postgres = os.environ.get("TEST_DATABASE") == "postgres"

postgres = postgres_url() if on_postgres else ""


def postgres_named(name: str) -> str:
    """The URL of another database of the same server, for processes beside the tests."""
    return f"{postgres.rpartition('/')[0]}/{name}"


os.environ.update(
    SECRET_KEY="secret-of-the-tests-0123456789-0123456789-0123456789",
    HTTPS="False",
    DEBUG="False",
    SANDBOX="False",
    TIME_ZONE="Europe/Paris",
    ALLOWED_HOSTS="127.0.0.1,localhost,testserver",
    DATABASE_URL=postgres if on_postgres else f"sqlite:///{directory / 'tally.sqlite3'}",
    REDIS_URL=redis_url,
    ANTHROPIC_BASE_URL=sandbox.url,
    ANTHROPIC_API_KEY="key-of-the-tests",
    ANTHROPIC_ADMIN_KEY="sandbox-admin-key",
    STATIC_ROOT=str(directory / "static"),
    MEDIA_ROOT=str(directory / "media"),
    METRICS_TOKEN="metrics-of-the-tests",
    EMAIL_URL="console://",
    LEASE_SECONDS="3",
    SWEEP_SECONDS="0.2",
    RING_AGAIN_SECONDS="1",
    CHECKPOINT_SECONDS="0.2",
)
for name in ("MODELS", "DEFAULT_MODEL", "TITLE_MODEL", "SUMMARY_MODEL", "SUMMARISE_AT_PERCENT", "DEFAULT_LIMIT"):
    os.environ.pop(name, None)
