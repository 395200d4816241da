from dataclasses import dataclass

from chat.models import Attachment


@dataclass(frozen=True)
class Facts:
    """What was found in a file. `sent` is what Claude gets, where that is not the file itself; `media_type` is of what
    Claude gets, `own_type` of the file."""

    kind: Attachment.Kind
    media_type: str
    own_type: str
    width: int | None = None
    height: int | None = None
    pages: int | None = None
    moves: bool = False
    thumbnail: bytes | None = None
    sent: bytes | None = None
