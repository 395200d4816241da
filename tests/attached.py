"""Files of each kind, as people have them, and ways to hand them in."""

import io
import random
import re
import uuid

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image
from pypdf import PdfWriter

from chat.models import Attachment, User

CODE = b"def answer():\n    return 42\n"


def picture(form: str = "PNG", size: tuple[int, int] = (64, 48), mode: str = "RGB", **options) -> bytes:
    data = io.BytesIO()
    Image.new(mode, size, (0, 128, 128, 90)[: len(mode)]).save(data, form, **options)
    return data.getvalue()


def noise(form: str, size: tuple[int, int]) -> bytes:
    """A picture that cannot be compressed, as a photo."""
    data = io.BytesIO()
    pixels = random.Random(7).randbytes(3 * size[0] * size[1])
    Image.frombytes("RGB", size, pixels).save(data, form)
    return data.getvalue()


def pdf(pages: int = 1, *, password: str = "") -> bytes:
    writer = PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(612, 792)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    data = io.BytesIO()
    writer.write(data)
    return data.getvalue()


def hand_in(client: Client, *files: tuple[str, bytes]):
    """Upload files as the page's script does it: `hand_in(client, ("cat.png", data))`."""
    named = [SimpleUploadedFile(name, data) for name, data in files]
    return client.post("/attachments/", {"files": named}, headers={"HX-Request": "true"})


def given(client: Client, data: bytes = CODE, name: str = "answer.py") -> Attachment:
    response = hand_in(client, (name, data))
    assert response.status_code == 200, response.content.decode()
    return Attachment.objects.get(id=ids(response)[0])


def ids(response) -> list[uuid.UUID]:
    found = re.findall(r'name="attachments" value="([^"]+)"', response.content.decode())
    return [uuid.UUID(each) for each in found]


def why(response) -> str:
    """The words of a refusal."""
    return " ".join(re.findall(r"data-why>([^<]*)<", response.content.decode()))


def on_disk(person: User | None = None) -> set[str]:
    from django.core.files.storage import default_storage

    try:
        return set(default_storage.listdir("attachments")[1])
    except FileNotFoundError:
        return set()
