"""What somebody has written in a form that was not taken: it goes back to them, and nowhere else."""

from dataclasses import dataclass

from django.http import HttpRequest

BOXES = ("text", "system_prompt", "instructions", "reason")  # what people write at length, in whichever form
OF_A_PAGE = ("csrfmiddlewaretoken",)
OF_A_CHAT = (*OF_A_PAGE, "after", "seen", "waiting")


@dataclass(frozen=True)
class Kept:
    """`box` is the field that has the text, `fields` all others, in their order."""

    box: str
    text: str
    fields: list[tuple[str, str]]
    had_files: bool


def kept(request: HttpRequest, *, but: tuple[str, ...] = OF_A_PAGE) -> Kept | None:
    """None where nothing was written that would be a loss."""
    if request.method != "POST":
        return None
    box = next((name for name in BOXES if request.POST.get(name, "").strip()), None)
    if box is None:
        return None
    fields = [(name, value) for name, values in request.POST.lists() for value in values if name not in {box, *but}]
    return Kept(box, request.POST[box], fields, bool(request.FILES.getlist("files")))
