"""The shape of a conversation: which message follows which, without a word of what they say."""

import uuid
from collections.abc import Iterable


class Tree:
    def __init__(self, edges: Iterable[tuple[uuid.UUID, uuid.UUID | None]]):
        """`edges` are the ids of messages with those of their parents, the oldest first."""
        self._parents = dict(edges)
        self.children: dict[uuid.UUID | None, list[uuid.UUID]] = {}
        for message_id, parent_id in self._parents.items():
            self.children.setdefault(parent_id, []).append(message_id)

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._parents

    def path(self, leaf_id: uuid.UUID | None) -> list[uuid.UUID]:
        """From the first message down to this one."""
        path = []
        step = leaf_id
        while step is not None and step in self._parents:
            path.append(step)
            step = self._parents[step]
        return path[::-1]

    def newest_leaf(self, message_id: uuid.UUID) -> uuid.UUID:
        """The end of the branch through this message that was written last."""
        leaves, below = [], [message_id]
        while below:
            step = below.pop()
            children = self.children.get(step, [])
            below += children
            if not children:
                leaves.append(step)
        # Two leaves are two answers, which are made one after the other; ids are sorted by time.
        return max(leaves)
