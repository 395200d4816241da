"""A request as the model reads it: one flat row of blocks, tools first, then system, then messages."""

import hashlib
import json
import re
from dataclasses import dataclass

from . import signatures, tokens
from .errors import invalid


@dataclass(slots=True)
class Block:
    section: str
    canonical: bytes
    tokens: int
    ttl: str | None


class Prompt:
    """Checks sent-back thinking against what stands before it; raises ApiError when that was changed."""

    def __init__(self, body, model):
        self.body = body
        self.model = model
        self.blocks: list[Block] = []
        self._prefix = hashlib.blake2b(digest_size=16)
        self._read_tools_and_system()
        self._read_messages()
        self._apply_automatic_caching()
        self.tokens = tokens.PER_REQUEST + sum(block.tokens for block in self.blocks)

    @property
    def digest(self):
        """What a thinking block made now will be bound to."""
        return self._prefix.digest()

    @property
    def question(self):
        """The text of the last user message."""
        return next((text for role, text in reversed(self._texts()) if role == "user"), "")

    @property
    def earlier_questions(self):
        return [text for role, text in self._texts() if role == "user"][:-1]

    @property
    def system(self):
        return text_of(self.body.get("system") or "")

    @property
    def everything(self):
        """All readable text, for matching enqueued scenarios against."""
        return "\n".join([self.body["model"], self.system, *(text for _, text in self._texts())])

    @property
    def asks_for_title(self):
        """A short answer about naming something: the request for a conversation's title."""
        return self.body["max_tokens"] <= 1024 and bool(re.search(r"\btitle\b", self.system, re.IGNORECASE))

    @property
    def asks_for_summary(self):
        return bool(re.search(r"\bwrite a summary\b", self.system, re.IGNORECASE))

    def _texts(self):
        return [(message["role"], text_of(message["content"])) for message in self.body["messages"]]

    def _read_tools_and_system(self):
        for tool in self.body.get("tools") or []:
            self._add("tools", "", tool)
        for block in as_blocks(self.body.get("system") or []):
            self._add("system", "", block)

    def _read_messages(self):
        for i, message in enumerate(self.body["messages"]):
            overhead = tokens.PER_MESSAGE
            for j, block in enumerate(as_blocks(message["content"])):
                if block["type"] == "thinking" and not self._keeps(block, f"messages.{i}.content.{j}"):
                    continue
                self._add("messages", message["role"], block, overhead)
                overhead = 0

    def _keeps(self, block, place):
        """Whether the model reads this block. One made by another model is dropped without a word."""
        signature = signatures.read(block)
        if signature is None:
            raise invalid(f"{place}: Invalid `signature` in `thinking` block")
        if not signatures.made_by(signature, self.model.id):
            return False
        if self.model.binds_thinking and signature.prefix != self.digest:
            binding = (self.body.get("thinking") or {}).get("block_binding") or {}
            if binding.get("prefix_mismatch_behavior") == "drop_block":
                return False
            raise invalid(
                f"{place}: Invalid `signature` in `thinking` block. "
                "The block is bound to a different conversation. "
                'Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to "drop_block".'
            )
        return True

    def _add(self, section, role, block, overhead=0):
        value = {name: field for name, field in block.items() if name != "cache_control"}
        canonical = json.dumps([section, role, value], sort_keys=True).encode()
        if value.get("type") == "thinking":
            size = signatures.read(value).tokens
        else:
            size = tokens.of_block(value, self.model.tokenizer)
        ttl = block["cache_control"].get("ttl", "5m") if block.get("cache_control") else None
        self.blocks.append(Block(section, canonical, size + overhead, ttl))
        self._prefix.update(canonical)

    def _apply_automatic_caching(self):
        control = self.body.get("cache_control")
        if control and self.blocks and not self.blocks[-1].ttl:
            self.blocks[-1].ttl = control.get("ttl", "5m")


def as_blocks(content):
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def text_of(content):
    return "\n".join(block["text"] for block in as_blocks(content) if block.get("type") == "text")
