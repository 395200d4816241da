"""A stand-in for Anthropic's Messages API on loopback: real HTTP, real SSE, its own invoice.

It answers without a key and without the network. The product only ever sees a base URL; it never
imports this package, and this package imports nothing of the product: it shares one data file, the
models and their prices, and does its own arithmetic with it.

A directive in the last user message scripts the answer, `[[sandbox cut_at=20 rate=200]]`; `faults.py`
lists every key. Tests can also `enqueue` scenarios for the next requests.
"""

from .server import Sandbox

__all__ = ["Sandbox"]
