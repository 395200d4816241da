"""What a file is called, for people. On disk no name is a person's."""

import re
import unicodedata
from pathlib import PurePosixPath

LONGEST_NAME = 120

EXTENSIONS = {
    "image/png": {".png"},
    "image/jpeg": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "image/gif": {".gif"},
    "image/webp": {".webp"},
    "application/pdf": {".pdf"},
}
_FIRST = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "application/pdf": ".pdf",
}


def clean(raw: str) -> str:
    """One line without folders, controls or marks that turn the direction of text, of at most LONGEST_NAME characters.

    Its extension is kept when it is cut.
    """
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", raw))[-1]
    # White space first: a line break is a control, too, and should not join two words.
    name = re.sub(r"\s+", " ", name)
    name = "".join(char for char in name if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn"})
    name = name.strip(". ") or "file"
    if len(name) > LONGEST_NAME:
        suffix = PurePosixPath(name).suffix[:12]
        name = name[: LONGEST_NAME - len(suffix) - 1].rstrip(". ") + "…" + suffix
    return name


def extension(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def agreeing(name: str, media_type: str) -> str:
    """The name with an extension that says what the file is: whoever saves it should be able to open it."""
    if media_type not in EXTENSIONS or extension(name) in EXTENSIONS[media_type]:
        return name
    return name + _FIRST[media_type]
