"""Prompt caching as the API does it: prefixes, breakpoints, two lifetimes, a look-back."""

import hashlib
import json
import time
from dataclasses import dataclass, field

from . import tokens

LOOK_BACK = 20
SECONDS = {"5m": 300, "1h": 3600}
_MOST_ENTRIES = 20_000


@dataclass(slots=True)
class InputTokens:
    """How the prompt of one call is billed. The four add up to the whole prompt."""

    uncached: int = 0
    write_5m: int = 0
    write_1h: int = 0
    read: int = 0
    touched: list = field(default_factory=list, repr=False)

    @property
    def total(self):
        return self.uncached + self.write_5m + self.write_1h + self.read


class PromptCache:
    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._expiry = {}

    def look_up(self, prompt):
        """Split the prompt's tokens. Nothing is stored until `keep`: calls that start together all write."""
        keys, ends = _prefixes(prompt)
        breakpoints = [
            i for i, block in enumerate(prompt.blocks) if block.ttl and ends[i] >= prompt.model.min_cacheable
        ]
        if not breakpoints:
            return InputTokens(uncached=prompt.tokens)

        hit = self._deepest_hit(keys, breakpoints)
        result = InputTokens(uncached=prompt.tokens - ends[breakpoints[-1]], read=ends[hit] if hit is not None else 0)
        written = result.read
        for i in breakpoints:
            ttl = prompt.blocks[i].ttl
            result.touched.append((keys[i], SECONDS[ttl]))
            fresh = max(0, ends[i] - written)
            written += fresh
            if ttl == "1h":
                result.write_1h += fresh
            else:
                result.write_5m += fresh
        if hit is not None:
            result.touched.append((keys[hit], None))
        return result

    def keep(self, result):
        """Make readable what this call wrote; an entry that it read lives on for its own lifetime."""
        now = self._clock()
        if len(self._expiry) > _MOST_ENTRIES:
            self._expiry = {key: entry for key, entry in self._expiry.items() if entry[0] > now}
        for key, seconds in result.touched:
            lifetime = seconds or self._expiry.get(key, (0, SECONDS["5m"]))[1]
            self._expiry[key] = (now + lifetime, lifetime)

    def clear(self):
        self._expiry.clear()

    def _deepest_hit(self, keys, breakpoints):
        now = self._clock()
        for last in reversed(breakpoints):
            for i in range(last, max(-1, last - LOOK_BACK), -1):
                if self._expiry.get(keys[i], (0, 0))[0] > now:
                    return i
        return None


def _prefixes(prompt):
    """For every block: the key of the prefix that ends with it, and that prefix's tokens."""
    body = prompt.body
    digest = hashlib.blake2b(f"{prompt.model.id} {body.get('speed')}".encode(), digest_size=16)
    keys, ends = [], []
    end = tokens.PER_REQUEST
    in_messages = False
    for block in prompt.blocks:
        if block.section == "messages" and not in_messages:
            # These change what the messages mean to the model, so they part the prefixes from here on.
            in_messages = True
            ways = [body.get("thinking"), body.get("output_config"), body.get("tool_choice")]
            digest.update(json.dumps(ways, sort_keys=True).encode())
        digest.update(block.canonical)
        end += block.tokens
        keys.append(digest.digest())
        ends.append(end)
    return keys, ends
