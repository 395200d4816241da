"""The models the stand-in offers, read from the file of models and prices that the product ships."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

DATA = Path(__file__).parent.parent / "data" / "models.json"

# Not in the file: which models tie thinking blocks to what stood before them, which cannot switch
# thinking off above high effort, and which take no system message in mid-conversation.
_PREFIX_BOUND = {
    "claude-fable-5-1",
    "claude-fable-5-2",
    "claude-haiku-5-5",
    "claude-mythos-5-1",
    "claude-mythos-5-2",
    "claude-opus-5-5",
    "claude-sonnet-5-5",
}
_THINKS_AT_HIGH_EFFORT = {"claude-haiku-5-5", "claude-opus-5"}
_NO_SYSTEM_MESSAGES = (
    "claude-sonnet-4",
    "claude-haiku-4",
    "claude-opus-4-5",
    "claude-opus-4-6",
    "claude-opus-4-7",
)


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    name: str
    aliases: tuple
    context: int
    max_output: int
    min_cacheable: int
    tokenizer: str
    thinking_types: tuple
    thinks_by_default: bool
    efforts: tuple
    default_effort: str | None
    prefill: bool
    forced_tools: bool
    web_search: bool
    retires_on: str | None
    prices: tuple

    @property
    def answers_as(self):
        """The id that a response carries: the dated one where the model has one, whatever was asked for."""
        return next((name for name in (self.id, *self.aliases) if name[-8:].isdigit()), self.id)

    @property
    def binds_thinking(self):
        return self.id in _PREFIX_BOUND

    @property
    def thinks_at_high_effort(self):
        return self.id in _THINKS_AT_HIGH_EFFORT

    @property
    def takes_system_messages(self):
        return self.id != "claude-sonnet-5" and not self.id.startswith(_NO_SYSTEM_MESSAGES)

    @property
    def price(self):
        """Dollars per million tokens, as strings: the row in force today (UTC), or else the first to come."""
        today = _today().isoformat()
        rows = sorted(self.prices, key=lambda row: row["effective_from"])
        return next((row for row in reversed(rows) if row["effective_from"] <= today), rows[0])

    @property
    def lifecycle(self):
        if not self.retires_on:
            return "active"
        return "retired" if date.fromisoformat(self.retires_on) <= _today() else "deprecated"

    def as_json(self):
        """The Models API's object."""
        types = ("adaptive", "between_tools", "disabled", "enabled")
        levels = ("low", "medium", "high", "xhigh", "max")
        return {
            "type": "model",
            "id": self.answers_as,
            "display_name": self.name,
            "created_at": f"{self.prices[0]['effective_from']}T00:00:00Z",
            "lifecycle": self.lifecycle,
            "deprecated_at": None,
            "retires_at": f"{self.retires_on}T00:00:00Z" if self.retires_on else None,
            "line": self.id.split("-")[1],
            "max_input_tokens": self.context,
            "max_tokens": self.max_output,
            "capabilities": {
                **{
                    name: _supported(True)
                    for name in ("batch", "citations", "image_input", "pdf_input", "structured_outputs")
                },
                "code_execution": _supported(False),
                "context_management": _supported(False),
                "effort": _supported(
                    bool(self.efforts), **{level: _supported(level in self.efforts) for level in levels}
                ),
                "server_tools": _supported(
                    self.web_search, web_search=_supported(self.web_search), code_execution=_supported(False)
                ),
                "thinking": _supported(
                    bool(self.thinking_types),
                    types={kind: _supported(kind in self.thinking_types) for kind in types},
                ),
            },
        }


class Catalogue:
    def __init__(self, path=DATA):
        rows = json.loads(Path(path).read_text(), parse_float=str)
        self.models = [_model(row) for row in rows]
        self._by_name = {name: model for model in self.models for name in (model.id, *model.aliases)}

    def get(self, name):
        """The model of that id or alias; None when it is unknown or retired."""
        model = self._by_name.get(name)
        return model if model and model.lifecycle != "retired" else None

    def find(self, name):
        """As `get`, but retired ones too."""
        return self._by_name.get(name)


def _model(row):
    return Model(
        id=row["id"],
        name=row["name"],
        aliases=tuple(row["aliases"]),
        context=row["context"],
        max_output=row["max_output"],
        min_cacheable=row["min_cacheable"],
        tokenizer=row["tokenizer"],
        thinking_types=tuple(row["thinking"]["types"]),
        thinks_by_default=row["thinking"]["default"] == "on",
        efforts=tuple(row["efforts"]),
        default_effort=row["default_effort"],
        prefill=row["prefill"],
        forced_tools=row["forced_tools"],
        web_search=row["web_search"],
        retires_on=row["retires_on"],
        prices=tuple(row["prices"]),
    )


def _supported(yes, **more):
    return {"supported": yes, **more}


def _today():
    return datetime.now(UTC).date()
