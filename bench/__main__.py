"""`make bench`: start a Tally for the purpose, measure, print one table, stop everything."""

import argparse
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from bench import figures, report
from bench.figures import Bench, Row, Scale
from bench.pages import pages
from bench.stand import Stand

# In the order of the table. `pages` adds records without a hold, which the audit of `burst` would find, and `search` a
# database of some gigabytes.
GROUPS = {
    "first-token": figures.first_token,
    "crowd": figures.crowd,
    "at-once": figures.at_once,
    "memory": figures.memory,
    "burst": figures.burst,
    "first-turn": figures.first_turn,
    "pages": pages,
    "search": figures.search,
    "later": figures.later,
}


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends the bench ends its servers too
    circumstances = report.Circumstances()
    rows: list[Row] = []
    with Stand(postgres=options.postgres) as stand:
        _say("Warming up")
        bench = Bench(stand, _scale(options))
        for name in options.only:
            _say(f"Measuring {name}")
            rows += GROUPS[name](bench)
        words = circumstances.words(stand)
    print(report.table(rows))
    print("\n" + "\n".join(f"- {line}" for line in [*words, *report.notes(rows)]))
    if options.json:
        report.save(options.json, rows, words)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", type=_groups, default=list(GROUPS), help=f"some of {','.join(GROUPS)}")
    parser.add_argument("--levels", type=_numbers, help="tried for the answers at once; default 100,200,300")
    parser.add_argument("--crowd", type=int, help="how many press Send within a second; default 100")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter: to see whether it works")
    parser.add_argument("--postgres", action="store_true", help="on a private PostgreSQL instead of SQLite")
    parser.add_argument("--json", type=Path, help="also write the figures into this file")
    return parser.parse_args()


def _scale(options: argparse.Namespace) -> Scale:
    scale = Scale()
    if options.quick:
        scale = replace(scale, repeats=1, alone=3, tokens=20, long_tokens=20, idle=10, burst=10, library=20_000)
    if options.levels:
        scale = replace(scale, levels=options.levels)
    if options.crowd:
        scale = replace(scale, crowd=options.crowd)
    return scale


def _groups(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(GROUPS):
        raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    return [name for name in GROUPS if name in names]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(map(int, text.split(","))))


def _say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
