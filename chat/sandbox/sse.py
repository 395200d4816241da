"""Server-sent events as bytes, one frame each."""

import json
from json.encoder import encode_basestring, encode_basestring_ascii

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def event(name, **fields):
    data = json.dumps({"type": name, **fields}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {name}\ndata: {data}\n\n".encode("utf-8", "backslashreplace")


def delta(index, fields):
    return event("content_block_delta", index=index, delta=fields)


def text_delta(index, text):
    """As `delta`, without a JSON encoder: this one is sent for every token."""
    try:
        quoted = encode_basestring(text).encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8. JSON can still escape it, and a model's bytes may be cut like that.
        quoted = encode_basestring_ascii(text).encode()
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
        b'"delta":{"type":"text_delta","text":%b}}\n\n' % (index, quoted)
    )
