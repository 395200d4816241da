from collections.abc import Sequence

from django.db import IntegrityError, models, transaction
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from chat.ids import uuid7
from chat.models.attachment import Attachment
from chat.models.message import Message
from chat.models.tree import Tree
from chat.models.turn import Turn


class Effort(models.TextChoices):
    """How long Claude may think, in the page's words; chat/claude/request.py has the API's."""

    QUICK = "quick", "Quick"
    BALANCED = "balanced", "Balanced"
    DEEP = "deep", "Deep"


class LiveTurnExists(Exception):
    """The conversation has a turn that is not over: `.turn`."""

    def __init__(self, turn):
        self.turn = turn


class ClientIdReused(Exception):
    """The client_id belongs to another question."""


class FileTaken(Exception):
    """A file of the message is gone, or went along with a message of another conversation."""


class Conversation(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey("chat.User", models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=200, blank=True)
    system_prompt = models.TextField(blank=True)
    model = models.CharField(max_length=100)
    effort = models.CharField(max_length=10, choices=Effort, default=Effort.BALANCED)
    max_searches = models.PositiveSmallIntegerField(default=0, help_text="Web searches that one answer may make.")
    pinned = models.BooleanField(default=False)
    archived = models.BooleanField(default=False)
    active_leaf = models.ForeignKey("chat.Message", models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    read_at = models.DateTimeField(default=timezone.now, help_text="When its owner last saw its newest answer.")

    class Meta:
        indexes = [models.Index(fields=["owner", "-updated_at"], name="conversation_by_owner")]

    def __str__(self) -> str:
        """Without its title: Django's admin shows this, and a title is its owner's."""
        return f"conversation {self.id}"

    def get_absolute_url(self) -> str:
        return reverse("conversation", args=[self.id])

    @property
    def live_turn(self):
        """The turn that is queued or running, or None. The database allows one."""
        return self.turns.live().first()

    def tree(self) -> Tree:
        return Tree(self.messages.values_list("id", "parent_id"))

    def branch(self, leaf_id=None) -> list[Message]:
        """The messages down to the leaf (the active one unless another is named), oldest first.

        Two queries however deep the tree is, and nothing is read of what stands beside the branch. It is for Claude
        and for files: of a long one the HTML for pages is most, and is not read.
        """
        return self.read(self.tree().path(leaf_id or self.active_leaf_id), rendered=False)

    def read(self, path: list, *, rendered: bool = True) -> list[Message]:
        """The messages with these ids, in their order."""
        messages = self.messages.all() if rendered else self.messages.defer("rendered")
        found = messages.in_bulk(path)
        return [found[message_id] for message_id in path]

    def start_turn(
        self,
        text: str,
        client_id,
        *,
        model: str = "",
        effort: str = "",
        instead_of: Message | None = None,
        after: Message | None = None,
        attachments: Sequence[Attachment] = (),
    ):
        """Write the question, an empty reply and their turn, all or none, and return the turn.

        It follows the active leaf, or the answer `after`; or it stands beside the question `instead_of`, which stays.
        The same client_id gives the same turn again: a double click asks once, also when both clicks
        arrive at the same instant. Files are taken along; an edited question keeps those of the one that it replaces.
        Raises LiveTurnExists, ClientIdReused or FileTaken.
        """
        enclosed = attachments or (instead_of.attachments if instead_of else ())
        content = [attachment.block for attachment in enclosed]
        content += [{"type": "text", "text": text}] if text else []
        question = Message(conversation=self, role=Message.Role.USER, content=content, text=text)
        if instead_of:
            question.parent_id = instead_of.parent_id
        elif after:
            question.parent_id = after.id
        return self._begin(question, client_id, at_the_end=not (instead_of or after), model=model, effort=effort)

    def retry_turn(self, question: Message, client_id, *, model: str = "", effort: str = ""):
        """Ask the same question again: the new reply is a sibling of the old one. Raises as `start_turn`."""
        return self._begin(question, client_id, at_the_end=False, model=model, effort=effort)

    def select(self, message: Message) -> bool:
        """Show the branch through this message, its newest one, and go on from there.

        False while an answer is being written: its branch stays the active one, so that no page loses it.
        """
        with transaction.atomic():
            row = self._locked()
            tree = self.tree()
            is_shown = message.id in tree.path(row.active_leaf_id)
            if not is_shown and row.live_turn:
                return False
            self.active_leaf_id = row.active_leaf_id if is_shown else tree.newest_leaf(message.id)
            # Not `save`: whoever only looks does not make the conversation newer.
            Conversation.objects.filter(id=self.id).update(active_leaf=self.active_leaf_id)
            return True

    def _begin(self, question: Message, client_id, *, at_the_end: bool, model: str, effort: str):
        """Just write it. The constraints say no to what is there already, and only then do we look what it is."""
        is_new = question._state.adding
        for is_last in (False, False, True):
            try:
                with transaction.atomic():
                    return self._write(question, client_id, is_new, at_the_end, model=model, effort=effort)
            except IntegrityError:
                if turn := self._sent_before(client_id, question, is_new):
                    return turn
                if turn := self.live_turn:
                    raise LiveTurnExists(turn) from None
                # The answer that was in the way may have ended before we looked.
                if is_last:
                    raise

    def _write(self, question: Message, client_id, is_new: bool, at_the_end: bool, *, model: str, effort: str):
        row = self._locked()
        reply = Message(conversation=self, role=Message.Role.ASSISTANT, parent=question)
        if at_the_end:
            question.parent_id = row.active_leaf_id
        Message.objects.bulk_create([question, reply] if is_new else [reply])
        turn = self.turns.create(
            user=self.owner,
            question=question,
            reply=reply,
            client_id=client_id,
            model=model or row.model,
            effort=effort or row.effort,
        )
        self.active_leaf, self.model, self.effort = reply, turn.model, turn.effort
        self.title = row.title or first_words(question.text or _name_of_first(question))
        self.save(update_fields=["active_leaf", "model", "effort", "title", "updated_at"])
        if is_new:
            self._take_along(question.attachment_ids)
        turn.is_new = True
        return turn

    def _take_along(self, ids: list) -> None:
        free = Q(conversation=None) | Q(conversation=self)
        taken = Attachment.objects.filter(free, id__in=ids, owner=self.owner_id) if ids else None
        if taken is not None and taken.update(conversation=self) != len(ids):
            raise FileTaken

    def _locked(self) -> "Conversation":
        """The row as it is now, until the transaction ends: two requests cannot both hang their question on the same
        leaf. Not its key, since an admission that refers to it may hold the live turn, for which we may have to wait.
        """
        return Conversation.objects.select_for_update(no_key=True).get(id=self.id)

    def _sent_before(self, client_id, question: Message, is_new: bool):
        sent = Turn.objects.filter(user=self.owner_id, client_id=client_id)
        turn = sent.select_related("question", "reply", "conversation").first()
        same = turn and (_same(turn.question, question) if is_new else turn.question_id == question.id)
        if turn and (turn.conversation_id != self.id or not same):
            raise ClientIdReused
        return turn


def _same(sent: Message, question: Message) -> bool:
    """Whether it says what was sent. Whoever asks again may find its files sent and leave them out."""
    same_text = sent.text == question.text
    return same_text and Attachment.objects.are_among(question.attachment_ids, sent.attachment_ids)


def _name_of_first(question: Message) -> str:
    return question.attachments[0].name if question.attachments else ""


def first_words(text: str) -> str:
    """A title until the model has written one."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:60].rsplit(" ", 1)[0] + "…"
