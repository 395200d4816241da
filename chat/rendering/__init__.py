"""Markdown written by a model -> HTML that is safe to show, also while it is still being written.

`Live` renders an answer as it arrives, `split` and `render` a text that is at hand, and all three agree:
the parts, joined, are the whole. That is why there are no reference links, whose meaning may arrive pages later,
and why footnotes get their links (`linked`) only when the answer is whole.
"""

from .footnotes import linked
from .live import Live, Parts, render, split

VERSION = 3  # stored beside rendered HTML; raise it whenever a text comes out differently

__all__ = ["VERSION", "Live", "Parts", "linked", "render", "split"]
