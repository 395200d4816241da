"""What the documents say and what the code has are the same."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat import alarms
from chat.metrics import registry
from chat.urls import urlpatterns

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
SETTINGS = ast.parse((ROOT / "config/settings.py").read_text())

_ROW = re.compile(r"^\| `([A-Z_]+)` \| (.*?) \|", re.MULTILINE)
_LINK = re.compile(r"(!?)\[[^\]]*\]\(([^()\s]+)\)")
_LOCAL = re.compile(
    r"""(?:environ\.(?:get|pop)\(|_count\(environ, )"([A-Z_]+)"|"([A-Z_]+)" (?:not )?in (?:os\.)?environ"""
)


def test_the_table_of_settings_is_the_one_that_is_read():
    product, local = _settings_that_are_read(), _local_settings_that_are_read()

    documented = [name for name, _ in _ROW.findall(README)]

    assert sorted(documented) == sorted(set(product) | local)


def test_the_table_of_settings_has_the_defaults_that_hold():
    documented = dict(_ROW.findall(README))

    wrong = {
        name: documented[name]
        for name, default in _settings_that_are_read().items()
        if default is not None and documented[name] != default
    }

    assert wrong == {}


def test_every_command_is_in_the_readme():
    commands = {path.stem for path in (ROOT / "chat/management/commands").glob("[a-z]*.py")}

    assert commands
    assert {command for command in commands if f"| `{command}" not in README} == set()


def test_every_make_target_is_in_the_readme():
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert targets
    # `make` alone is `make help`.
    assert {target for target in targets if not re.search(rf"\bmake {target}(?![\w-])", README)} == {"help"}


def test_every_address_is_in_the_readme():
    addresses = {"/" + re.sub(r"<uuid:\w+>", "<uuid>", str(route.pattern)) for route in urlpatterns} - {"/"}

    assert {address for address in addresses if f"`{address}`" not in README} == set()


def test_every_decision_is_in_the_readme():
    decisions = {path.name for path in (ROOT / "docs/decisions").glob("*.md")}

    assert decisions
    assert {name for name in decisions if f"(docs/decisions/{name})" not in README} == set()


@pytest.mark.parametrize("heading", ["Context", "Decision", "Consequences", "Alternatives"])
def test_every_decision_says_what_a_decision_has_to_say(heading):
    silent = [
        path.name for path in (ROOT / "docs/decisions").glob("*.md") if f"\n## {heading}\n" not in path.read_text()
    ]

    assert silent == []


def test_every_decision_that_the_code_names_is_there():
    named = {name for file in _python_files() for name in re.findall(r"docs/decisions/[\w.-]+\.md", file.read_text())}

    assert named
    assert {name for name in named if not (ROOT / name).is_file()} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document):
    assert _missing(document, images=False) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_picture_is_there(document):
    assert _missing(document, images=True) == []


def test_every_alarm_has_an_answer():
    sources = [file.read_text() for file in _python_files()]
    of_claude = {kind for source in sources for kind in re.findall(r'"(\w+)"[^)\n]*alarm=True', source)}
    of_ours = {kind for source in sources for kind in re.findall(r'alarms\.sound\(\s*"(\w+)"', source)}

    assert of_claude
    assert of_ours
    assert of_claude | of_ours <= set(alarms.KINDS)
    assert {kind for kind in alarms.KINDS if f"| `{kind}` |" not in OPERATIONS} == set()


def test_every_event_of_the_log_is_explained():
    pattern = re.compile(r'\blog\.(?:info|warning|error|exception)\(\s*"(\w+)"')
    events = {event for file in _python_files() for event in pattern.findall(file.read_text())} - {"alarm"}

    assert events
    assert {event for event in events if f"`{event}`" not in OPERATIONS} == set()


@pytest.mark.django_db
def test_every_metric_is_explained():
    names = {family.name + ("_total" if family.type == "counter" else "") for family in registry().collect()}

    assert names
    assert {name for name in names if f"| `{name}" not in OPERATIONS} == set()


def test_what_is_not_released_yet_stands_first_in_the_changelog():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert headings[0] == "Unreleased"


def test_every_row_of_what_may_break_is_a_test():
    rows = re.findall(r"^\| C(\d\d) \|", (ROOT / "docs/chaos.md").read_text(), re.MULTILINE)
    tests = "".join(path.read_text() for path in (ROOT / "tests/chaos").glob("*.py"))

    assert rows == [f"{number:02}" for number in range(1, 43)]
    assert set(re.findall(r"^def test_c(\d\d)_", tests, re.MULTILINE)) == set(rows)


def _settings_that_are_read() -> dict[str, str | None]:
    """Names and defaults, as the table writes them; None where the code does not have a plain value."""
    found: dict[str, str | None] = {}
    for call in ast.walk(SETTINGS):
        if isinstance(call, ast.Call) and _reads_the_environment(call.func):
            name, *default = call.args
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and name.value.isupper():
                found[name.value] = _as_written(default[0]) if default else None
    return found


def _reads_the_environment(function: ast.expr) -> bool:
    return ast.unparse(function) == "positive" or ast.unparse(function).startswith("env.")


def _as_written(default: ast.expr) -> str | None:
    match default:
        case ast.Constant(value=""):
            return "empty"
        case ast.Constant(value):
            return f"`{value}`"
        case ast.List(elts):
            return f"`{','.join(ast.literal_eval(value) for value in elts)}`" if elts else "empty"
        case ast.Call(args=[ast.Constant(value)]):  # Decimal(20)
            return f"`{value}`"
        case _:
            return None


def _local_settings_that_are_read() -> set[str]:
    texts = [path.read_text() for path in (ROOT / "local").glob("*.py")]
    found = {name for text in texts for match in _LOCAL.findall(text) for name in match if name}
    return found - {"MAKELEVEL"}  # make's own


def _missing(document: Path, *, images: bool) -> list[str]:
    return [
        target
        for mark, target in _LINK.findall(document.read_text())
        if bool(mark) == images
        and "://" not in target
        and not (document.parent / target.partition("#")[0]).resolve().exists()
    ]


def _python_files() -> Iterator[Path]:
    command = ["git", "ls-files", "-z", "chat/*.py", "config/*.py", "local/*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    yield from (ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())
