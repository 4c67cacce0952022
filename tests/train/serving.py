"""A server on this machine that can be told to misbehave."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextlib.contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Server]:
    """A server of these files by their path, closed at the end."""
    server = Server(files)
    try:
        yield server
    finally:
        server.close()


class _QuietServer(ThreadingHTTPServer):
    """Says nothing where a client has heard enough."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Server:
    """Gives `files` by their path, and notes the range that each request asked for.

    break_after: bytes of an answer after which the connection is closed, once for each entry.
    ranges: whether it can go on in the middle of a file.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.break_after: list[int] = []
        self.ranges = True
        self.kind = "application/octet-stream"
        self.requests: list[tuple[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._http = _QuietServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range", "")
        self.requests.append((handler.path, wanted))
        content = self.files.get(handler.path)
        if content is None:
            handler.send_error(404)
            return
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        if start and start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content)}/{len(content)}")
        handler.send_header("Content-Type", self.kind)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        end = start + self.break_after.pop(0) if self.break_after else len(content)
        handler.wfile.write(content[start:end])

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
