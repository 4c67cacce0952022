"""The page and its requests, as a WSGI application."""

from __future__ import annotations

import gzip
import ipaddress
import json
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    UnprocessableEntity,
    UnsupportedMediaType,
)
from werkzeug.wrappers import Request, Response

from fcn_train.failures import explain, is_out_of_memory
from fcn_train.finite import NotFiniteError
from fcn_train.run import TrainedRun
from fcn_train.runtime import Runtime
from fcn_train.serve.answer import answer, description
from fcn_train.serve.uploads import Refused, picture_of

# The page's own files, and nothing from elsewhere.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


@dataclass(frozen=True)
class Limits:
    """The largest picture that is taken.

    Attributes:
        file_bytes: of its file.
        pixels: of the picture.
    """

    file_bytes: int
    pixels: int


class App:
    """Answers the page's requests, one picture at a time.

    Args:
        run: its network is placed on ``runtime`` already.
        host: that the server listens at, as it was given.
        warn: told what went wrong here.
        address: the number that ``host`` stands for; default: ``host``.
    """

    def __init__(
        self,
        run: TrainedRun,
        runtime: Runtime,
        limits: Limits,
        host: str,
        warn: Callable[[str], None],
        address: str = "",
    ) -> None:
        self._run, self._runtime, self._limits = run, runtime, limits
        self._host, self._address, self._warn = host, address or host, warn
        self._one_at_a_time = threading.Lock()

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        request.max_content_length = self._limits.file_bytes
        try:
            response = self._respond(request)
        except HTTPException as error:
            response = _text(str(error.description), error.code or 500)
        except Exception as error:
            response = self._failed(error)
        response.headers.update(_HEADERS)
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        if not is_own_host(request.headers.get("Host", ""), self._host, self._address):
            raise BadRequest(
                "This address is not the server's. Open the one that fcn serve has printed."
            )
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
            raise Forbidden("Another page may not ask this server.")
        path: str = request.path
        methods = ["POST"] if path == "/segment" else ["GET", "HEAD"]
        if path not in {*_PAGE, "/model", "/segment"}:
            raise NotFound("There is no such page.")
        if request.method not in methods:
            raise MethodNotAllowed(methods, f"Use {' or '.join(methods)}.")
        if path == "/segment":
            return self._segment(request)
        if path == "/model":
            limits = {"bytes": self._limits.file_bytes, "pixels": self._limits.pixels}
            text = json.dumps({**description(self._run), "limits": limits})
            return Response(text, mimetype="application/json")
        name, kind = _PAGE[path]
        return Response(files("fcn_train.serve").joinpath(name).read_text("utf-8"), mimetype=kind)

    def _segment(self, request: Request) -> Response:
        kind = request.mimetype
        # A page from elsewhere cannot send these without asking first, which is not answered.
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise UnsupportedMediaType("Send a picture, with its type as Content-Type.")
        try:
            data = request.get_data(cache=False)
        except RequestEntityTooLarge:
            limit = self._limits.file_bytes / 1e6
            raise RequestEntityTooLarge(f"The file is larger than {limit:g} MB.") from None
        if not data:
            raise UnprocessableEntity("The file is empty.")
        with self._one_at_a_time:
            try:
                image = picture_of(data, self._limits.pixels)
                packed = answer(self._run, self._runtime, image)
            except Refused as error:
                raise UnprocessableEntity(str(error)) from None
            except NotFiniteError:
                raise UnprocessableEntity(
                    "The network gives scores of this picture that are not finite."
                ) from None
        response = Response(packed, mimetype="application/octet-stream")
        if request.accept_encodings.quality("gzip") > 0:
            response.set_data(gzip.compress(packed, 1))
            response.headers["Content-Encoding"] = "gzip"
        return response

    def _failed(self, error: Exception) -> Response:
        """What the page says of a failure is no more than it needs; the console says all."""
        failure = explain(error, "serve")
        self._warn(f"a picture failed: {failure.text if failure else repr(error)}")
        text = "the program failed; its console says why"
        if failure is not None and is_out_of_memory(error):
            text = failure.text
        return _text(f"The picture was not segmented: {text}.", 500)


def is_own_host(header: str, host: str, address: str = "") -> bool:
    """Whether a request's Host is one that this server may be called by.

    Other pages can make a name of their own point here (DNS rebinding), and would then be taken for
    the server's own page; but they cannot do so with a number.

    >>> is_own_host("localhost:8000", "127.0.0.1"), is_own_host("evil.example", "127.0.0.1")
    (True, False)

    Args:
        header: the Host of the request, with or without a port.
        host: that the server listens at, as it was given.
        address: the number that ``host`` stands for; default: ``host``.
    """
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdecimal() else header
    name = name.strip("[]").lower()
    if name in ("localhost", host.lower()):
        return True
    local = is_loopback(address or host)
    try:
        number = ipaddress.ip_address(name)
    except ValueError:
        return not local and name == socket.gethostname().lower()
    return number.is_loopback or not local


def is_loopback(host: str) -> bool:
    """Whether a server at ``host`` is reached from its own machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _text(message: str, code: int) -> Response:
    return Response(f"{message}\n", code, mimetype="text/plain")
