"""The bench itself: a whole Tally is started, asked by two people at once, measured, and gone afterwards."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from local import ROOT


@pytest.fixture
def directory():
    """Short, because the path of a socket may not be long."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        yield Path(directory)


@pytest.mark.slow
def test_a_quick_bench_measures_two_turns_at_once_and_leaves_nothing_behind(directory):
    figures = directory / "figures.json"
    command = [sys.executable, "-m", "bench", "--quick", "--only", "crowd", "--crowd", "2", "--levels", "2"]
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(directory)}

    bench = subprocess.run(
        [*command, "--json", figures], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=150
    )

    assert bench.returncode == 0, bench.stderr
    assert "| figure" in bench.stdout
    waits, lags, cpu = json.loads(figures.read_text())["rows"]
    assert not any(row["wrong"] for row in (waits, lags, cpu))
    assert waits["bare"][0] < waits["tally"][0]
    assert 0 < lags["bare"][0] < lags["tally"][0]
    assert cpu["tally"][0] > 0
    assert [path.name for path in directory.iterdir()] == ["figures.json"]
    assert not [process for process in psutil.process_iter() if _belongs_to(process, directory)]


def _belongs_to(process: psutil.Process, directory: Path) -> bool:
    """Whether it was told of a file in there, as every server of that bench was."""
    try:
        return any(str(directory) in word for word in [*process.cmdline(), *process.environ().values()])
    except psutil.Error:
        return False
