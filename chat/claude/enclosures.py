"""Files in a request. Until it is sent, facts stand in their place: the web prices a message without opening a file.

Documents and images stand in questions only; the API takes no document in an answer.
"""

import base64
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from chat.models import Attachment, Message

if TYPE_CHECKING:
    from chat.claude.request import Request

log = structlog.get_logger(__name__)

GONE = "[The file “{}” belongs here. It is no longer stored, so it cannot be read. Say so if it is asked about.]"
# With more images than this in one request the API takes none with a side above MANY_EDGE pixels.
MANY, MANY_EDGE = 20, 2_000


def outlines(messages: list[Message]) -> dict[str, dict]:
    """What stands for each file that these messages name, by its id. One query, and none without files."""
    ids = {each for message in messages for each in message.attachment_ids}
    found = Attachment.objects.light().in_bulk(ids) if ids else {}
    return {str(attachment.id): _outline(attachment) for attachment in found.values()}


def outline(block: dict, known: dict[str, dict]) -> dict:
    """What stands in a request for a block of a message that names a file."""
    return known.get(block["source"]["id"]) or _lost(block["source"]["id"], block.get("title") or "image")


def with_files(request: "Request") -> "Request":
    """The request with what is in its files. From a thread that may wait for a disk, never from the loop."""
    sources = [block["source"] for block in enclosed(request.messages)]
    if not sources:
        return request
    pictures = sum("width" in source for source in sources)
    found = Attachment.objects.light().in_bulk([source["id"] for source in sources])
    files = {str(key): _opened(attachment, many=pictures > MANY) for key, attachment in found.items()}
    lost = {source["id"]: _gone("file") for source in sources if source["id"] not in files}
    return replace(request, files=files | lost)


def enclosed(messages: list[dict]) -> list[dict]:
    """The blocks that stand for files."""
    blocks = [block for message in messages if isinstance(message["content"], list) for block in message["content"]]
    return [block for block in blocks if is_outline(block)]


def is_outline(block: dict) -> bool:
    source = block.get("source")
    return isinstance(source, dict) and source.get("type") == "attachment"


def _outline(attachment: Attachment) -> dict:
    if attachment.gone:
        return _lost(str(attachment.id), attachment.name)
    block = attachment.block
    source = {**block["source"], "media_type": attachment.media_type, "size": attachment.sent_size}
    if attachment.kind == Attachment.Kind.IMAGE:
        source["width"], source["height"] = attachment.sent_pixels
    if attachment.kind == Attachment.Kind.PDF:
        source["pages"] = attachment.pages
    return {**block, "source": source}


def _lost(attachment_id: str, name: str) -> dict:
    source = {"type": "attachment", "id": attachment_id, "media_type": "text/plain", "size": 0}
    return {"type": "document", "source": source, "title": name}


def _gone(name: str) -> dict:
    return {"type": "text", "text": GONE.format(name)}


def _opened(attachment: Attachment, *, many: bool) -> dict:
    try:
        with (attachment.sent_file or attachment.file).open("rb") as file:
            data = file.read()
    except FileNotFoundError:
        log.warning("file_gone", attachment=str(attachment.id))
        Attachment.objects.filter(id=attachment.id).update(gone=True)
        return _gone(attachment.name)
    media_type = attachment.media_type
    if attachment.kind == Attachment.Kind.TEXT:
        source = {"type": "text", "media_type": media_type, "data": data.decode()}
    else:
        if many and max(attachment.sent_pixels) > MANY_EDGE and attachment.kind == Attachment.Kind.IMAGE:
            # Only a worker draws pictures, and only for so many of them; the web does not load the library for this.
            from chat.files.pictures import smaller_than

            data, media_type = smaller_than(data, MANY_EDGE)
        source = {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}
    return {**attachment.block, "source": source}
