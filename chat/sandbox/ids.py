"""Identifiers that look like the provider's."""

import random

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def new_id(prefix):
    return f"{prefix}_01{''.join(random.choices(_ALPHABET, k=22))}"  # noqa: S311 - a name, not a secret
