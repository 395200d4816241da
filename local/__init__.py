"""Runs a whole Tally on one machine: `make run`. Neither the product nor production needs it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VAR = ROOT / "var"
# Of all processes only the worker is given them.
KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_ADMIN_KEY")


class CannotRun(Exception):
    """Says in one sentence what stands in the way and what to do about it."""
