"""Checks of types and values, refused in the API's words."""

from .errors import invalid


def expect(value, kind, place):
    """`kind` is a type, or several of which one will do."""
    if value is None:
        raise invalid(f"{place}: Field required")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {str: "string", int: "integer", list: "list", dict: "dictionary", bool: "boolean"}
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise invalid(f"{place}: Input should be a valid {' or '.join(words[each] for each in kinds)}")


def one_of(value, allowed, place, required=False):
    if value is None and not required:
        return
    if value not in allowed:
        names = " or ".join(f"'{name}'" for name in allowed)
        raise invalid(f"{place}: Input should be {names}")
