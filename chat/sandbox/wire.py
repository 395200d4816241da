"""HTTP/1.1 on a bare transport, because faults need it: half frames, resets, one byte at a time."""

import asyncio
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import httptools

from . import errors
from .ids import new_id

LARGEST_BODY = 32 * 1024 * 1024
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(slots=True)
class Request:
    method: str = ""
    path: str = ""
    query: dict = field(default_factory=dict)
    headers: dict = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    too_large: bool = False
    keep_alive: bool = True


class Connection(asyncio.Protocol):
    """One client. `handle(request, connection)` must lead to respond, refuse, end_stream, cut or reset."""

    _transport: asyncio.Transport
    _current: Request | None

    def __init__(self, handle, headers):
        self._handle = handle
        self._headers = headers
        self._parser = httptools.HttpRequestParser(self)
        self._arriving = Request()
        self._waiting: deque[Request] = deque()
        self._current = None
        self._target = b""
        # Called once when the client goes away during an answer.
        self.on_lost = None

    def connection_made(self, transport):
        self._transport = transport

    def connection_lost(self, exc):
        self._waiting.clear()
        if self.on_lost:
            self.on_lost()

    def data_received(self, data):
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.cut()
        except httptools.HttpParserError:
            self._current = Request(keep_alive=False)
            self.refuse(errors.invalid("malformed HTTP request"), new_id("req"))

    def on_url(self, url):
        self._target += url

    def on_header(self, name, value):
        self._arriving.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self):
        if self._arriving.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data):
        request = self._arriving
        # A body that is too large is read to its end, so that the client gets to see the 413.
        if request.too_large or len(request.body) + len(data) > LARGEST_BODY:
            request.too_large = True
            request.body.clear()
        else:
            request.body += data

    def on_message_complete(self):
        request, self._arriving = self._arriving, Request()
        target, self._target = urlsplit(self._target.decode("latin-1")), b""
        request.method = self._parser.get_method().decode()
        request.path = target.path
        request.query = parse_qs(target.query)
        request.keep_alive = self._parser.should_keep_alive()
        self._waiting.append(request)
        if self._current is None:
            self._next()

    def respond(self, status, body, request_id, content_type="application/json", more=b""):
        head = self._head(status, content_type, request_id)
        self._transport.write(b"%bcontent-length: %d\r\n%b\r\n%b" % (head, len(body), more, body))
        self._finish()

    def refuse(self, error, request_id):
        after = error.retry_after
        more = b"" if after is None else f"retry-after: {int(after) if after == int(after) else after}\r\n".encode()
        self.respond(error.status, error.body(request_id), request_id, error.content_type, more)

    def start_stream(self, request_id):
        head = self._head(200, "text/event-stream; charset=utf-8", request_id)
        self._transport.write(head + b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n")

    def send_chunk(self, data):
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self):
        self._transport.write(_LAST_CHUNK)
        self._finish()

    def cut(self):
        """Close in the middle of things: what was written is delivered, the rest of the body never comes."""
        self.on_lost = None
        self._transport.close()

    def reset(self):
        """Close with RST: the client may even lose what it has not read yet."""
        self.on_lost = None
        if self._transport.is_closing():
            return
        linger = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    def _head(self, status, content_type, request_id):
        return b"HTTP/1.1 %d %b\r\n%bcontent-type: %b\r\nrequest-id: %b\r\n" % (
            status,
            errors.REASONS[status].encode(),
            self._headers(),
            content_type.encode(),
            request_id.encode(),
        )

    def _finish(self):
        self.on_lost = None
        answered, self._current = self._current, None
        if not (answered and answered.keep_alive):
            self._transport.close()
        elif self._waiting:
            self._next()

    def _next(self):
        self._current = self._waiting.popleft()
        self._handle(self._current, self)
