"""A conversation as a file: the branch that is shown, to read; or the whole tree, for a machine."""

import json
from datetime import datetime

from django.utils import timezone

from chat import money, thread
from chat.footer import Footer
from chat.models import Conversation, Message, UsageRecord


def markdown(conversation: Conversation) -> str:
    """The branch that is shown, with models, dates and costs. Queries do not grow with its length."""
    items = thread.items(conversation.branch())
    parts = [f"# {_line(conversation.title) or 'New conversation'}", f"Exported on {_spoken(timezone.now())}."]
    if conversation.system_prompt:
        parts += ["## Instructions", conversation.system_prompt]
    total = 0
    for item in items:
        parts += _said(item)
        total += item.turn.footer.cost if item.turn and item.turn.footer else 0
    parts += ["---", f"{len(items)} messages. The answers cost {money.spoken(total)}."]
    return "\n\n".join(parts) + "\n"


def as_json(conversation: Conversation) -> str:
    """Every message of every branch with its parent, and what each call for it cost, in exact dollars."""
    messages = list(conversation.messages.select_related("turn"))
    calls: dict[object, list[dict]] = {}
    records = UsageRecord.objects.filter(conversation=conversation).select_related("turn").order_by("admitted_at")
    for record in records:
        calls.setdefault(record.turn and record.turn.reply_id, []).append(_call(record))
    document = {
        "id": str(conversation.id),
        "title": conversation.title,
        "instructions": conversation.system_prompt,
        "created_at": _exact(conversation.created_at),
        "shown": str(conversation.active_leaf_id) if conversation.active_leaf_id else None,
        "messages": [_message(message, calls.get(message.id, [])) for message in messages],
        "other_calls": calls.get(None, []),
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def file_name(conversation: Conversation, ending: str) -> str:
    """By its title, as far as every file system takes that."""
    letters = "".join(letter if letter.isalnum() else " " for letter in conversation.title)
    return f"{'-'.join(letters.split())[:60] or 'conversation'}.{ending}"


def _said(item: thread.Item) -> list[str]:
    message, at = item.message, _spoken(item.message.created_at)
    if message.role == Message.Role.USER:
        files = [f"- {_line(attachment.name)}" for attachment in message.attachments]
        return [part for part in (f"## You, {at}", message.text, "\n".join(files)) if part]
    footer = item.turn.footer if item.turn else None
    ending = item.turn.ending if item.turn else None
    sources = [f"{source.number}. <{source.url}>" for source in message.sources]
    name = footer.model_name if footer else "Claude"
    parts = (f"## {name}, {at}", message.text, "\n".join(sources), ending and f"*{ending.words}*", _figures(footer))
    return [part for part in parts if part]


def _figures(footer: Footer | None) -> str:
    if footer is None:
        return ""
    cost = f"{money.spoken(footer.cost)}{' (estimated)' if footer.estimated else ''}"
    return f"*{footer.tokens_in:,} tokens in, {footer.tokens_out:,} out, {cost}*"


def _message(message: Message, calls: list[dict]) -> dict:
    turn = getattr(message, "turn", None)
    return {
        "id": str(message.id),
        "parent": str(message.parent_id) if message.parent_id else None,
        "role": message.role,
        "created_at": _exact(message.created_at),
        "content": message.content,
        **({"model": turn.model, "effort": turn.effort, "state": turn.state, "calls": calls} if turn else {}),
    }


def _call(record: UsageRecord) -> dict:
    return {
        "id": str(record.id),
        "purpose": record.purpose,
        "model": record.model,
        "state": record.state,
        "input_tokens": record.prompt_tokens,
        "output_tokens": record.output_tokens,
        "cost_dollars": str(money.dollars(record.cost)),
        "confidence": record.confidence,
    }


def _line(text: str) -> str:
    return " ".join(text.split())


def _spoken(moment: datetime) -> str:
    return f"{timezone.localtime(moment):%-d %B %Y, %H:%M}"


def _exact(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
