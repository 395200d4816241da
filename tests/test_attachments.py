"""Files: what is taken in and what is not, what becomes of it, and what Claude gets."""

import base64
import io
import re
import threading
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import accumulate

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.db.models.deletion import Collector
from django.template.loader import render_to_string
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from PIL import Image

from chat import drafts, files, submission
from chat.claude import request_for
from chat.claude.enclosures import with_files
from chat.files import pdfs
from chat.models import Attachment, Conversation, Message, NextMessage, Turn
from chat.models.conversation import FileTaken
from chat.views import uploads
from tests.attached import CODE, given, hand_in, ids, noise, on_disk, pdf, picture, why

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(browse, alice):
    return browse(alice)


def upload(name: str, data: bytes = CODE) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data)


def said(response) -> str:
    return response.content.decode()


def blocks_of(turn: Turn) -> list[dict]:
    """What Claude would get of the last question."""
    content = with_files(request_for(turn)).parameters()["messages"][-1]["content"]
    return content


def decoded(block: dict) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(block["source"]["data"])))


# --- Taken in


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
def test_each_kind_of_picture_is_taken_in_and_has_a_thumbnail(client, form):
    attachment = given(client, picture(form), f"cat.{form.lower()}")

    shown = client.get(f"/attachments/{attachment.id}/thumbnail/")

    assert (attachment.kind, attachment.width, attachment.height) == ("image", 64, 48)
    assert shown["Content-Type"] == "image/webp"
    assert Image.open(io.BytesIO(shown.content)).size == (64, 48)


def test_a_pdf_is_taken_in_with_the_number_of_its_pages(client):
    attachment = given(client, pdf(3), "report.pdf")

    assert (attachment.kind, attachment.pages, attachment.media_type) == ("pdf", 3, "application/pdf")


@pytest.mark.parametrize(
    "data",
    [
        CODE,
        "Grüße aus Köln, 日本語 🙂\n".encode(),
        "\ufeffwith a mark".encode(),
        "wide".encode("utf-16"),
        b"\x1b[31mred",
    ],
)
def test_text_and_code_are_taken_in(client, data):
    assert given(client, data, "notes.txt").kind == "text"


def test_the_chip_shows_name_size_and_a_button_to_remove_it(client):
    response = hand_in(client, ("report.pdf", pdf(2)))

    [attachment_id] = ids(response)
    assert "report.pdf" in said(response)
    assert "2 pages" in said(response)
    assert f'formaction="/attachments/{attachment_id}/deletion/"' in said(response)
    assert 'aria-label="Remove report.pdf"' in said(response)


def test_several_files_at_once_are_several_chips_and_words_for_those_that_are_not_taken(client):
    response = hand_in(client, ("a.py", CODE), ("empty.txt", b""), ("b.png", picture()))

    assert response.status_code == 200
    assert len(ids(response)) == 2
    assert "empty.txt" in said(response)
    assert "This file is empty." in why(response)


def test_the_same_file_twice_is_two_files(client):
    first, second = given(client), given(client)

    assert first.id != second.id
    assert first.sha256 == second.sha256


def test_the_content_decides_and_not_the_name(client):
    attachment = given(client, picture(), "notes.txt")

    assert attachment.kind == "image"
    assert attachment.name == "notes.txt.png"


def test_a_picture_of_one_pixel_is_a_picture(client):
    assert given(client, picture(size=(1, 1)), "dot.png").sent_pixels == (1, 1)


def test_of_a_picture_that_moves_claude_gets_the_first_frame(client, conversation):
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    data = io.BytesIO()
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:], duration=50)
    attachment = given(client, data.getvalue(), "dance.gif")

    turn = conversation.start_turn("What is it?", uuid.uuid4(), attachments=[attachment])

    sent = decoded(blocks_of(turn)[0])
    assert (sent.format, sent.size, getattr(sent, "n_frames", 1)) == ("PNG", (40, 30), 1)
    assert sent.convert("RGB").getpixel((5, 5)) == (255, 0, 0)


def test_the_chip_of_a_picture_that_moves_says_that_only_the_first_is_sent(client):
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    data = io.BytesIO()
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:], duration=50)
    still = io.BytesIO()
    frames[0].save(still, "GIF")

    moving = given(client, data.getvalue(), "dance.gif")
    one = given(client, still.getvalue(), "still.gif")

    chips = render_to_string("chat/_files.html#chips", {"files": [moving]})
    assert re.search(r'<span class="file__facts">first picture only, \d+', chips)
    assert "first picture only" not in render_to_string("chat/_files.html#chips", {"files": [one]})


