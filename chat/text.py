"""Text from people and from models, on its way in."""

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """Make text storable: PostgreSQL refuses NUL, and no database takes half a surrogate pair.

    NUL is dropped and a lone surrogate becomes U+FFFD, so that its place stays visible.
    """
    return _UNSTORABLE.sub(lambda match: "" if match[0] == "\x00" else "\ufffd", text)


def cleaned(value):
    """`clean` for every string inside a JSON value."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): cleaned(item) for key, item in value.items()}
    return value
