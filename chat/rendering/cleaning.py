"""The last word on every piece of HTML: what is not on these lists does not leave this package.

Formulas come after it, and from a list of their own: see mathml.py.
"""

import nh3
from pygments.token import STANDARD_TYPES

from chat.text import without_overrides

from .tags import NAMES

# What an answer calls its first heading stands below the page's own h1 and h2.
HEADINGS = {"h1": "h3", "h2": "h4", "h3": "h5", "h4": "h6", "h5": "h6", "h6": "h6"}
SCHEMES = {"http", "https", "mailto"}

_DIRECTED = {"p", "ul", "ol", "blockquote", "table", "pre", *HEADINGS.values()}
_CELLS = {"th", "td"}
_PLAIN = {"li", "hr", "br", "em", "strong", "s", "code", "figcaption", "thead", "tbody", "tr", *NAMES}

_clean = nh3.Cleaner(
    tags=_DIRECTED | _CELLS | _PLAIN | {"a", "figure", "span", "var"},  # <var> holds the place of a formula
    attributes={"*": set(), "a": {"href"}, "ol": {"start"}},  # by default every tag may have a title
    tag_attribute_values={
        **{tag: {"dir": {"auto"}} for tag in _DIRECTED - {"p", "pre", "table"}},
        **{tag: {"align": {"left", "center", "right"}} for tag in _CELLS},
        **{tag: {"dir": {"auto"}, "tabindex": {"0"}} for tag in ("pre", "table")},
        "figure": {"dir": {"ltr"}},
        "p": {"dir": {"auto", "ltr"}, "tabindex": {"0"}},
        "span": {"role": {"img"}, "aria-label": {"To do", "Done"}},
        "strong": {"dir": {"ltr"}},
    },
    allowed_classes={
        "a": {"cite"},
        "blockquote": {"alert"},
        "figure": {"code", "long"},
        "li": {"task"},
        "p": {"footnote", "formula"},
        "span": {"note", *(name for name in STANDARD_TYPES.values() if name)},
        "sup": {"note"},
    },
    set_tag_attribute_values={"a": {"target": "_blank"}},
    link_rel="noopener noreferrer nofollow ugc",
    url_schemes=SCHEMES,
    url_relative="deny",
).clean


def clean(html: str) -> str:
    """HTML without what is not allowed. Cleaning it again changes nothing."""
    return _clean(without_overrides(html))  # some come as &#x202e;, which the parser has resolved


def escape(text: str) -> str:
    """Text as nh3 would write it, so that what never went through a parser looks as if it had."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\xa0", "&nbsp;")


def typed(text: str) -> str:
    """Text that is shown as it was typed."""
    # The <code> keeps a first empty line, which HTML parsers drop when it follows <pre>.
    return f'<pre dir="auto" tabindex="0"><code>{escape(text)}</code></pre>\n' if text else ""
