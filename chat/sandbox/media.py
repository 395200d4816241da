"""Images and PDFs: what they count, and which the API refuses."""

import base64
import binascii
import io
import re

from . import tokens
from .errors import ApiError, invalid

LARGEST_BASE64 = 10 * 1024 * 1024
LONGEST_SIDE = 8_000
# With more images than this in one request, history included, none may have a side above MANY_SIDE.
MANY, MANY_SIDE = 20, 2_000
SMALL_WINDOW = 200_000
MOST, MOST_OF_SMALL_WINDOW = 600, 100
MAGIC = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
    b"%PDF": "application/pdf",
}

_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")


def check(messages, model):
    """All files of a request; raises ApiError. Their blocks have been looked at before."""
    images, pages = [], 0
    for i, message in enumerate(messages):
        for place, block in _blocks(message["content"], f"messages.{i}.content"):
            source, kind = block["source"], block["type"]
            place = f"{place}.{kind}.source.base64"
            data = _decoded(source["data"], place, kind)
            _check_kind(data, source["media_type"], place)
            if kind == "image":
                _check_image(source["data"], place)
                images.append((place, tokens.image_size(data)))
            else:
                pages += _check_pdf(data)
    most = MOST_OF_SMALL_WINDOW if model.context <= SMALL_WINDOW else MOST
    if len(images) > most:
        raise invalid(f"messages: too many images: {len(images)} > {most} maximum")
    if pages > most:
        raise invalid(f"A maximum of {most} PDF pages may be provided.")
    longest = MANY_SIDE if len(images) > MANY else LONGEST_SIDE
    large = [place for place, size in images if size and max(size) > longest]
    if large:
        many = " for many-image requests" if longest == MANY_SIDE else ""
        raise ApiError(
            400,
            "invalid_request_error",
            f"{large[0]}.data: At least one of the image dimensions exceed max allowed size{many}: {longest} pixels",
            error_code="image_dimensions_too_large",
            details={"max_side_length_pixels": longest, "paths": large},
        )


def pages_of(data):
    """How many pages a PDF has; one, if that cannot be told."""
    # Those that pack their objects are read as a whole, which takes longer.
    return len(_PAGE.findall(data)) or _pages_by_reading(data) or 1


def _pages_by_reading(data):
    from pypdf import PdfReader

    try:
        return len(PdfReader(io.BytesIO(data)).pages)
    except Exception:  # whatever a reader raises for what is no PDF
        return 0


def _blocks(content, place):
    """The blocks whose data is in the request, those in the results of tools included."""
    for i, block in enumerate(content if isinstance(content, list) else []):
        if isinstance(block.get("source"), dict) and block["source"].get("type") == "base64":
            yield f"{place}.{i}", block
        elif block.get("type") == "tool_result":
            yield from _blocks(block.get("content"), f"{place}.{i}.tool_result.content")


def _decoded(data, place, kind):
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise invalid(f"{place}.data: The {kind} is not valid base64") from None


def _check_kind(data, media_type, place):
    found = next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), media_type)
    if found != media_type:
        raise invalid(
            f"{place}.data: The image was specified using the {media_type} media type, "
            f"but the image appears to be a {found} image"
        )


def _check_image(data, place):
    if len(data) > LARGEST_BASE64:
        raise invalid(f"{place}: image exceeds 10 MB maximum: {len(data)} bytes > {LARGEST_BASE64} bytes")


def _check_pdf(data):
    if b"%PDF-" not in data[:1024]:
        raise invalid("The PDF specified was not valid.")
    if b"/Encrypt" in data:
        raise invalid("The PDF specified is password protected.")
    return pages_of(data)
