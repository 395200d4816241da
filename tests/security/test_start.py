"""A wrong setting stops the start and says which; a production that is set up right has nothing to warn of."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
SOUND = {
    "PATH": os.environ["PATH"],
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "SECRET_KEY": "Wq3-a-long-and-random-value-for-production-0a8f7e6d5c4b3a29181706f5",
    "DEBUG": "False",
    "HTTPS": "True",
    "SANDBOX": "False",
    "ALLOWED_HOSTS": "tally.example",
    "DATABASE_URL": "sqlite://:memory:",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "ANTHROPIC_BASE_URL": "",
    "EMAIL_URL": "smtp://mail.example",
    # Collected by the session; a fresh clone has no var/static.
    "STATIC_ROOT": str(settings.STATIC_ROOT),
}
WRONG = {
    "SECRET_KEY": [""],
    "DEBUG": ["perhaps"],
    "HTTPS": ["perhaps"],
    "SANDBOX": ["perhaps"],
    "FAIL_AT": ["mid_answer"],
    "TIME_ZONE": ["Mars/Olympus", "../../etc/passwd"],
    "DATABASE_URL": ["mysql://root@db/tally", "nonsense", "oracle://x"],
    "REDIS_URL": ["http://127.0.0.1/", "127.0.0.1:6379"],
    "ANTHROPIC_BASE_URL": ["ftp://evil.example", "file:///etc/passwd"],
    "SITE_URL": ["tally.example.org", "ftp://tally.example.org", "https://"],
    "EMAIL_URL": ["pigeon://coop", "smtp://mail.example:post"],
    "LEASE_SECONDS": ["0", "-1", "soon", "nan"],
    "SWEEP_SECONDS": ["0"],
    "RING_AGAIN_SECONDS": ["0"],
    "CHECKPOINT_SECONDS": ["0"],
    "GATHER_SECONDS": ["0"],
    "NO_PROGRESS_SECONDS": ["0"],
    "TURN_DEADLINE_SECONDS": ["0"],
    "RETRY_PATIENCE_SECONDS": ["0"],
    "WEB_THREADS": ["0", "many"],
    "SEARCHES_PER_ANSWER": ["-1", "6", "many", "1.5"],
    "DEFAULT_LIMIT": ["0", "-5", "much", "nan", "inf"],
    "CALL_CEILING_DOLLARS": ["0", "-5", "much", "nan", "inf"],
    "CALL_CEILING_TOKENS": ["0", "-1", "many", "1.5"],
    "LARGEST_FILE_MB": ["0", "21", "many"],
    "FILES_PER_MESSAGE": ["0", "many"],
    "UNSENT_FILES": ["0", "many"],
    "UNSENT_FILES_MB": ["0", "many"],
    "UNSENT_FILE_DAYS": ["0", "soon"],
    "INFERENCE_GEO": ["US", "moon"],
    "DEFAULT_MODEL": ["gpt-4"],
    "TITLE_MODEL": ["gpt-4"],
    "SUMMARY_MODEL": ["gpt-4"],
    "SUMMARISE_AT_PERCENT": ["-1", "96", "most"],
    "MODELS": ["gpt-4"],
}
# Any text may be right: only the world outside can tell.
FREE = {
    "ALLOWED_HOSTS",
    "ANTHROPIC_ADMIN_KEY",
    "ANTHROPIC_API_KEY",
    "DEFAULT_FROM_EMAIL",
    "MEDIA_ROOT",
    "METRICS_TOKEN",
    "STATIC_ROOT",
}
CASES = [(name, value) for name, values in WRONG.items() for value in values]

# A start takes seconds, most of them for imports. Here they are made once, and each start is a fork.
STARTER = """
import json, os, sys, tempfile
import config, dj_database_url, environs, structlog, django.utils.csp
from django.core.management import execute_from_command_line
answers = []
for environment in json.load(sys.stdin):
    with tempfile.TemporaryFile() as said:
        if not (child := os.fork()):
            os.dup2(said.fileno(), 2)
            os.environ.clear()
            os.environ.update(environment)
            execute_from_command_line(["manage.py", "check"])
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        answers.append([status, said.read().decode()])
json.dump(answers, sys.stdout)
"""


@pytest.fixture(scope="module")
def starts() -> dict:
    """{(setting, value): (exit code, last line on standard error)}"""
    environments = [{**SOUND, name: value} for name, value in CASES]
    done = subprocess.run(
        [sys.executable, "-c", STARTER],
        input=json.dumps(environments),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
    )
    return dict(zip(CASES, json.loads(done.stdout.splitlines()[-1]), strict=True))


def test_every_setting_of_the_environment_has_a_wrong_value_here():
    source = (ROOT / "config/settings.py").read_text()
    read = set(re.findall(r'(?:env\.\w+|positive)\("([A-Z_]+)"', source))

    assert read == set(WRONG) | FREE, "Say in WRONG what a new setting must refuse, or in FREE that it takes any text."


@pytest.mark.parametrize(
    ("name", "value"),
    CASES,
)
def test_a_wrong_setting_stops_the_start_and_says_which(name, value, starts):
    code, said = starts[name, value]

    assert code == 1
    assert name in said


def production(*command: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, env={**SOUND, **environment}
    )


def test_a_production_that_is_set_up_right_has_nothing_to_warn_of():
    done = production("manage.py", "check", "--deploy", "--fail-level", "WARNING")

    assert done.returncode == 0, done.stderr


VISIT = """
import json, django
django.setup()
from django.contrib.sessions.middleware import SessionMiddleware
from django.contrib.sessions.models import Session
from django.db import connection
from django.http import HttpResponse
from django.test import Client, RequestFactory

def view(request):
    request.session["something"] = "to keep"
    return HttpResponse()

with connection.schema_editor() as schema:
    schema.create_model(Session)
client = Client(headers={"Host": "tally.example"})
plain = client.get("/conversations/")
page = client.get("/accounts/login/", secure=True)
cookies = client.cookies | SessionMiddleware(view)(RequestFactory().get("/")).cookies
print(json.dumps({
    "plain": [plain.status_code, plain["Location"]],
    "headers": dict(page.items()),
    "cookies": {name: cookie.OutputString() for name, cookie in cookies.items()},
}))
"""


@pytest.fixture(scope="module")
def visit() -> dict:
    """What a browser gets from a production."""
    done = production("-W", "ignore", "-c", VISIT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_production_speaks_https_only(visit):
    """ASVS V3.4.1, V12.2."""
    assert visit["plain"] == [301, "https://tally.example/conversations/"]
    assert visit["headers"]["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains; preload"


def test_cookies_are_for_this_host_this_protocol_and_no_script(visit):
    """ASVS V3.3.1 to V3.3.4."""
    session, csrf = visit["cookies"]["__Host-sessionid"], visit["cookies"]["__Host-csrftoken"]

    for cookie in (session, csrf):
        attributes = {part.strip() for part in cookie.split(";")}
        assert {"Secure", "Path=/", "SameSite=Lax"} <= attributes
        assert "Domain" not in cookie
    assert "HttpOnly" in session
