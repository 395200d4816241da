"""What the API refuses with a 400 or a 404, in its own words where those are documented."""

from .checks import expect, one_of
from .errors import invalid, not_found
from .messages import check_messages, check_system
from .prompt import as_blocks

LATEST = "2026-10-21"
VERSIONS = ("2023-06-01", LATEST)
_SAMPLING = ("temperature", "top_p", "top_k")
_FIELDS = {
    "model": str,
    "messages": list,
    "system": (str, list),
    "tools": list,
    "tool_choice": dict,
    "thinking": dict,
    "output_config": dict,
    "cache_control": dict,
    "speed": str,
}
_MESSAGES_FIELDS = _FIELDS | {
    "max_tokens": int,
    "stream": bool,
    "stop_sequences": list,
    "metadata": dict,
    "service_tier": str,
    "inference_geo": str,
    "container": (str, dict),
    "diagnostics": dict,
}
_BREAKPOINTS = 4


def check(body, catalogue, *, version=LATEST, betas=(), counting=False):
    """The model that is asked for; raises ApiError. `counting`: the body is for count_tokens."""
    if not isinstance(body, dict):
        raise invalid("body: Input should be a valid dictionary")
    _check_fields(body, version, betas, counting)
    model = catalogue.get(body["model"])
    if model is None:
        raise not_found(f"model: {body['model']}")
    if not counting:
        _check_output(body, model)
    _check_thinking(body, model, betas)
    _check_tools(body, model)
    check_system(body)
    check_messages(body["messages"], model, strict=version >= LATEST)
    _check_breakpoints(body)
    return model


def _check_fields(body, version, betas, counting):
    for name in ("model", "messages") if counting else ("model", "max_tokens", "messages"):
        if name not in body:
            raise invalid(f"{name}: Field required")
    fields = _FIELDS if counting else _MESSAGES_FIELDS
    required = ("model", "max_tokens", "messages")
    for name, value in body.items():
        if name in fields:
            if value is not None or name in required:
                expect(value, fields[name], name)
        elif name in _SAMPLING:
            if version >= LATEST:
                raise invalid(f"{name}: Extra inputs are not permitted")
        elif not betas:  # a beta brings fields of its own
            raise invalid(f"{name}: Extra inputs are not permitted")


def _check_output(body, model):
    limit = body["max_tokens"]
    if limit < 0 or (limit == 0 and body.get("stream")):
        raise invalid("max_tokens: Input should be greater than or equal to 1")
    if limit > model.max_output:
        raise invalid(
            f"max_tokens: {limit} > {model.max_output}, which is the maximum allowed number of output tokens "
            f"for {model.id}"
        )
    for i, stop in enumerate(body.get("stop_sequences") or []):
        expect(stop, str, f"stop_sequences.{i}")
        if not stop.strip():
            raise invalid("stop_sequences: each stop sequence must contain non-whitespace")
    for name in body.get("metadata") or {}:
        if name != "user_id":
            raise invalid(f"metadata.{name}: Extra inputs are not permitted")
    one_of(body.get("service_tier"), ("auto", "standard_only"), "service_tier")
    one_of(body.get("speed"), ("standard", "fast"), "speed")
    one_of(body.get("inference_geo"), ("global", "us"), "inference_geo")
    if body.get("speed") == "fast" and not model.price.get("fast"):
        raise invalid("speed: fast mode is not supported for this model")
    if body.get("inference_geo") and not model.price.get("us"):
        raise invalid("inference_geo: not supported for this model")


def _check_thinking(body, model, betas):
    effort = (body.get("output_config") or {}).get("effort")
    if effort is not None and effort not in model.efforts:
        if not model.efforts:
            raise invalid("output_config.effort: This model does not support the effort parameter.")
        allowed = ", ".join(f"'{level}'" for level in model.efforts)
        raise invalid(f"output_config.effort: Input should be one of {allowed}")
    thinking = body.get("thinking")
    if not thinking:
        return
    kind = thinking.get("type")
    one_of(kind, ("adaptive", "between_tools", "disabled", "enabled"), "thinking.type", required=True)
    if kind not in model.thinking_types:
        instead = (
            'Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
            if "adaptive" in model.thinking_types
            else 'Use "thinking.type.enabled" and "thinking.budget_tokens" to control thinking behavior.'
        )
        raise invalid(f'"thinking.type.{kind}" is not supported for this model. {instead}')
    if kind == "disabled" and model.thinks_at_high_effort and effort in ("xhigh", "max"):
        raise invalid(f'"thinking.type.disabled" is not supported with "output_config.effort" set to "{effort}".')
    one_of(thinking.get("display"), ("summarized", "omitted"), "thinking.display")
    if "block_binding" in thinking and "thinking-binding-controls-2026-08-01" not in betas:
        raise invalid("thinking.adaptive.block_binding: Extra inputs are not permitted")
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        expect(budget, int, "thinking.enabled.budget_tokens")
        if budget < 1024:
            raise invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= body.get("max_tokens", budget + 1):
            raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _check_tools(body, model):
    tools = body.get("tools") or []
    for i, tool in enumerate(tools):
        expect(tool, dict, f"tools.{i}")
        if not isinstance(tool.get("name"), str):
            raise invalid(f"tools.{i}.name: Field required")
        if str(tool.get("type", "")).startswith("web_search_"):
            if not model.web_search:
                raise invalid("tools: web search is not supported for this model")
            if tool.get("allowed_domains") and tool.get("blocked_domains"):
                raise invalid(f"tools.{i}: only one of allowed_domains and blocked_domains may be given")
        elif tool.get("type", "custom") == "custom" and not isinstance(tool.get("input_schema"), dict):
            raise invalid(f"tools.{i}.custom.input_schema: Field required")
    choice = body.get("tool_choice")
    if not choice:
        return
    one_of(choice.get("type"), ("auto", "any", "tool", "none"), "tool_choice.type", required=True)
    if not tools:
        raise invalid("tool_choice: may only be specified while providing tools")
    if choice["type"] not in ("any", "tool"):
        return
    if not model.forced_tools:
        raise invalid(f'tool_choice.type "{choice["type"]}" is not supported for this model. Use "auto" or "none".')
    if (body.get("thinking") or {}).get("type") == "enabled":
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")
    if choice["type"] == "tool" and choice.get("name") not in [tool["name"] for tool in tools]:
        raise invalid(f"Tool '{choice.get('name')}' not found in provided tools")


def _check_breakpoints(body):
    marked = [block for block in body.get("tools") or [] if block.get("cache_control")]
    marked += [block for block in as_blocks(body.get("system") or []) if block.get("cache_control")]
    for message in body["messages"]:
        marked += [block for block in as_blocks(message["content"]) if block.get("cache_control")]
    controls = [block["cache_control"] for block in marked]
    controls += [body["cache_control"]] if body.get("cache_control") else []
    if len(controls) > _BREAKPOINTS:
        raise invalid(f"A maximum of {_BREAKPOINTS} blocks with cache_control may be provided. Found {len(controls)}.")
    short_seen = False
    for control in controls:
        expect(control, dict, "cache_control")
        one_of(control.get("type"), ("ephemeral",), "cache_control.type", required=True)
        one_of(control.get("ttl"), ("5m", "1h"), "cache_control.ttl")
        if short_seen and control.get("ttl") == "1h":
            raise invalid("cache_control.ttl: a ttl='1h' block must not come after a ttl='5m' block")
        short_seen = short_seen or control.get("ttl", "5m") == "5m"
