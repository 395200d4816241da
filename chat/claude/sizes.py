"""How many tokens the blocks of a message can have at most, without asking anybody."""

import json

from chat.catalogue import ClaudeModel
from chat.pricing import SEARCH_TOKENS

# What is left of an image after the downscaling that each generation of models does.
LARGEST_IMAGE = {"old": 1_568, "new": 4_784}
# 600 pages of text and image, which is beyond every window: how many pages there are, and how many words on one, only
# Claude can tell.
LARGEST_PDF = 600 * (3_000 + 4_784)


def size(content: str | list[dict], model: ClaudeModel) -> int:
    """The most tokens that the content of a message can have."""
    if isinstance(content, str):
        return len(content.encode())
    return sum(_of_block(block, model) for block in content)


def _of_block(block: dict, model: ClaudeModel) -> int:
    """Of a text its bytes; of everything else those of its JSON, in which no text can hide. Except where bytes are no
    bound, because they stand for something that is larger, or are so many that they are no use."""
    match block:
        case {"type": "text", "text": text, **rest}:
            return len(text.encode()) + (in_json(rest) if rest else 0)
        case {"type": "image"}:
            return LARGEST_IMAGE.get(model.tokenizer, max(LARGEST_IMAGE.values()))
        case {"type": "document", "source": {"type": "content", "content": content}, **rest}:
            return size(content, model) + in_json(rest)
        case {"type": "document", "source": {"type": "base64" | "url" | "file"}, **rest}:
            return LARGEST_PDF + in_json(rest)
        case {"type": "tool_result" | "search_result", "content": content, **rest}:
            return size(content, model) + in_json(rest)
        case {"type": "thinking" | "redacted_thinking"}:
            return max(in_json(block), model.max_output)
        case {"type": "server_tool_use" | "web_search_tool_result"}:
            return max(in_json(block), SEARCH_TOKENS)
    return in_json(block)


def in_json(value: object) -> int:
    """Bytes of the JSON that says it: no text in it has more tokens."""
    return len(json.dumps(value, ensure_ascii=False).encode())
