"""The endpoints: what the Messages API answers, and `/_sandbox/` for whoever tests against it."""

import hmac
import json
import time
import traceback
from collections import deque
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from . import validation
from .caching import PromptCache
from .catalogue import Catalogue
from .errors import SCRIPTED, ApiError, invalid, not_found, too_large, unauthorized
from .faults import Script
from .generation import Generation
from .ids import new_id
from .invoice import Invoice
from .pacing import Pacer
from .prompt import Prompt

_REQUESTS_KEPT = 2_000
_VARIANTS_KEPT = 10_000
_MOST_MODELS = 1_000


class Api:
    def __init__(self, *, key, admin_key, ttft_ms, rate, loop):
        self._key = key
        self._admin_key = admin_key
        self.ttft_ms = ttft_ms
        self.rate = rate
        self.pacer = Pacer(loop)
        self._catalogue = Catalogue()
        self._variants = {}
        self._head = (0, b"")
        self.cache = PromptCache()
        self.invoice = Invoice()
        self.script = Script()
        self.requests: deque[dict] = deque(maxlen=_REQUESTS_KEPT)
        self.live: set[Generation] = set()

    def handle(self, request, connection):
        request_id = new_id("req")
        try:
            self._route(request, connection, request_id)
        except ApiError as error:
            connection.refuse(error, request_id)
        except Exception:
            traceback.print_exc()
            connection.refuse(SCRIPTED["500"](), request_id)

    def headers(self):
        """Headers that every answer carries; the clock in them moves once a second."""
        second = int(time.time())
        if self._head[0] != second:
            self._head = (second, _common_headers(second))
        return self._head[1]

    def variant(self, prompt):
        """How often this very question has been asked before, so that asking again gives another text."""
        if len(self._variants) > _VARIANTS_KEPT:
            self._variants.clear()
        count = self._variants.get(prompt.digest, 0)
        self._variants[prompt.digest] = count + 1
        return count

    def reset(self):
        """Back to a fresh start: nothing recorded, nothing planned, answers under way dropped unbilled."""
        for generation in list(self.live):
            generation.discard()
        self.live.clear()
        self.invoice.lines.clear()
        self.requests.clear()
        self.script.clear()
        self.cache.clear()
        self._variants.clear()

    def _route(self, request, connection, request_id):
        def reply(value):
            connection.respond(200, json.dumps(value).encode(), request_id)

        if request.path.startswith("/_sandbox/"):
            return reply(self._control(request))
        if request.too_large:
            raise too_large()
        if request.path == "/v1/organizations/cost_report" and request.method == "GET":
            self._let_in(request, self._admin_key)
            return reply(self.invoice.cost_report(request.query))
        self._let_in(request, self._key)
        match request.method, request.path.strip("/").split("/"):
            case "POST", ["v1", "messages"]:
                self._start(request, connection, request_id)
            case "POST", ["v1", "messages", "count_tokens"]:
                reply({"input_tokens": self._count(request)})
            case "GET", ["v1", "models"]:
                reply(self._models(request.query))
            case "GET", ["v1", "models", name]:
                reply(self._model(name).as_json())
            case _:
                raise not_found(f"{request.method} {request.path}: Not found")

    def _let_in(self, request, key):
        # Where both headers are sent, x-api-key is the one that counts.
        given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), key.encode()):
            raise unauthorized()

    def _start(self, request, connection, request_id):
        body = _parsed(request)
        self.requests.append({"request_id": request_id, "headers": request.headers, "body": body})
        prompt, betas = self._read(request, body)
        scenario = self.script.next(prompt)
        if scenario.status:
            error = SCRIPTED[scenario.status]()
            error.retry_after = scenario.retry_after
            if scenario.status == "429" and scenario.retry_after is None:
                error.retry_after = 1
            raise error
        generation = Generation(self, connection, prompt, scenario, request_id, betas)
        self.live.add(generation)
        connection.on_lost = generation.abandon
        self.pacer.advance(generation.steps)

    def _count(self, request):
        prompt, _ = self._read(request, _parsed(request), counting=True)
        scenario = self.script.next(prompt, on="count_tokens")
        if scenario.status:
            raise SCRIPTED[scenario.status]()
        return prompt.tokens

    def _read(self, request, body, counting=False):
        version = request.headers.get("anthropic-version")
        if not version:
            raise invalid("anthropic-version: header is required")
        if version not in validation.VERSIONS:
            raise invalid(f'anthropic-version: "{version}" is not a valid version')
        betas = tuple(filter(None, request.headers.get("anthropic-beta", "").replace(" ", "").split(",")))
        model = validation.check(body, self._catalogue, version=version, betas=betas, counting=counting)
        prompt = Prompt(body, model)
        if prompt.tokens > model.context and not counting:
            raise invalid(f"prompt is too long: {prompt.tokens} tokens > {model.context} maximum")
        return prompt, betas

    def _models(self, query):
        wanted = query.get("lifecycle", []) + query.get("lifecycle[]", [])
        rows = [model.as_json() for model in self._catalogue.models if not wanted or model.lifecycle in wanted]
        ids = [row["id"] for row in rows]
        if "after_id" in query and query["after_id"][-1] in ids:
            rows = rows[ids.index(query["after_id"][-1]) + 1 :]
        if "before_id" in query and query["before_id"][-1] in ids:
            rows = rows[: ids.index(query["before_id"][-1])]
        limit = query.get("limit", ["20"])[-1]
        if not limit.isdecimal() or not 1 <= int(limit) <= _MOST_MODELS:
            raise invalid(f"limit: Input should be between 1 and {_MOST_MODELS}")
        page = rows[: int(limit)]
        return {
            "data": page,
            "has_more": len(page) < len(rows),
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
        }

    def _model(self, name):
        model = self._catalogue.find(name)
        if model is None:
            raise not_found(f"model: {name}")
        return model

    def _control(self, request):
        match request.method, request.path.removeprefix("/_sandbox/"):
            case "GET", "invoice":
                return {"lines": [asdict(line) for line in self.invoice.lines], "live": len(self.live)}
            case "GET", "requests":
                return {"requests": list(self.requests)}
            case "POST", "reset":
                self.reset()
            case "POST", "enqueue":
                body = _parsed(request)
                if not isinstance(body, dict):
                    raise invalid("sandbox: a scenario is an object of keys and values")
                self.script.enqueue(body)
            case _:
                raise not_found(f"{request.method} {request.path}: Not found")
        return {"ok": True}


def _parsed(request):
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        raise invalid("The request body is not valid JSON") from None


def _common_headers(second):
    now = datetime.fromtimestamp(second, UTC)
    reset = (now + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = [
        f"date: {now.strftime('%a, %d %b %Y %H:%M:%S GMT')}",
        "anthropic-organization-id: 00000000-0000-4000-8000-000000000000",
        "anthropic-workspace-id: wrkspc_01Sandbox",
    ]
    limits = {
        "requests": (4_000, 3_999),
        "input-tokens": (2_000_000, 1_998_000),
        "output-tokens": (400_000, 400_000),
        "tokens": (2_400_000, 2_398_000),
    }
    for name, (limit, remaining) in limits.items():
        lines.append(f"anthropic-ratelimit-{name}-limit: {limit}")
        lines.append(f"anthropic-ratelimit-{name}-remaining: {remaining}")
        lines.append(f"anthropic-ratelimit-{name}-reset: {reset}")
    return "".join(f"{line}\r\n" for line in lines).encode()
