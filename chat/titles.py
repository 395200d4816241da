"""A conversation's title: one small call of its own, charged like every other."""

import structlog
from django.db import IntegrityError, connection

from chat import calls, spend, submission
from chat.citations import text_of
from chat.claude import ClaudeError, title_request
from chat.engine import engine
from chat.models import Conversation, UsageRecord
from chat.models.conversation import first_words
from chat.text import cleaned

log = structlog.get_logger(__name__)

LONGEST_SILENCE = 30  # seconds; a title that was sent and never answered is charged for so long


def write(conversation_id) -> None:
    """Replace the first words by a title. Without money or without an answer the first words stay.

    Delivered twice it sends once: the database allows one title call per conversation.
    """
    conversation = Conversation.objects.filter(id=conversation_id).select_related("owner").first()
    question = conversation and conversation.messages.filter(parent=None).first()
    if not conversation or not question or conversation.title != first_words(question.text):
        return
    request = title_request(question, conversation.owner_id)
    try:
        record = spend.admit(submission.call_beside(conversation, UsageRecord.Purpose.TITLE, request))
    except (spend.OverBudget, spend.Unpriceable, IntegrityError) as why:
        if isinstance(why, spend.Unpriceable):
            submission.no_price(request.model)
        log.info("no_title", conversation=str(conversation.id), why=type(why).__name__)
        return
    connection.close()
    try:
        message = engine().wait(engine().ask(lambda claude: claude.complete(request, record.max_tokens)))
    except ClaudeError as error:
        log.warning("no_title", conversation=str(conversation.id), why=str(error))
        if error.unbilled:
            spend.void(record, request_id=error.request_id)
        else:
            spend.settle(record, spend.estimate(record, {}, 0, LONGEST_SILENCE), exact=False)
        calls.note(record, error)
        return
    calls.charge(
        record,
        usage=message["usage"],
        stop_reason=message.get("stop_reason") or "",
        request_id=message["request_id"],
        message_id=message.get("id") or "",
    )
    calls.note(record)
    title = " ".join(cleaned(text_of(message.get("content") or [])).split()).strip("\"'*#. ")[:200]
    if title:
        Conversation.objects.filter(id=conversation.id, title=conversation.title).update(title=title)
