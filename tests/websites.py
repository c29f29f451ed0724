"""Real web servers on 127.0.0.1 that answer what a test decides, and one that stands before another."""

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


@dataclass(frozen=True)
class Call:
    """A request that came in."""

    method: str
    path: str
    """With its query."""
    headers: dict[str, str]
    body: bytes


Reply = tuple[int, dict[str, str], Any]
"""Status, headers and body: text, or anything that is sent as JSON."""
Handler = Callable[[Call], Reply | None]


class QuietHandler(BaseHTTPRequestHandler):
    """Keeps connections open, logs nothing, and lets a client go that was killed or hung up."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


class Site:
    """Answers with `handler`; where that gives None it hangs up."""

    def __init__(self, handler: Handler) -> None:
        self.calls: list[Call] = []
        site = self

        class Worker(QuietHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                call = Call(self.command, self.path, dict(self.headers), body)
                site.calls.append(call)
                found = handler(call)
                if found is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, headers, answered = found
                content = answered.encode() if isinstance(answered, str) else json.dumps(answered).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Worker)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def passed_on(url: str, call: Call) -> Reply:
    """What the server at `url` answers to the same request."""
    headers = {name: value for name, value in call.headers.items() if name.lower() not in ("host", "accept-encoding")}
    answer = httpx.request(call.method, url + call.path, headers=headers, content=call.body, timeout=120)
    return answer.status_code, {}, answer.text
