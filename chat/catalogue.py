"""The models that Tally knows: what each can do. What each costs is in the database (`Price`)."""

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from django.conf import settings

DATA = Path(__file__).parent / "data" / "models.json"


@dataclass(frozen=True)
class ClaudeModel:
    """Limits in tokens. The defaults are the careful ones for a model that the catalogue does not know."""

    id: str
    name: str
    blurb: str = ""
    offered: bool = True
    aliases: tuple[str, ...] = ()
    context: int = 200_000
    max_output: int = 8_192
    min_cacheable: int = 4_096
    tokenizer: str = "unknown"
    thinking_types: tuple[str, ...] = ()
    thinks_by_default: bool = False
    efforts: tuple[str, ...] = ()
    searches_the_web: bool = False
    retires_on: str | None = None
    prices: tuple[dict, ...] = field(default=(), repr=False)

    @property
    def is_shipped(self) -> bool:
        """Whether its limits are the vendor's own figures, and not careful guesses."""
        return self.tokenizer != "unknown"

    @property
    def takes_geo(self) -> bool:
        """Whether a request may say where it is to be served: where that is possible it has a price."""
        return any("us" in price for price in self.prices)

    def counts_like(self, other: "ClaudeModel") -> bool:
        """Whether both make the same tokens of a text. Of a model that is not shipped nobody knows."""
        return self.id == other.id or (self.is_shipped and self.tokenizer == other.tokenizer)

    @property
    def shows_thinking(self) -> bool:
        """Whether it may be asked for a summary of its reasoning."""
        return "adaptive" in self.thinking_types


@cache
def shipped() -> tuple[ClaudeModel, ...]:
    """The models of chat/data/models.json, in the order of the file."""
    return tuple(
        ClaudeModel(
            id=row["id"],
            name=row["name"],
            blurb=row["blurb"],
            offered=row["offered"],
            aliases=tuple(row["aliases"]),
            context=row["context"],
            max_output=row["max_output"],
            min_cacheable=row["min_cacheable"],
            tokenizer=row["tokenizer"],
            thinking_types=tuple(row["thinking"]["types"]),
            thinks_by_default=row["thinking"]["default"] == "on",
            efforts=tuple(row["efforts"]),
            searches_the_web=row["web_search"],
            retires_on=row["retires_on"],
            prices=tuple(row["prices"]),
        )
        for row in json.loads(DATA.read_text())
    )


@cache
def _by_name() -> dict[str, ClaudeModel]:
    return {name: model for model in shipped() for name in (model.id, *model.aliases)}


def find(name: str) -> ClaudeModel:
    """The model of that id or alias; one that is not shipped gets careful limits and needs a price all the same."""
    return _by_name().get(name) or ClaudeModel(id=name, name=name)


def offered() -> list[ClaudeModel]:
    """The models people may choose: those of the MODELS setting, else what the catalogue offers."""
    if settings.MODELS:
        return [find(name) for name in settings.MODELS]
    return [model for model in shipped() if model.offered]


def is_offered(model: str) -> bool:
    return model in {choice.id for choice in offered()}


def default() -> ClaudeModel:
    """What a new conversation starts with."""
    choices = offered()
    return next((model for model in choices if model.id == settings.DEFAULT_MODEL), choices[0])
