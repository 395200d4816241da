"""A reader of server-sent events, as simple as the specification."""

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Event:
    id: str
    name: str
    data: str


class Reader:
    """Follows a stream: `for event in Reader(site, path, client): …`. Leave by `close`, as a browser does."""

    def __init__(self, site: str, path: str, client, *, last_id: str = "", timeout: float = 20):
        self._connection = http.client.HTTPConnection(urlsplit(site).netloc, timeout=timeout)
        headers = {"Cookie": f"sessionid={client.cookies['sessionid'].value}", "Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        try:
            self._connection.request("GET", path, headers=headers)
            self.response = self._connection.getresponse()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        self.status = self.response.status

    def __iter__(self) -> Iterator[Event]:
        identifier, name, data = "", "message", []
        for raw in self.response:
            line = raw.decode().rstrip("\r\n")
            if not line:
                if data:
                    yield Event(identifier, name, "\n".join(data))
                name, data = "message", []
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                identifier = value
            elif field == "event":
                name = value
            elif field == "data":
                data.append(value)

    def close(self) -> None:
        self._connection.close()
        self.response.close()
