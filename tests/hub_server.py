"""A hub of datasets on 127.0.0.1 that speaks the part of the Hugging Face hub's HTTP API that its own clients ask for.

It has no Xet: its clients must be told so.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from hub_routes import Asked, Hub, Request
from websites import QuietHandler


@contextmanager
def serve_hub(tokens: dict[str, tuple[str, bool]]) -> Iterator[Hub]:
    """A hub that answers at its `url` until the block ends."""
    hub = Hub(tokens)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Worker,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


class Worker(QuietHandler):
    """Reads one request after another and answers it."""

    hub: Hub

    def answer(self) -> None:
        where = urlsplit(self.path)
        is_cut = self.hub.cuts(self.command, where.path)
        body = self.read_body(is_cut and self.command == "PUT")
        query = {name: values[-1] for name, values in parse_qs(where.query).items()}
        asked = Asked(self.hub, self.command, where.path, query, dict(self.headers), body)
        status, headers, content = (0, {}, b"") if body is None else asked.reply()
        self.note(asked)
        if body is None:
            self.hang_up()
            return
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if is_cut else content)
            if is_cut:
                self.hang_up()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def read_body(self, is_cut: bool) -> bytes | None:
        """All of the body, whether it comes with its length or in chunks; None where it is cut in the middle."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
                if is_cut:
                    return None
            self.rfile.readline()
            return None if is_cut else found
        size = int(self.headers.get("Content-Length", 0))
        found = self.rfile.read(size // 2 if is_cut else size)
        return None if is_cut else found

    def hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def note(self, asked: Asked) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() != "authorization"}
        repo = self.hub.repos.get(asked.repo_id or "")
        body = asked.body or b""
        body = str(len(body)).encode() if self.command == "PUT" else body
        is_private = repo.is_private if repo else None
        self.hub.log.append(Request(self.command, asked.path, headers, body, asked.user, is_private))
