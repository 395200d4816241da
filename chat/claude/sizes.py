"""How many tokens the blocks of a message can have at most, without asking anybody."""

import json

from chat.catalogue import ClaudeModel
from chat.claude.enclosures import enclosed
from chat.pricing import SEARCH_TOKENS

# What is left of an image after the downscaling that each generation of models does, and how many pixels of it make a
# token, across and down.
LARGEST_IMAGE = {"old": 1_568, "new": 4_784}
PIXELS = 28
# 600 pages of text and image, which is beyond every window: how many words there are on a page, only Claude can tell.
LARGEST_PDF = 600 * (3_000 + 4_784)
# What the vendor expects of a page at most. No bound, but what is held until Claude has counted.
EXPECTED_PAGE = 3_000 + 4_784
# The frame of a file, and the words that stand in its place when it is gone.
PER_FILE = 600

# What the API takes in one request: bytes (of 32 MB, with room for the text), images and pages.
MOST_BYTES = 28_000_000
SMALL_WINDOW = 200_000
MOST_ITEMS, MOST_ITEMS_OF_SMALL = 600, 100


def size(content: str | list[dict], model: ClaudeModel, *, expected: bool = False) -> int:
    """The most tokens that the content of a message can have. `expected`: of a PDF what its pages have as a rule."""
    if isinstance(content, str):
        return len(content.encode())
    return sum(_of_block(block, model, expected) for block in content)


def of_files(messages: list[dict], model: ClaudeModel) -> int:
    """The part of the bound that says nothing about how few tokens there may be: it is not of text."""
    blocks = [block for message in messages if isinstance(message["content"], list) for block in message["content"]]
    return sum(_of_block(block, model, False) for block in blocks if block.get("type") in ("image", "document"))


def excess(messages: list[dict], model: ClaudeModel) -> str:
    """What the API would not take of the files in these messages, and what to do; "" if it takes them all."""
    sources = [block["source"] for block in enclosed(messages)]
    most = MOST_ITEMS if model.context > SMALL_WINDOW else MOST_ITEMS_OF_SMALL
    if sum(_on_the_wire(source) for source in sources) > MOST_BYTES:
        return (
            "With the files that are in this conversation already, this is more than Claude takes at once "
            "(some 20 MB). Attach fewer or smaller ones, or start a new chat with them."
        )
    if sum(source.get("pages") or 0 for source in sources) > most:
        return f"{model.name} takes PDFs of {most} pages together at most. Attach a part, or start a new chat."
    if sum("width" in source for source in sources) > most:
        return f"{model.name} takes {most} images in one conversation at most. Start a new chat with these."
    return ""


def _on_the_wire(source: dict) -> int:
    """Bytes of base64, or of a text whose line ends and quotes have a backslash in JSON."""
    return source["size"] * 2 if source["media_type"] == "text/plain" else -(-source["size"] * 4 // 3)


def _of_block(block: dict, model: ClaudeModel, expected: bool) -> int:
    """Of a text its bytes; of everything else those of its JSON, in which no text can hide. Except where bytes are no
    bound, because they stand for something that is larger, or are so many that they are no use."""
    largest_image = LARGEST_IMAGE.get(model.tokenizer, max(LARGEST_IMAGE.values()))
    match block:
        case {"type": "text", "text": text, **rest}:
            return len(text.encode()) + (in_json(rest) if rest else 0)
        case {"type": "image", "source": {"type": "attachment", "width": width, "height": height}}:
            return PER_FILE + min(largest_image, -(-width // PIXELS) * -(-height // PIXELS))
        case {"type": "image"}:
            return largest_image
        case {"type": "document", "source": {"type": "attachment", "pages": pages}, "title": title}:
            return PER_FILE + in_json(title) + (min(LARGEST_PDF, pages * EXPECTED_PAGE) if expected else LARGEST_PDF)
        case {"type": "document", "source": {"type": "attachment", "size": in_bytes}, "title": title}:
            return PER_FILE + in_json(title) + in_bytes
        case {"type": "document", "source": {"type": "content", "content": content}, **rest}:
            return size(content, model, expected=expected) + in_json(rest)
        case {"type": "document", "source": {"type": "base64" | "url" | "file"}, **rest}:
            return LARGEST_PDF + in_json(rest)
        case {"type": "tool_result" | "search_result", "content": content, **rest}:
            return size(content, model, expected=expected) + in_json(rest)
        case {"type": "thinking" | "redacted_thinking"}:
            return max(in_json(block), model.max_output)
        case {"type": "server_tool_use" | "web_search_tool_result"}:
            return max(in_json(block), SEARCH_TOKENS)
    return in_json(block)


def in_json(value: object) -> int:
    """Bytes of the JSON that says it: no text in it has more tokens."""
    return len(json.dumps(value, ensure_ascii=False).encode())