# --- Refused, with words


BOMB = 20_000


def bomb() -> bytes:
    """400 million pixels in a few kilobytes."""
    data = picture(size=(1, 1))
    assert data[16:24] == b"\x00\x00\x00\x01" * 2
    header = b"IHDR" + BOMB.to_bytes(4) * 2 + data[24:29]
    return data[:12] + header + zlib.crc32(header).to_bytes(4) + data[33:]


LIES = {
    "empty.txt": (b"", "empty"),
    "blank.txt": (b" \n\t\n", "nothing but white space"),
    "page.png": (b"<html><script>alert(1)</script></html>", "named like a picture"),
    "text.pdf": (b"just words", "named like a PDF"),
    "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "drawing in SVG"),
    "drawing.txt": (b'<?xml version="1.0"?>\n<!-- x -->\n<svg></svg>', "drawing in SVG"),
    "program": (b"\x7fELF\x02\x01\x00\x00" + bytes(50), "neither a picture, a PDF nor text"),
    "nul.txt": (b"fine\x00not fine", "neither a picture, a PDF nor text"),
    "latin1.txt": ("Grüße".encode("latin-1"), "encoding UTF-8"),
    "letter.docx": (b"PK\x03\x04" + bytes(30), "Office document"),
    "old.doc": (b"\xd0\xcf\x11\xe0" + bytes(30), "old Office document"),
    "photo.heic": (bytes(4) + b"ftypheic" + bytes(30), "HEIC"),
    "film.mp4": (bytes(4) + b"ftypisom" + bytes(30), "film"),
    "scan.tiff": (b"II*\x00" + bytes(30), "TIFF"),
    "sound.wav": (b"RIFF\x00\x00\x00\x00WAVE" + bytes(30), "recording"),
    "cut.jpg": (noise("JPEG", (200, 200))[:9_000], "damaged or not complete"),
    "cut.png": (noise("PNG", (200, 200))[:9_000], "damaged or not complete"),
    "head.gif": (b"GIF89a/*" + b"=1;alert(1)//" * 9, "damaged or not complete"),
    "bomb.png": (bomb(), "million pixels"),
    "locked.pdf": (pdf(password="secret"), "protected by a password"),
    "nothing.pdf": (pdf(0), "no pages"),
    "broken.pdf": (b"%PDF-1.7\n" + b"nonsense " * 40, "damaged"),
    "long.pdf": (pdf(601), "600 at most"),
}


@pytest.mark.parametrize("name", LIES)
def test_what_claude_cannot_read_is_refused_with_words_and_kept_nowhere(client, name):
    before = on_disk()

    response = hand_in(client, (name, LIES[name][0]))

    assert response.status_code == 422
    assert LIES[name][1] in why(response)
    assert why(response).count(".") >= 1, "it says what to do"
    assert not Attachment.objects.exists()
    assert on_disk() == before


def test_a_file_that_is_too_large_is_refused(client, settings):
    settings.LARGEST_FILE_MB = 1

    at_the_limit = hand_in(client, ("a.txt", b"a" * 1_000_000))
    above = hand_in(client, ("b.txt", b"a" * 1_000_001))

    assert at_the_limit.status_code == 200
    assert above.status_code == 422
    assert "This file has 1.1 MB; 1 MB is the most. Attach a part of it." in why(above)


def test_a_paste_that_is_too_large_is_not_called_a_file_that_was_attached(client):
    response = hand_in(client, ("Pasted text.txt", b"words " * 1_700_000))

    assert response.status_code == 422
    assert "You pasted 10.2 MB; 5 MB is the most. Paste a part of it." in why(response)


def test_two_hundred_files_at_once_are_refused_with_words(client):
    response = hand_in(client, *[(f"{number}.txt", CODE) for number in range(200)])

    assert response.status_code == 413
    assert "These are more than 100 files." in said(response)
    assert not Attachment.objects.exists()


