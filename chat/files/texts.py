"""Text and code: valid UTF-8, or UTF-16 that says so."""

import codecs
import re

from django.core.files.uploadedfile import UploadedFile

from chat.files import names
from chat.files.facts import Facts
from chat.files.refusals import BINARY, BLANK, NO_PDF, NO_PICTURE, NOT_UTF8, SVG, Refused, for_size
from chat.models import Attachment

# Bytes. Beyond it a text is longer than the longest window of any model.
LARGEST_TEXT = 5_000_000
MEDIA_TYPE = "text/plain"

_SVG = re.compile(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg[\s>]", re.DOTALL | re.IGNORECASE)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def look(file: UploadedFile, size: int, name: str) -> Facts:
    """Raises Refused. Whatever is no UTF-8 without a mark is converted to it."""
    if size > LARGEST_TEXT:
        raise Refused(for_size(size, LARGEST_TEXT // 1_000_000, name))
    data = file.read()
    text = _decoded(data)
    if not text.strip():
        raise Refused(BLANK)
    if names.extension(name) == ".svg" or _SVG.match(text[:4_000]):
        raise Refused(SVG)
    if names.extension(name) == ".pdf":
        raise Refused(NO_PDF)
    if names.extension(name) in {*_PICTURES, ".bmp", ".tif", ".tiff", ".heic", ".avif"}:
        raise Refused(NO_PICTURE)
    sent = text.encode()
    return Facts(
        kind=Attachment.Kind.TEXT,
        media_type=MEDIA_TYPE,
        own_type=MEDIA_TYPE,
        sent=None if sent == data else sent,
    )


_PICTURES = {extension for kind, known in names.EXTENSIONS.items() if kind.startswith("image/") for extension in known}


def _decoded(data: bytes) -> str:
    is_wide = data.startswith(_UTF16)
    if b"\x00" in data and not is_wide:
        raise Refused(BINARY)
    try:
        text = data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise Refused(BINARY if is_wide or _is_mostly_controls(data) else NOT_UTF8) from None
    if "\x00" in text:
        raise Refused(BINARY)
    return text


def _is_mostly_controls(data: bytes) -> bool:
    """Whether it looks like no text in any encoding."""
    head = data[:4_096]
    return sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head) > len(head) / 50
