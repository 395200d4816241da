"""Why a file is not taken: a sentence that says what is wrong with it and what to do."""

from chat.models.attachment import PASTED


class Refused(Exception):
    """The words are for the person whose file it is."""


ELSEWHERE = {
    b"PK\x03\x04": "This is a ZIP archive or an Office document, which Claude cannot read. Save it as PDF or as text.",
    b"\xd0\xcf\x11\xe0": "This is an old Office document, which Claude cannot read. Save it as PDF or as text.",
    b"{\\rtf": "This is formatted text (RTF), which Claude cannot read. Save it as PDF or as plain text.",
    b"II*\x00": "This is a TIFF picture, which Claude cannot see. Save it as PNG or JPEG.",
    b"MM\x00*": "This is a TIFF picture, which Claude cannot see. Save it as PNG or JPEG.",
    b"BM": "This is a bitmap (BMP), which Claude cannot see. Save it as PNG.",
    b"\x1f\x8b": "This is compressed. Unpack it, and attach what is in it.",
}
PHOTO = "This is a photo in a format (HEIC or AVIF) that Claude cannot see. Save it as JPEG."
FILM = "This is a film or a recording, which Claude can neither see nor hear. Attach a transcript, or pictures of it."
SVG = "This is a drawing in SVG, which Claude cannot see. Save it as PNG; to talk about its code, paste that."
EMPTY = "This file is empty. Choose another one."
BLANK = "There is nothing but white space in this file. Choose another one."
BINARY = "This is neither a picture, a PDF nor text, so Claude cannot read it. Save it as one of these."
NOT_UTF8 = "This is no text in UTF-8, so it would arrive garbled. Save it again with the encoding UTF-8."
NO_PICTURE = "This is named like a picture and has none in it. Open it where it came from, and save it as PNG or JPEG."
NO_PDF = "This is named like a PDF and is none. Open it where it came from, and save it as PDF."
BROKEN_PICTURE = "This picture is damaged or not complete. Save it again, and attach that."
BROKEN_PDF = "This PDF is damaged. Open it and save it again, or print it into a new PDF."
LOCKED_PDF = "This PDF is protected by a password. Save a copy without protection, and attach that."
NO_PAGES = "This PDF has no pages. Choose another one."
BUSY = "Many files are being read at this moment. Try again in a minute."
SLOW_PDF = "This PDF takes too long to read. Print it into a new PDF, or attach a part of it."


def for_size(size: int, most: int, name: str) -> str:
    """Words for what is larger than so many megabytes, of a million bytes. Rounded up: it has more than `most`."""
    megabytes = f"{-(-size // 100_000) / 10:g} MB"
    if name == PASTED:
        return f"You pasted {megabytes}; {most} MB is the most. Paste a part of it."
    return f"This file has {megabytes}; {most} MB is the most. Attach a part of it."


def for_head(head: bytes) -> str:
    """Words for files of a kind that is known and not taken, by their first bytes; "" for the others."""
    if head[4:8] == b"ftyp":
        return PHOTO if head[8:12] in {b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis"} else FILM
    if head[:4] in {b"OggS", b"fLaC", b"\x1aE\xdf\xa3"} or head[:3] == b"ID3" or head[8:12] in {b"WAVE", b"AVI "}:
        return FILM
    # Two letters may begin a text too; a bitmap has its reserved zeros.
    found = [words for magic, words in ELSEWHERE.items() if head.startswith(magic)]
    return "" if head.startswith(b"BM") and head[6:10] != bytes(4) else "".join(found[:1])