def test_of_more_files_at_once_than_a_message_takes_the_first_are_taken_and_the_others_named(client, settings):
    settings.FILES_PER_MESSAGE = 2

    response = hand_in(client, *[(f"{number}.txt", CODE) for number in range(4)])

    assert response.status_code == 200
    assert [a.name for a in Attachment.objects.order_by("id")] == ["0.txt", "1.txt"]
    assert re.findall(r'title="(.)\.txt">', said(response).partition("file--refused")[2]) == ["2", "3"]
    assert "2 files are the most at once. Attach this one again, with the next upload." in why(response)


def test_what_is_refused_counts_as_well(client, settings):
    settings.FILES_PER_MESSAGE = 2

    response = hand_in(client, ("a.txt", b""), ("b.txt", b""), ("c.txt", CODE))

    assert response.status_code == 422
    assert why(response).endswith("2 files are the most at once. Attach this one again, with the next upload.")


def test_a_request_whose_files_take_too_long_is_answered(client, monkeypatch):
    monkeypatch.setattr(uploads, "LONGEST", 0)

    response = hand_in(client, ("a.pdf", pdf()), ("b.pdf", pdf()))

    assert response.status_code == 422
    assert "took too long to read" in why(response)


def test_no_more_than_two_pdfs_are_read_at_the_same_moment(alice, tmp_path, monkeypatch):
    """A stand-in for the program says when it begins and when it ends."""
    program, diary = tmp_path / "program.py", tmp_path / "diary"
    program.write_text(
        f"import time\nfor word in ('begin', 'end'):\n"
        f"    with open({str(diary)!r}, 'a') as file: file.write(word + chr(10))\n"
        f"    time.sleep(0.2)\nprint(1)"
    )
    monkeypatch.setattr(pdfs, "PROGRAM", program)

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: pdfs.look(str(program)).pages, range(6)))

    running = list(accumulate(1 if word == "begin" else -1 for word in diary.read_text().split()))
    assert found == [1] * 6
    assert max(running) == 2


def test_who_waits_too_long_for_a_reader_of_pdfs_is_told(client, monkeypatch):
    monkeypatch.setattr(pdfs, "PATIENCE", 0.01)
    with pdfs._room, pdfs._room:
        response = hand_in(client, ("a.pdf", pdf()))

    assert response.status_code == 422
    assert "Try again in a minute." in why(response)


def test_a_pdf_that_says_that_it_is_too_long_is_not_read_to_its_end(client):
    """Its pages are no pages: whoever looked at them would find it damaged."""
    said = b"%PDF-1.4\n1 0 obj <</Type/Catalog/Pages 2 0 R>> endobj 2 0 obj <</Type/Pages/Count 40000/Kids 7>> endobj\n"
    data = said + b"trailer <</Root 1 0 R/Size 3>>\nstartxref\n0\n%%EOF"

    response = hand_in(client, ("long.pdf", data))

    assert "This PDF has 40,000 pages; Claude takes 600 at most." in why(response)


def test_a_pdf_that_says_too_little_of_itself_is_counted(client):
    response = hand_in(client, ("short.pdf", pdf(601).replace(b"/Count 601", b"/Count 1  ")))

    assert "This PDF has 601 pages" in why(response)


def test_nobody_can_have_more_waiting_than_there_is_room_for(client, settings):
    settings.UNSENT_FILES = 2

    answers = [hand_in(client, (f"{number}.txt", CODE)).status_code for number in range(3)]

    assert answers == [200, 200, 422]
    assert Attachment.objects.count() == 2
    assert len(on_disk()) >= 2


def test_nobody_can_have_more_bytes_waiting_than_there_is_room_for(client, settings):
    settings.UNSENT_FILES_MB = 1
    given(client, b"a" * 900_000)

    response = hand_in(client, ("b.txt", b"a" * 200_000))

    assert "no more fit" in why(response)


def test_a_request_without_a_file_says_so(client):
    response = client.post("/attachments/", headers={"HX-Request": "true"})

    assert response.status_code == 422
    assert "No file has arrived" in why(response)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("invoice\u202efdp.txt", "invoicefdp.txt"),
        ("two\nlines\r.txt", "two lines .txt"),
        ("x" * 500 + ".txt", "x" * 115 + "….txt"),
        ('"quoted"; <b>&.txt', '"quoted"; <b>&.txt'),
        ("...", "file"),
        ("Ångström 日本.txt", "Ångström 日本.txt"),
    ],
)
def test_a_name_is_one_harmless_line(raw, name):
    assert files.names.clean(raw) == name


# --- Sent


