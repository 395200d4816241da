"""Text from people and from models, on its way in."""

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_OVERRIDES = re.compile("[\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Make text storable: PostgreSQL refuses NUL, and no database takes half a surrogate pair.

    NUL is dropped and a lone surrogate becomes U+FFFD, so that its place stays visible.
    """
    return _UNSTORABLE.sub(lambda match: "" if match[0] == "\x00" else "\ufffd", text)


def without_overrides(text: str) -> str:
    """Text without the marks that turn the direction of what follows, so that it reads as what it is.

    "moc.elpmaxe" behind one reads as another address. Right-to-left scripts need none: the page finds their direction.
    """
    return text if text.isascii() else _OVERRIDES.sub("", text)


def cleaned(value):
    """`clean` for every string inside a JSON value."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): cleaned(item) for key, item in value.items()}
    return value
