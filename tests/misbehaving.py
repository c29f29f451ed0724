"""A chat endpoint on 127.0.0.1 that does with each call what a test tells it to, on the bytes of the connection."""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from scripted import completion

REASONS = {200: "OK", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


@dataclass
class Call:
    """One call as it came in, and the connection to answer it on."""

    number: int
    """Calls that came before it."""
    at: float
    """When it came, monotonic."""
    headers: dict[str, str]
    """By names in small letters."""
    body: dict[str, Any]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def text(self) -> str:
        """What the last message says."""
        return str(self.body["messages"][-1]["content"])

    @property
    def n(self) -> int:
        return int(self.body.get("n", 1))


Act = Callable[[Call], Awaitable[None]]


class Misbehaving:
    """The server: `act` chooses what is done with a call, and remembers all that came in."""

    def __init__(self, act: Callable[[Call], Act]) -> None:
        self.act = act
        self.calls: list[Call] = []
        self.in_flight = 0
        self._came = threading.Condition()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="misbehaving", daemon=True)
        self._thread.start()
        self.port = 0
        self.listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def texts(self) -> list[str]:
        """What each call asked, in the order in which they came."""
        return [call.text for call in self.calls]

    def listen(self) -> None:
        """Take connections; after `vanish` on the same port as before."""
        starting = asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=256)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]

    def vanish(self) -> None:
        """Close the listening socket and reset every connection, as a process does that is killed."""
        asyncio.run_coroutine_threadsafe(self._vanish(), self._loop).result()

    def wait_for(self, calls: int, timeout_s: float = 20.0) -> None:
        """Until so many calls have come in all."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.calls) >= calls, timeout_s), f"only {len(self.calls)} came"

    def close(self) -> None:
        self.vanish()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _vanish(self) -> None:
        self._server.close()
        for writer in list(self._open):
            cut(writer)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self._open.add(writer)
        try:
            while call := await self._read(reader, writer):
                self.in_flight += 1
                try:
                    await self.act(call)(call)
                finally:
                    self.in_flight -= 1
        # Clients hang up, and `vanish` cuts them off.
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._open.discard(writer)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call | None:
        try:
            if not (first := await reader.readexactly(1)).isalpha():
                # The hello of TLS, answered as servers do that speak none.
                writer.write(head(400, {"Content-Length": "0"}))
                return None
            start = first + await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        lines = start.decode("latin-1").split("\r\n")[1:]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        with self._came:
            call = Call(len(self.calls), time.monotonic(), headers, body, reader, writer)
            self.calls.append(call)
            self._came.notify_all()
        return call


def cut(writer: asyncio.StreamWriter) -> None:
    """Reset the connection: the client gets no polite end."""
    found = writer.get_extra_info("socket")
    if found is not None and found.fileno() >= 0:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def sends(status: int, content: Any, **headers: str) -> Act:
    """A whole response: an object as JSON, or bytes as they are; `Retry_After="1"` becomes a header."""

    async def act(call: Call) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        call.writer.write(head(status, {"Content-Length": str(len(body)), **headers}) + body)
        await call.writer.drain()

    return act


def head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def says(*texts: str | None, finish_reason: str = "stop") -> Act:
    """A good completion."""
    return sends(200, completion(*texts, finish_reason=finish_reason))


def fails(status: int, message: str = "no", **headers: str) -> Act:
    """An error with the endpoint's own words."""
    return sends(status, {"error": {"message": message}}, **headers)


async def answers(call: Call) -> None:
    """As many good responses as were asked for, each the prompt in capitals."""
    await says(*[call.text.upper()] * call.n)(call)


async def hangs(call: Call) -> None:
    """Nothing, until the client gives up."""
    await call.reader.read(1)


async def resets(call: Call) -> None:
    """The connection is reset before a byte was sent."""
    cut(call.writer)


async def half_a_body(call: Call) -> None:
    """Fewer bytes than the header promised."""
    body = json.dumps(completion("never whole")).encode()
    call.writer.write(head(200, {"Content-Length": str(len(body))}) + body[: len(body) // 2])
    await call.writer.drain()
    call.writer.close()


async def cut_chunks(call: Call) -> None:
    """A chunked body whose last chunk never comes; what came is JSON in itself."""
    body = json.dumps(completion("never whole")).encode()
    call.writer.write(head(200, {"Transfer-Encoding": "chunked"}) + f"{len(body):x}\r\n".encode() + body + b"\r\n")
    await call.writer.drain()
    call.writer.close()


def after(event: threading.Event, act: Act) -> Act:
    """The same, but not before the event."""

    async def waits(call: Call) -> None:
        while not event.is_set():
            await asyncio.sleep(0.002)
        await act(call)

    return waits