def test_a_message_takes_its_files_along(client, conversation, send):
    photo, code = given(client, picture(), "cat.png"), given(client)

    response = send("What is this?", attachments=[photo.id, code.id])

    assert response.status_code == 302
    question = Message.objects.get(role="user")
    assert question.attachments == [photo, code]
    assert question.text == "What is this?"
    assert question.content == [
        {"type": "image", "source": {"type": "attachment", "id": str(photo.id)}},
        {"type": "document", "source": {"type": "attachment", "id": str(code.id)}, "title": "answer.py"},
        {"type": "text", "text": "What is this?"},
    ]
    assert {a.conversation_id for a in Attachment.objects.all()} == {conversation.id}


def test_a_message_may_be_its_files_alone(client, conversation, send):
    photo = given(client, picture(), "cat.png")

    response = send("  ", attachments=[photo.id])

    assert response.status_code == 302
    assert [block["type"] for block in Message.objects.get(role="user").content] == ["image"]
    assert Conversation.objects.get(id=conversation.id).title == "cat.png"


def test_a_message_without_text_and_files_is_refused(send):
    response = send("  ")

    assert response.status_code == 422
    assert "Write something first." in said(response)


def test_a_new_chat_may_begin_with_a_file_alone(client):
    photo = given(client, picture(), "cat.png")

    response = client.post("/conversations/", {"text": "", "attachments": photo.id, "client_id": uuid.uuid4()})

    assert response.status_code == 302
    assert Message.objects.get(role="user").attachments == [photo]


def test_two_clicks_on_send_take_the_file_along_once(client, send):
    photo, client_id = given(client, picture(), "cat.png"), uuid.uuid4()

    answers = [send("", client_id, attachments=[photo.id]).status_code for _ in range(2)]

    assert answers == [302, 302]
    assert Turn.objects.count() == 1


def test_a_file_goes_with_one_conversation_and_the_other_tab_is_told(client, alice, conversation, send):
    photo, other = given(client, picture(), "cat.png"), alice.conversations.create(model=conversation.model)
    send("Here", attachments=[photo.id])

    response = send("And here", to=other, attachments=[photo.id])

    assert response.status_code == 409
    assert "A file of this message is no longer here" in said(response)
    assert "And here" in said(response)
    assert Turn.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("throw_away", ["remove", "purge"])
def test_what_is_thrown_away_and_sent_at_the_same_moment_stays_where_it_was_sent(
    client, send, alice, monkeypatch, throw_away
):
    file, answers = given(client, picture(), "cat.png"), []
    Attachment.objects.filter(id=file.id).update(created_at=timezone.now() - timedelta(days=8))
    delete = Collector.delete

    def press_send() -> None:
        answers.append(send("Look at this", attachments=[file.id]).status_code)
        connection.close()

    sending = threading.Thread(target=press_send)

    def while_it_is_sent(collector):
        if Attachment in collector.data and not sending.ident:
            sending.start()
            sending.join(1)  # for nothing, if it waits for us
        return delete(collector)

    monkeypatch.setattr(Collector, "delete", while_it_is_sent)

    if throw_away == "remove":
        client.post(f"/attachments/{file.id}/deletion/", headers={"HX-Request": "true"})
    else:
        files.purge()
    sending.join()

    was_sent = Message.objects.filter(role="user").exists()
    assert (answers == [302]) == was_sent
    assert Attachment.objects.filter(id=file.id).exists() == was_sent
    assert on_disk() >= {str(file.id)} if was_sent else str(file.id) not in on_disk()
    submission.stop(Turn.objects.all())


def test_a_file_that_was_removed_in_another_tab_is_said_and_not_left_out(client, send):
    kept, removed = given(client), given(client)
    client.post(f"/attachments/{removed.id}/deletion/", headers={"HX-Request": "true"})

    response = send("Look", attachments=[kept.id, removed.id])

    assert response.status_code == 422
    assert "no longer here" in said(response)
    assert not Turn.objects.exists()


def test_a_message_takes_as_many_files_as_are_allowed_and_no_more(client, send, settings):
    settings.FILES_PER_MESSAGE = 2
    three = [given(client).id for _ in range(3)]

    above, at_the_limit = send("Look", attachments=three), send("Look", attachments=three[:2])

    assert above.status_code == 422
    assert "a message takes 2" in said(above)
    assert at_the_limit.status_code == 302


