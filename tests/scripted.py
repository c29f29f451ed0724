"""Models whose answers a test decides: a backend in this process, and a real HTTP server."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from schemas.calls import CallResult, Request, Response

Handler = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


class ScriptedModel:
    """A backend that answers from a function and remembers what it was asked."""

    model = "scripted"
    digest = "scripted-weights"
    is_remote = False
    price_name = None

    def __init__(self, reply: Callable[[Request], CallResult]) -> None:
        self._reply = reply
        self.asked: list[Request] = []

    def answer(self, requests, needed):
        for i in sorted(needed):
            self.asked.append(requests[i])
            yield [(i, self._reply(requests[i]))]


class Server(ThreadingHTTPServer):
    """Takes as many connections at once as a client opens."""

    request_queue_size = 128
    daemon_threads = True


class ScriptedEndpoint:
    """An HTTP server on 127.0.0.1; `handler` maps a request body to a status and a body."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        endpoint = self

        class Reply(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.bodies.append(body)
                endpoint.headers.append(dict(self.headers))
                endpoint.paths.append(self.path)
                status, content = endpoint.handler(body)
                sent = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent)))
                if status == 429:
                    self.send_header("Retry-After", "0.01")
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *_: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Reply)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def completion(*texts: str | None, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
        for i, text in enumerate(texts)
    ]
    return {"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 5 * len(texts)}}


def responses(*texts: str) -> CallResult:
    """An answer of finished responses."""
    return CallResult(tuple(Response(text, "stop") for text in texts))
