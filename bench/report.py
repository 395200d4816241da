"""The table, and what one has to know to read it."""

import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path

import psutil

from bench.figures import Row
from bench.stand import FIRST, Stand

HEAD = ("figure", "bare upstream", "Tally", "at most", "ok?")


class Circumstances:
    """The machine, and how busy others kept it meanwhile."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy = _busy_seconds()
        self._load = os.getloadavg()[0]

    def words(self, stand: Stand) -> list[str]:
        seconds = time.monotonic() - self._began
        cores = os.cpu_count() or 1
        database = "PostgreSQL without fsync" if stand.on_postgres else "SQLite"
        return [
            f"{cores} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, Python {platform.python_version()}, "
            f"{database}; 2 web processes, 1 worker; load {self._load:.1f} before, {os.getloadavg()[0]:.1f} after; "
            f"{(_busy_seconds() - self._busy) / seconds:.2f} cores busy over {seconds:.0f} s",
            f"client and upstream run on the same cores (nice {FIRST} where that is allowed); upstream: 200 ms to the "
            "first token, then 50 tokens/s",
            "Figures of time are noisy on a shared machine: those of a crowd are medians of runs. Compare with the "
            "bare upstream of the same minutes.",
        ]


def table(rows: list[Row]) -> str:
    lines = [HEAD, *((row.figure, _words(row, row.bare), _tally(row), _most(row), _verdict(row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([texts[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *texts[1:]])


def notes(rows: list[Row]) -> list[str]:
    wrong = [f"{row.figure}: {row.wrong}" for row in rows if row.wrong]
    return [*wrong, *(note for row in rows for note in row.notes)]


def save(path: Path, rows: list[Row], words: list[str]) -> None:
    """For a machine to compare with: the values as they were measured, and the circumstances as words."""
    found = [{**asdict(row), "is_reached": row.is_reached} for row in rows]
    path.write_text(json.dumps({"rows": found, "circumstances": words}, indent=1) + "\n")


def _tally(row: Row) -> str:
    return _words(row, row.tally) if row.tally else "not yet"


def _most(row: Row) -> str:
    return ("at least " if row.is_least else "") + _words(row, row.most)


def _words(row: Row, values: tuple[float, ...]) -> str:
    if not values:
        return "–"
    return " ".join(filter(None, [" / ".join(map(_number, values)), row.unit]))


def _number(value: float) -> str:
    if value == int(value) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _verdict(row: Row) -> str:
    return {True: "yes", False: "NO", None: ""}[row.is_reached]


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
