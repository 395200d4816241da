"""`python -m chat.sandbox`: serve until SIGTERM or SIGINT."""

import argparse

from .server import Sandbox


def main():
    parser = argparse.ArgumentParser(prog="python -m chat.sandbox", description="A stand-in for the Messages API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--key", default="sandbox-key", help="the only API key that is let in")
    parser.add_argument("--admin-key", default="sandbox-admin-key", help="the key for the cost report")
    parser.add_argument("--ttft", type=float, default=350, help="milliseconds to the first token")
    parser.add_argument("--rate", type=float, default=80, help="tokens per second")
    options = parser.parse_args()

    sandbox = Sandbox(
        key=options.key,
        admin_key=options.admin_key,
        host=options.host,
        port=options.port,
        ttft_ms=options.ttft,
        rate=options.rate,
    )
    sandbox.serve_forever(lambda url: print(f"Sandbox model: {url}", flush=True))


if __name__ == "__main__":
    main()
