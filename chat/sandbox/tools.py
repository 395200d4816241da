"""Tools in the answer: web searches, calls that the client is made to run, values for a schema."""

import re
from urllib.parse import quote_plus

from . import wording

_WORTH_A_SEARCH = re.compile(
    r"\b(search|look up|look for|latest|news|weather|forecast|today|tonight|currently|this (week|month|year)|"
    r"release[ds]?|who won|score|stock|exchange rate)\b",
    re.IGNORECASE,
)
_MOST_USES = 10


def searches(prompt, scenario):
    """How many searches the answer makes. Without the tool there is none, whatever a scenario asks for."""
    if not _web_search(prompt) or (prompt.body.get("tool_choice") or {}).get("type") == "none":
        return 0
    if scenario.scripted:
        return scenario.searches
    return 1 if _WORTH_A_SEARCH.search(prompt.question) else 0


def search_uses(prompt):
    return _web_search(prompt).get("max_uses") or _MOST_USES


def search_query(prompt, n):
    query = " ".join(wording.keywords(prompt.question, 6)) or "news"
    return query if n == 0 else f"{query} {n + 1}"


def search_results(prompt, n):
    query = search_query(prompt, n)
    return [
        {
            "type": "web_search_result",
            "title": f"{site}: {query}",
            "url": f"https://example.{domain}/?q={quote_plus(query, errors='replace')}",
            "encrypted_content": "Ev0DCioIAxgCIiQ3",
            "page_age": None,
        }
        for site, domain in (("An example page", "com"), ("Another example page", "org"))
    ]


def cited_sentence(prompt):
    """A sentence and the citation it rests on."""
    found = search_results(prompt, 0)[0]
    text = "A stand-in has no network, so this is what a cited sentence looks like, and not what the page says."
    citation = {
        "type": "web_search_result_location",
        "cited_text": f"An example of what a page about {search_query(prompt, 0)} might say.",
        "url": found["url"],
        "title": found["title"],
        "encrypted_index": "Eo8BCioIAhgB",
    }
    return f"{text}\n\n", citation


def forced_tool(prompt):
    """The client's tool that `tool_choice` makes the model call, unless its result is already there."""
    choice = prompt.body.get("tool_choice") or {}
    last = prompt.body["messages"][-1]["content"]
    answered = isinstance(last, list) and any(block["type"] == "tool_result" for block in last)
    if choice.get("type") not in ("any", "tool") or answered:
        return None
    mine = [tool for tool in prompt.body["tools"] if "input_schema" in tool]
    return next((tool for tool in mine if tool["name"] == choice.get("name", tool["name"])), None)


def fill(schema, prompt):
    """A value that fits a JSON schema, made of the question's words."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: fill(field, prompt) for name, field in (schema.get("properties") or {}).items()}
        case "array":
            return [fill(schema.get("items") or {}, prompt)]
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return wording.title(prompt.question)


def _web_search(prompt):
    tools = prompt.body.get("tools") or []
    return next((tool for tool in tools if str(tool.get("type", "")).startswith("web_search_")), None)
