"""What messages and their content blocks must look like."""

from . import media
from .checks import expect, one_of
from .errors import invalid
from .prompt import as_blocks

_USER_BLOCKS = {"text", "image", "document", "search_result", "tool_result", "container_upload"}
_ASSISTANT_BLOCKS = {
    "text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "web_search_tool_result",
}  # fmt: skip
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def check_system(body):
    system = body.get("system")
    if system is None or isinstance(system, str):
        return
    expect(system, list, "system")
    for i, block in enumerate(system):
        _check_text(block, f"system.{i}", "system")


def check_messages(messages, model, *, strict):
    """`strict`: by the rules of API version 2026-10-21."""
    if not messages:
        raise invalid("messages: at least one message is required")
    for i, message in enumerate(messages):
        _check_message(message, f"messages.{i}", model, strict, last=i == len(messages) - 1)
    if messages[0]["role"] != "user":
        raise invalid('messages: first message must use the "user" role')
    if messages[-1]["role"] == "assistant" and not model.prefill and not _is_paused(messages[-1]):
        raise invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    _check_tool_results(messages)
    media.check(messages, model)


def _check_message(message, place, model, strict, last):
    expect(message, dict, place)
    role, content = message.get("role"), message.get("content")
    one_of(role, ("user", "assistant", "system"), f"{place}.role", required=True)
    if role == "system" and not model.takes_system_messages:
        raise invalid(f"{place}.role: system messages are not supported for this model")
    if not isinstance(content, (str, list)):
        raise invalid(f"{place}.content: Input should be a valid string or a list of content blocks")
    if not content and not (last and role == "assistant"):
        raise invalid(
            f"{place}: all messages must have non-empty content except for the optional final assistant message"
        )
    if isinstance(content, str):
        if content and not content.strip():
            raise invalid("messages: text content blocks must contain non-whitespace text")
        return
    allowed = _ASSISTANT_BLOCKS if role == "assistant" else {"text"} if role == "system" else _USER_BLOCKS
    for j, block in enumerate(content):
        _check_block(block, f"{place}.content.{j}", role, allowed, strict)


def _check_block(block, place, role, allowed, strict):
    expect(block, dict, place)
    kind = block.get("type")
    expect(kind, str, f"{place}.type")
    # Until 2026-10-21 an assistant's turn could hold a document.
    if kind not in allowed and not (kind == "document" and role == "assistant" and not strict):
        raise invalid(f"{place}: Input tag '{kind}' is not permitted in {role} messages")
    match kind:
        case "text":
            _check_text(block, place, "messages")
            if role == "user" and block.get("citations") and strict:
                raise invalid(f"{place}.text.citations: Extra inputs are not permitted")
        case "image" | "document":
            _check_source(block, place)
        case "thinking":
            expect(block.get("thinking"), str, f"{place}.thinking.thinking")
            expect(block.get("signature"), str, f"{place}.thinking.signature")
        case "tool_result":
            expect(block.get("tool_use_id"), str, f"{place}.tool_result.tool_use_id")
            for k, part in enumerate(as_blocks(block.get("content") or [])):
                _check_block(part, f"{place}.tool_result.content.{k}", role, _USER_BLOCKS, strict)
        case "web_search_tool_result" if isinstance(block.get("content"), list):
            for k, result in enumerate(block["content"]):
                if not result.get("encrypted_content"):
                    raise invalid(f"{place}.web_search_tool_result.content.{k}.encrypted_content: Field required")


def _check_text(block, place, where):
    expect(block, dict, place)
    expect(block.get("text"), str, f"{place}.text.text")
    if not block["text"]:
        raise invalid(f"{where}: text content blocks must be non-empty")
    if not block["text"].strip():
        raise invalid(f"{where}: text content blocks must contain non-whitespace text")


def _check_source(block, place):
    kind = block["type"]
    source = block.get("source")
    expect(source, dict, f"{place}.{kind}.source")
    if source.get("type") == "text":
        expect(source.get("data"), str, f"{place}.{kind}.source.text.data")
    if source.get("type") != "base64":
        return
    media_types = _IMAGES if kind == "image" else ("application/pdf",)
    one_of(source.get("media_type"), media_types, f"{place}.{kind}.source.base64.media_type", required=True)
    # An empty one is none; media.check decodes the others.
    expect(source.get("data") or None, str, f"{place}.{kind}.source.base64.data")


def _check_tool_results(messages):
    """Every tool_use is answered in the very next message, and nothing else is."""
    asked: set[str] = set()
    for i, message in enumerate(messages):
        blocks = as_blocks(message["content"])
        given = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if given - asked:
            raise invalid(
                f"messages.{i}.content: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{', '.join(sorted(given - asked))}"
            )
        if asked - given:
            raise invalid(
                f"messages.{i - 1}: `tool_use` ids were found without `tool_result` blocks "
                f"immediately after: {', '.join(sorted(asked - given))}"
            )
        asked = {block.get("id") for block in blocks if block["type"] == "tool_use"}


def _is_paused(message):
    """A turn that the server's tool loop paused is sent back as it is, as the last message."""
    return any(block.get("type") == "server_tool_use" for block in as_blocks(message["content"]))
