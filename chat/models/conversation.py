from django.db import IntegrityError, models, transaction
from django.urls import reverse

from chat.ids import uuid7
from chat.models.message import Message
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

    def branch(self, leaf_id=None) -> list[Message]:
        """The messages down to the leaf (the active one unless another is named), oldest first.

        One query however deep the tree; the walk up happens in memory.
        """
        messages: dict[object, Message] = {message.id: message for message in self.messages.all()}
        branch = []
        step = messages.get(leaf_id or self.active_leaf_id)
        while step is not None:
            branch.append(step)
            step = messages.get(step.parent_id)
        return branch[::-1]

    def start_turn(self, text: str, client_id, *, model: str = "", effort: str = ""):
        """Write the question, an empty reply and their turn, all or none, and return the turn.

        The same client_id gives the same turn again: a double click asks once, also when both clicks
        arrive at the same instant. Raises LiveTurnExists or ClientIdReused.
        """

        content = [{"type": "text", "text": text}]
        question = Message(conversation=self, role=Message.Role.USER, content=content, text=text)
        return self._begin(question, client_id, model=model, effort=effort)

    def retry_turn(self, question: Message, client_id, *, model: str = ""):
        """Ask the same question again: the new reply is a sibling of the old one. Raises as `start_turn`."""
        return self._begin(question, client_id, model=model)

    def _begin(self, question: Message, client_id, *, model: str = "", effort: str = ""):
        """Just write it. The constraints say no to what is there already, and only then do we look what it is."""
        is_new = question._state.adding
        for is_last in (False, False, True):
            try:
                with transaction.atomic():
                    return self._write(question, client_id, is_new=is_new, model=model, effort=effort)
            except IntegrityError:
                if turn := self._sent_before(client_id, question.text):
                    return turn
                if turn := self.live_turn:
                    raise LiveTurnExists(turn) from None
                # The answer that was in the way may have ended before we looked.
                if is_last:
                    raise

    def _write(self, question: Message, client_id, *, is_new: bool, model: str, effort: str):
        # Locks the row, so that two requests cannot both hang their question on the same leaf; but not its key,
        # since an admission that refers to it may hold the live turn, for which we may have to wait.
        row = Conversation.objects.select_for_update(no_key=True).get(id=self.id)
        reply = Message(conversation=self, role=Message.Role.ASSISTANT, parent=question)
        if is_new:
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
        self.title = row.title or first_words(question.text)
        self.save(update_fields=["active_leaf", "model", "effort", "title", "updated_at"])
        turn.is_new = True
        return turn

    def _sent_before(self, client_id, text: str):
        sent = Turn.objects.filter(user=self.owner_id, client_id=client_id)
        turn = sent.select_related("question", "reply", "conversation").first()
        if turn and (turn.conversation_id != self.id or turn.question.text != text):
            raise ClientIdReused
        return turn


def first_words(text: str) -> str:
    """A title until the model has written one."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:60].rsplit(" ", 1)[0] + "…"
