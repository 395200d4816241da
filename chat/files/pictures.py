"""Pictures: decoded whole, and drawn again. What Claude and the pages get has nothing in it but pixels: no place where
a photo was taken, no second file behind the first."""

import io
import threading

from django.core.files.uploadedfile import UploadedFile
from PIL import Image, ImageOps

from chat.files.facts import Facts
from chat.files.refusals import BROKEN_PICTURE, Refused
from chat.models import Attachment
from chat.models.attachment import SENT_EDGE, THUMBNAIL_EDGE, fitted

# Enough for a photo of 48 megapixels. Decoded it takes up to four bytes a pixel.
MOST_PIXELS = Image.MAX_IMAGE_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
# Bytes. Claude takes 10 MB of base64 for one image, and 32 MB for everything.
LARGEST_PNG = 3_000_000
TURNED = {5, 6, 7, 8}  # EXIF's orientations with width and height exchanged
ORIENTATION = 0x0112

# Of a large one at a time: eight of them would take the memory of a small machine.
_room = threading.BoundedSemaphore(2)


def is_picture(head: bytes) -> bool:
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    )


def look(file: UploadedFile) -> Facts:
    """Decode a picture; of one that moves, the first frame. Raises Refused."""
    try:
        with _room, Image.open(file, formats=FORMATS) as image:
            return _facts(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused(_too_many_pixels()) from None
    except Refused:
        raise
    except Exception as error:  # whatever decoders raise who are given what people send
        raise Refused(BROKEN_PICTURE) from error


def drawn(image: Image.Image, edge: int, form: str, **options) -> bytes:
    """The picture within a square of `edge` pixels, as PNG, JPEG or WEBP, without anything that is no pixel."""
    size = fitted(*image.size, edge)
    smaller = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    if form == "JPEG" and smaller.mode == "RGBA":
        white = Image.new("RGB", smaller.size, "white")
        white.paste(smaller, mask=smaller.getchannel("A"))
        smaller = white
    written = io.BytesIO()
    smaller.save(written, form, **options)
    return written.getvalue()


def smaller_than(data: bytes, edge: int) -> tuple[bytes, str]:
    """What we have drawn for Claude, drawn again within a smaller square; and its media type."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        form = image.format or "PNG"
        return drawn(image, edge, form, **_quality(form)), Image.MIME[form]


def _facts(image: Image.Image) -> Facts:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise Refused(_too_many_pixels())
    form, moves = str(image.format), getattr(image, "is_animated", False)
    turned = image.getexif().get(ORIENTATION) in TURNED
    image.draft("RGB", (SENT_EDGE, SENT_EDGE))  # a JPEG need not be decoded larger than it will be
    image.load()
    flat = _flat(ImageOps.exif_transpose(image))
    sent_as = "JPEG" if form == "JPEG" else "PNG"
    # Not by its own size, which the draft has changed: what was measured is what is sent.
    size = fitted(*((height, width) if turned else (width, height)), SENT_EDGE)
    if flat.size != size:
        flat = flat.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    sent = drawn(flat, SENT_EDGE, sent_as, **_quality(sent_as))
    if len(sent) > LARGEST_PNG and sent_as == "PNG":
        sent_as = "JPEG"
        sent = drawn(flat, SENT_EDGE, sent_as, **_quality(sent_as))
    return Facts(
        kind=Attachment.Kind.IMAGE,
        media_type=Image.MIME[sent_as],
        own_type=Image.MIME[form],
        width=height if turned else width,
        height=width if turned else height,
        moves=moves,
        thumbnail=drawn(flat, THUMBNAIL_EDGE, "WEBP", quality=75),
        sent=sent,
    )


def _flat(image: Image.Image) -> Image.Image:
    """In colours that every format has."""
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _quality(form: str) -> dict:
    return {"quality": 90} if form == "JPEG" else {}


def _too_many_pixels() -> str:
    return f"This picture has more than {MOST_PIXELS // 1_000_000} million pixels. Save it smaller, and attach that."
