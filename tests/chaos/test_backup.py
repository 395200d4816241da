"""C42: the commands of docs/operations.md, on a system with turns under way: backup, restore, migration."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from django.conf import settings
from django.db import connection, connections

from chat.models import Turn
from tests import environment
from tests.chaos.conftest import begun, ended
from tests.chaos.product import NAMES
from tests.conftest import wait_until
from tests.servers import postgres_programs

OPERATIONS = Path(settings.BASE_DIR) / "docs/operations.md"


@pytest.fixture
def operate(product, tmp_path):
    """`operate("pg_dump")`: run the line of the chapter on backups that has this word, where the product is."""
    chapter = OPERATIONS.read_text().partition("\n## Backups\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```$", chapter, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]

    def operate(word: str) -> None:
        [line] = [line for line in lines if word in line]
        done = subprocess.run(
            ["sh", "-c", _here(line)],
            cwd=tmp_path,
            env={**product.environment, **_of_postgres()},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"

    return operate


@pytest.fixture
def back_up(operate):
    return lambda: operate("pg_dump" if environment.on_postgres else "VACUUM INTO")


@pytest.fixture
def restore(operate):
    def restore() -> None:
        connections.close_all()
        for word in ["pg_restore"] if environment.on_postgres else ["rm -f", "cp tally-backup"]:
            operate(word)
        operate("docker compose run --rm web python manage.py migrate")

    return restore


def test_c42_a_restored_backup_goes_on_where_it_was_taken(product, me, chats, sandbox, posts, back_up, restore):
    running, waiting, later = chats(3)
    # Few tokens, because they go on being written, and billed, until the worker dies: after the backup.
    sandbox.enqueue(tokens=100, rate=10)
    sandbox.enqueue(say="Forty-two.")
    interrupted = me.ask("Tell me a long story", to=running)
    begun(interrupted)
    product["worker"].pause()
    queued = me.ask("What is the answer?", to=waiting)
    back_up()
    me.ask("What was asked after the backup?", to=later)

    for name in NAMES:
        product[name].kill()
    restore()
    product.heal()

    reply = me.page(ended(queued))
    assert (reply.status, reply.text) == ("done", "Forty-two.")
    assert queued.usage_records.get().confidence == "exact"
    reply = me.page(ended(interrupted))
    assert reply.status == "interrupted"
    assert reply.text
    assert "Try again" in reply.buttons
    assert interrupted.usage_records.get().confidence == "estimated"
    assert Turn.objects.count() == 2
    assert posts() == 2


def test_c42_a_migration_under_an_answer_does_not_disturb_it(product, me, conversation, sandbox, posts, whole):
    story = " ".join(f"word{number}" for number in range(80))
    sandbox.enqueue(say=story, rate=40)
    turn = me.ask("Tell me a story", to=conversation)
    tab = me.watch(turn)
    begun(turn)

    for target in ([], ["chat", "0001"], []):
        _manage(product, "migrate", *target)

    whole(turn, story, tab)
    assert tab.breaks == 0
    assert posts() == 1


def test_c42_an_old_backup_need_not_be_asked_again(product, me, conversation, posts, operate, back_up, restore):
    product["worker"].pause()
    turn = me.ask("What was answered long ago?", to=conversation)
    back_up()

    for name in NAMES:
        product[name].kill()
    restore()
    operate("submission.stop")
    product.heal()

    assert me.page(ended(turn)).ending == "Stopped."
    wait_until(lambda: turn.usage_records.get().state == "void", "its money is still held")
    assert posts() == 0


def _here(line: str) -> str:
    """A command of the documentation, for this database instead of that of a clone or of the containers."""
    name, python = str(connection.settings_dict["NAME"]), shlex.quote(sys.executable)
    manage = f"{python} {shlex.quote(str(settings.BASE_DIR / 'manage.py'))}"
    for theirs, ours in {
        ".venv/bin/python": python,  # first: ours may end in it
        "docker compose exec -T postgres ": "",
        "docker compose run --rm web python manage.py": manage,
        "-d tally": f"-d {name}",
        "-Fc tally": f"-Fc {name}",
        "var/tally.sqlite3": name,
    }.items():
        line = line.replace(theirs, ours)
    return line


def _of_postgres() -> dict[str, str]:
    if not environment.on_postgres:
        return {}
    host, _, port = urlsplit(environment.postgres).netloc.rpartition("@")[2].rpartition(":")
    path = f"{postgres_programs()}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "PGHOST": unquote(host), "PGPORT": port}


def _manage(product, *arguments: str) -> None:
    command = [sys.executable, "manage.py", *arguments]
    subprocess.run(command, cwd=settings.BASE_DIR, env=product.environment, check=True, capture_output=True)