def test_the_page_shows_the_files_of_a_question_with_room_for_each(client, conversation, send):
    photo, code = given(client, picture(size=(960, 480)), "cat.png"), given(client)
    send("Look", attachments=[photo.id, code.id])

    page = said(client.get(conversation.get_absolute_url()))

    assert (
        f'<img src="/attachments/{photo.id}/thumbnail/" width="240" height="120" alt="cat.png" loading="lazy"' in page
    )
    assert f'href="/attachments/{code.id}/" download="answer.py"' in page


def test_the_page_asks_the_database_no_more_often_for_more_files(client, conversation, send):
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            client.get(conversation.get_absolute_url())
        return len([query for query in asked if 'FROM "chat_attachment"' in query["sql"]])

    def look() -> None:
        send("Look", attachments=[given(client).id, given(client).id])
        submission.stop(Turn.objects.all())

    look()
    look()
    few = queries()
    for _ in range(4):
        look()

    assert 1 <= queries() == few


def test_an_edited_question_keeps_its_files(client, conversation, send):
    code = given(client)
    send("Look", attachments=[code.id])
    submission.stop(Turn.objects.all())
    question = Message.objects.get(role="user")

    turn = conversation.start_turn("Look again", uuid.uuid4(), instead_of=question)

    assert turn.question.attachments == [code]
    assert blocks_of(turn)[0]["source"]["data"] == CODE.decode()


# --- Without JavaScript


def test_without_javascript_the_files_come_with_the_message(client, conversation):
    upload = io.BytesIO(CODE)
    upload.name = "answer.py"

    response = client.post(f"/conversations/{conversation.id}/messages/", {"text": "Look", "files": upload})

    assert response.status_code == 302
    assert [a.name for a in Message.objects.get(role="user").attachments] == ["answer.py"]


def test_without_javascript_a_refusal_gives_back_the_text_and_the_files_that_were_taken(client, conversation):
    good, bad = io.BytesIO(CODE), io.BytesIO(b"PK\x03\x04" + bytes(20))
    good.name, bad.name = "answer.py", "letter.docx"

    response = client.post(f"/conversations/{conversation.id}/messages/", {"text": "Look", "files": [good, bad]})
    again = client.post(f"/conversations/{conversation.id}/messages/", {"text": "Look", "attachments": ids(response)})

    assert response.status_code == 422
    assert "“letter.docx” was not attached" in said(response)
    assert ">\nLook</textarea>" in said(response)
    assert again.status_code == 302
    assert [a.name for a in Message.objects.get(role="user").attachments] == ["answer.py"]


def test_without_javascript_a_file_is_removed_and_everything_else_stays(client, conversation):
    kept, removed = given(client), given(client)
    fields = {"text": "Look", "attachments": [kept.id, removed.id]}

    response = client.post(f"/attachments/{removed.id}/deletion/?conversation={conversation.id}", fields)

    assert response.status_code == 200
    assert ids(response) == [kept.id]
    assert ">\nLook</textarea>" in said(response)
    assert f'action="/conversations/{conversation.id}/messages/"' in said(response)


