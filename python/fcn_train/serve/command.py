"""`fcn serve`."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fcn_train.console import Console
from fcn_train.errors import UsageError
from fcn_train.extras import import_extra
from fcn_train.run import load_run
from fcn_train.runtime import open_runtime
from fcn_train.serve_options import ServeOptions

THREADS = 4  # that answer: the network works for one at a time
IDLE_SECONDS = 60  # after which a connection is closed


def serve(options: ServeOptions, console: Console | None = None) -> None:
    """Listen until the process is interrupted, which ends in KeyboardInterrupt.

    Raises:
        UsageError: an option is out of range or of no use for the run; the address is taken.
    """
    console = console or Console()
    with listening(options, console) as server:
        console.line(f"{server.address} shows {options.run}; Ctrl-C ends it")
        server.run()


class Server:
    """Answers for ``app`` at a socket that is bound.

    Attributes:
        address: for a browser on this machine.
    """

    def __init__(self, app: Any, bound: socket.socket, most_bytes: int, host: str) -> None:
        waitress = import_extra("waitress", "fcn serve", "serve")
        self._loop = import_extra("waitress.wasyncore", "fcn serve", "serve")
        # It logs connections and requests that wait; failures of the application are told by it.
        logging.getLogger("waitress").setLevel(logging.ERROR)
        self._map: dict[int, Any] = {}
        self._stopped = threading.Event()
        self._server = waitress.create_server(
            app,
            map=self._map,
            sockets=[bound],
            threads=THREADS,
            max_request_body_size=most_bytes,
            channel_timeout=IDLE_SECONDS,
            ident=None,
        )
        address, port = bound.getsockname()[:2]
        self.address = f"http://{_name_of(host, address)}:{port}/"

    def run(self) -> None:
        """Answer until ``stop``, or an exception from a signal."""
        while not self._stopped.is_set():
            self._loop.loop(timeout=1.0, map=self._map, count=1)

    def stop(self) -> None:
        """End ``run`` of another thread."""
        self._stopped.set()
        self._server.pull_trigger()

    def close(self) -> None:
        self._server.task_dispatcher.shutdown(timeout=1)
        self._loop.close_all(self._map)


@contextmanager
def listening(options: ServeOptions, console: Console) -> Iterator[Server]:
    """A server that is bound to its address, closed at the end. Raises as ``serve``."""
    import_extra("waitress", "fcn serve", "serve")
    import_extra("werkzeug", "fcn serve", "serve")
    from fcn_train.serve.app import App, Limits, is_loopback

    check(options)
    runtime = open_runtime(options.device, options.threads, options.amp, console.warn)
    run = load_run(options.run, options.weights)
    if run.options.data.channels != "color":
        raise UsageError(
            f"{options.run}: sees {run.options.data.channels}, and the page has color alone; "
            "use fcn predict"
        )
    runtime.place(run.model)
    limits = Limits(round(options.max_megabytes * 1e6), round(options.max_megapixels * 1e6))
    bound = bind(options)
    address = bound.getsockname()[0]  # of a name, or of a short form such as 127.1
    app = App(run, runtime, limits, options.host, console.warn, address)
    # The application refuses files of more bytes; the server ends the connection of larger ones.
    server = Server(app, bound, limits.file_bytes + 1, options.host)
    if not is_loopback(address):
        console.warn(f"--host {options.host}: whoever reaches this address can use the page")
    try:
        yield server
    finally:
        server.close()


def bind(options: ServeOptions) -> socket.socket:
    """A socket at the address of ``options``. Raises UsageError where there cannot be one."""
    if not options.host.strip():
        raise UsageError(f"--host must be an address, got {options.host!r}")
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise UsageError(_why_not(options, error)) from None
    except UnicodeError:
        raise UsageError(f"--host must be an address, got {options.host!r}") from None


def check(options: ServeOptions) -> None:
    """Refuse values that cannot be, naming the option."""
    rules = [
        ("--port", 0 <= options.port <= 65535, "in [0, 65535]", options.port),
        (
            "--max-megabytes",
            0 < options.max_megabytes <= 2000,
            "in (0, 2000]",
            options.max_megabytes,
        ),
        (
            "--max-megapixels",
            0 < options.max_megapixels <= 80,
            "in (0, 80]",
            options.max_megapixels,
        ),
    ]
    for name, holds, rule, value in rules:
        if not holds:
            raise UsageError(f"{name} must be {rule}, got {value}")


def _name_of(host: str, address: str) -> str:
    """What a browser on this machine calls ``host``, which stands for ``address``."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, host)
    return f"[{name}]" if ":" in name else name


def _why_not(options: ServeOptions, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port {options.port} is in use; give another, or 0 for any that is free"
    if error.errno == errno.EACCES:
        return (
            f"--port {options.port} needs rights that this process does not have; give one above "
            "1023"
        )
    # What `socket.create_server` adds is the address.
    name = isinstance(error, socket.gaierror)
    why = error.strerror if name or not error.errno else os.strerror(error.errno)
    return (
        f"--host {options.host}: cannot be listened at ({why or error}); give an "
        "address of this machine"
    )
