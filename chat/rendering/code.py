"""Code as people read it: with the language above, and coloured by class once it is complete."""

import re
from functools import lru_cache

from markdown_it.common.utils import unescapeAll
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name

from .cleaning import escape

LONG = 30  # lines; of more than that the page shows the first, until somebody wants all of them
LARGEST = 20_000  # characters; about 20 ms of colouring, during which no other answer moves

# Pygments knows hundreds of languages, and their expressions were not written with attackers in mind.
_COLOURED = frozenset(
    """
    bash c c# c++ clojure console cpp cs csharp css dart diff django docker dockerfile elixir erlang go golang
    graphql haskell hcl html ini java javascript jinja js json jsx julia kotlin lua make makefile matlab nginx
    nix ocaml objective-c perl php powershell ps1 py python python3 r rb rs ruby rust scala sh shell sql
    svelte swift terraform toml ts tsx typescript vue xml yaml yml zig zsh
    """.split()  # noqa: SIM905 - a page of quotes reads worse
)
# Drawing them would take half a megabyte of scripts, or a browser on the server.
_DIAGRAMS = frozenset(("dot", "graphviz", "mermaid", "plantuml", "puml"))
_LABEL = re.compile(r"[\w.+#-]{1,30}")
_formatter = HtmlFormatter(nowrap=True)


def figure(language: str, body: str, *, is_long: bool = False) -> str:
    """`body` is HTML. Code is left to right in every script; a caption is always there, to hold a button."""
    caption = escape(language or "text") + (", the source of a diagram" if language.lower() in _DIAGRAMS else "")
    return (
        f'<figure class="{"code long" if is_long else "code"}" dir="ltr"><figcaption>{caption}</figcaption>'
        f'<pre tabindex="0"><code>{body}</code></pre></figure>\n'
    )


def language(info: str) -> str:
    """The first word after the opening fence, if it can be the name of a language."""
    label = _LABEL.match(unescapeAll(info).strip())
    return label[0] if label else ""


def coloured(code: str, language: str) -> str:
    lexer = _lexer(language.lower()) if len(code) <= LARGEST else None
    return highlight(code, lexer, _formatter) if lexer else escape(code)


@lru_cache(maxsize=256)  # names come from the text
def _lexer(name: str) -> Lexer | None:
    return get_lexer_by_name(name, stripnl=False, ensurenl=False) if name in _COLOURED else None