@pytest.mark.parametrize("text", ["Look", ""])
@pytest.mark.parametrize("new_chat", [True, False])
def test_without_javascript_two_clicks_with_a_file_are_one_message_and_one_file(client, conversation, text, new_chat):
    address = "/conversations/" if new_chat else f"/conversations/{conversation.id}/messages/"
    fields = {"text": text, "client_id": uuid.uuid4(), "composer": "1"}

    answers = [client.post(address, {**fields, "files": upload("answer.py")}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [302, 302]
    assert answers[0].url == answers[1].url
    assert Turn.objects.count() == 1
    assert [a.name for a in Attachment.objects.all()] == ["answer.py"]


def test_without_javascript_two_clicks_with_a_file_are_one_waiting_message_and_one_file(client, conversation, send):
    send("First")
    fields = {"text": "Look", "client_id": uuid.uuid4(), "composer": "1"}
    address = f"/conversations/{conversation.id}/messages/"

    answers = [client.post(address, {**fields, "files": upload("answer.py")}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [302, 302]
    assert NextMessage.objects.get().attachments == [str(Attachment.objects.get().id)]


def test_another_file_with_the_client_id_of_what_was_sent_is_not_thrown_away(client, conversation):
    fields = {"text": "Look", "client_id": uuid.uuid4(), "composer": "1"}
    address = f"/conversations/{conversation.id}/messages/"
    client.post(address, {**fields, "files": upload("answer.py")})

    response = client.post(address, {**fields, "files": upload("question.py", b"print('?')\n")})

    [kept] = ids(response)
    assert response.status_code == 409
    assert Attachment.objects.get(id=kept).name == "question.py"


# --- What Claude gets


def ask_about(conversation, *attachments) -> Turn:
    return conversation.start_turn("What is it?", uuid.uuid4(), attachments=attachments)


def test_claude_gets_pixels_and_nothing_else_of_a_photo(client, conversation):
    taken_at = Image.Exif()
    taken_at[0x8825] = {1: "N", 2: (48.0, 51.0, 29.0)}  # where the photo was taken
    data = picture("JPEG", exif=taken_at) + b"<script>second file</script>"
    attachment = given(client, data, "photo.jpg")

    [image, _] = blocks_of(ask_about(conversation, attachment))

    sent = base64.b64decode(image["source"]["data"])
    assert b"Exif" in data
    assert b"Exif" not in sent
    assert b"second file" not in sent
    assert decoded(image).size == (64, 48)


def test_a_photo_that_was_held_upright_arrives_upright(client, conversation):
    upright = Image.Exif()
    upright[0x0112] = 6
    attachment = given(client, picture("JPEG", (4_000, 3_000), exif=upright), "photo.jpg")

    [image, _] = blocks_of(ask_about(conversation, attachment))

    assert (attachment.width, attachment.height) == (3_000, 4_000)
    assert decoded(image).size == attachment.sent_pixels == (1_932, 2_576)


def test_a_large_picture_is_made_smaller_for_claude_and_kept_as_it_is_for_its_owner(client, conversation):
    data = noise("PNG", (3_000, 1_000))
    attachment = given(client, data, "scan.png")

    [image, _] = blocks_of(ask_about(conversation, attachment))

    assert decoded(image).size == (2_576, 859)
    assert image["source"]["media_type"] == "image/jpeg", "as PNG it would be too many bytes"
    assert len(image["source"]["data"]) < 10_000_000
    assert b"".join(client.get(f"/attachments/{attachment.id}/").streaming_content) == data


def test_a_picture_with_holes_keeps_them(client, conversation):
    attachment = given(client, picture("WEBP", mode="RGBA"), "logo.webp")

    [image, _] = blocks_of(ask_about(conversation, attachment))

    assert image["source"]["media_type"] == "image/png"
    assert decoded(image).mode == "RGBA"


def test_with_more_than_twenty_pictures_each_is_within_the_smaller_limit(client, conversation):
    large = [given(client, picture(size=(2_400, 300)), "a.png") for _ in range(21)]

    blocks = blocks_of(ask_about(conversation, *large))

    assert {max(decoded(block).size) for block in blocks[:-1]} == {2_000}


def test_a_text_arrives_as_a_document_with_its_name_in_utf_8(client, conversation):
    attachment = given(client, "Grüße 日本".encode("utf-16"), "notes.txt")

    [document, _] = blocks_of(ask_about(conversation, attachment))

    assert document == {
        "type": "document",
        "title": "notes.txt",
        "source": {"type": "text", "media_type": "text/plain", "data": "Grüße 日本"},
    }


def test_the_same_history_is_sent_to_the_byte_so_that_the_cache_is_found(client, conversation):
    attachments = [given(client, noise("JPEG", (300, 200)), "a.jpg"), given(client, pdf(2), "b.pdf"), given(client)]
    turn = ask_about(conversation, *attachments)

    first = with_files(request_for(turn)).parameters()["messages"]
    again = with_files(request_for(Turn.objects.get(id=turn.id))).parameters()["messages"]

    assert first == again


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker")
def test_claude_reads_the_files_and_the_sandbox_invoices_them(client, conversation, ask, sandbox):
    Conversation.objects.filter(id=conversation.id).update(title="Files")
    sandbox.enqueue(say="A teal picture.")
    attachments = [given(client, picture(size=(560, 560)), "a.png"), given(client, pdf(2), "b.pdf"), given(client)]

    turn = ask("What are these?", attachments=[a.id for a in attachments])

    [image, document, code, _] = sandbox.requests[0]["body"]["messages"][0]["content"]
    assert turn.reply.text == "A teal picture."
    assert image["source"]["type"] == document["source"]["type"] == "base64"
    assert code["source"]["data"] == CODE.decode()
    record = turn.usage_records.get(purpose="reply")
    assert record.prompt_tokens > 20 * 20 + 2 * 1_500
    assert record.cost <= record.held


# --- A file that is gone


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("worker")
def test_a_file_that_is_gone_from_the_disk_is_said_to_claude_and_to_its_owner(client, conversation, ask, sandbox):
    Conversation.objects.filter(id=conversation.id).update(title="Files")
    attachment = given(client, picture(), "cat.png")
    default_storage.delete(attachment.sent_file.name)
    default_storage.delete(attachment.file.name)

    turn = ask("What is it?", attachments=[attachment.id])

    [words, _] = sandbox.requests[0]["body"]["messages"][0]["content"]
    assert turn.state == "done"
    assert "“cat.png”" in words["text"]
    assert "no longer stored" in words["text"]
    assert "This file is no longer stored" in said(client.get(conversation.get_absolute_url()))
    assert client.get(f"/attachments/{attachment.id}/").status_code == 404


# --- Deleted


@pytest.mark.django_db(transaction=True)
def test_files_go_with_their_conversation(client, conversation, send):
    before = on_disk()
    given(client, picture(), "kept.png")
    sent = given(client, picture(), "sent.png")
    send("Look", attachments=[sent.id])
    submission.stop(Turn.objects.all())

    client.post(f"/conversations/{conversation.id}/deletion/")

    assert [a.name for a in Attachment.objects.all()] == ["kept.png"]
    assert len(on_disk() - before) == 2, "the original and what Claude would get"


@pytest.mark.django_db(transaction=True)
def test_files_go_with_their_owner_also_with_many_at_once(client, alice, bob, browse, conversation, send):
    before = on_disk()
    send("Look", attachments=[given(client).id])
    submission.stop(Turn.objects.all())
    given(client)
    given(browse(bob))

    type(alice).objects.filter(pk__in=[alice.pk, bob.pk]).delete()

    assert on_disk() == before


@pytest.mark.django_db(transaction=True)
def test_a_removed_file_is_gone_and_a_sent_one_stays_with_its_message(client, send):
    removed, sent = given(client), given(client)
    send("Look", attachments=[sent.id])

    answers = [client.post(f"/attachments/{a.id}/deletion/", headers={"HX-Request": "true"}) for a in (removed, sent)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [a.id for a in Attachment.objects.all()] == [sent.id]
    assert str(removed.id) not in on_disk()
    submission.stop(Turn.objects.all())


@pytest.mark.django_db(transaction=True)
def test_what_was_never_sent_is_thrown_away_after_some_days(client, send):
    old, fresh, sent = (given(client) for _ in range(3))
    send("Look", attachments=[sent.id])
    submission.stop(Turn.objects.all())
    long_ago = timezone.now() - timedelta(days=8)
    Attachment.objects.filter(id__in=[old.id, sent.id]).update(created_at=long_ago)

    files.purge()

    assert set(Attachment.objects.all()) == {fresh, sent}
    assert str(old.id) not in on_disk()


@pytest.mark.django_db
def test_what_stands_in_a_composer_still_is_kept_however_old(client, alice):
    old = given(client)
    Attachment.objects.filter(id=old.id).update(created_at=timezone.now() - timedelta(days=8))
    drafts.keep(alice, None, "Soon", [str(old.id)])

    files.purge()

    assert Attachment.objects.get() == old


@pytest.mark.django_db(transaction=True)
def test_what_a_crash_left_on_the_disk_is_found(client, settings):
    kept, lost = given(client), given(client)
    Attachment.objects.filter(id=lost.id)._raw_delete(using="default")

    files.purge()
    settings.UNSENT_FILE_DAYS = 1e-9
    Attachment.objects.filter(id=kept.id).update(created_at=timezone.now() + timedelta(days=1))
    at_first = on_disk()
    files.purge()

    assert str(lost.id) in at_first, "it may still be on its way into a row"
    assert str(lost.id) not in on_disk()
    assert str(kept.id) in on_disk()


def test_a_second_conversation_cannot_take_a_file_even_past_the_page(client, alice, conversation):
    code, other = given(client), alice.conversations.create(model=conversation.model)
    ask_about(conversation, code)

    with pytest.raises(FileTaken):
        ask_about(other, code)

    assert not other.messages.exists()
