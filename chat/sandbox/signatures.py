"""Signatures of thinking blocks: what they stand for, and what stood before them.

A real signature carries the hidden thinking itself, so it grows with it. Ours is padded to four
characters a token: a block sent back is billed at its thinking tokens and still never counts more
tokens than bytes.
"""

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass

# Constant, so that blocks outlive a restart. It guards nothing: it only tells our blocks from others.
_KEY = b"tally sandbox"
_LAYOUT = ">I8s16s8s"
_LENGTH = struct.calcsize(_LAYOUT)
_MAC_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Signature:
    tokens: int
    model: bytes
    prefix: bytes
    text: bytes


def sign(tokens, model_id, prefix, text):
    """`prefix` is the digest of the whole prompt that the thinking answers."""
    payload = struct.pack(_LAYOUT, tokens, _digest(model_id), prefix, _digest(text))
    mac = _mac(payload)
    return base64.b64encode(payload + mac + _padding(tokens, mac)).decode()


def read(block):
    """The signature of a thinking block, or None when it is not one of ours or its text was changed."""
    try:
        raw = base64.b64decode(block["signature"], validate=True)
    except (binascii.Error, ValueError):
        return None
    payload, mac, padding = raw[:_LENGTH], raw[_LENGTH : _LENGTH + _MAC_LENGTH], raw[_LENGTH + _MAC_LENGTH :]
    if len(payload) < _LENGTH or mac != _mac(payload):
        return None
    signature = Signature(*struct.unpack(_LAYOUT, payload))
    if padding != _padding(signature.tokens, mac) or signature.text != _digest(block["thinking"]):
        return None
    return signature


def made_by(signature, model_id):
    return signature.model == _digest(model_id)


def _padding(tokens, mac):
    return hashlib.shake_128(mac).digest(max(0, 3 * tokens - _LENGTH - _MAC_LENGTH))


def _mac(payload):
    return hashlib.blake2b(payload, key=_KEY, digest_size=_MAC_LENGTH).digest()


def _digest(text):
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
