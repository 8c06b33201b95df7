"""A registry that is served at an address of this machine, by threads of this process."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import sys
import threading
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from rootless_layer.errors import InputError, MachineError, reason
from rootless_layer.terminal import quoted

from .handler import Handler
from .name import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .offer import Offer
    from .ranges import State

    Tell = Callable[[str], object]

_MOST_CONNECTIONS = 128
_POLL_SECONDS = 0.25
_LAST_PORT = 65535
_MOST_DRAINED = 1 << 20
_LISTEN = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")


def listening(listen: str, offer: Offer, tell: Tell) -> Server:
    """Listen at ``HOST:PORT``, of which the port 0 is one that is free; :meth:`Server.serve_forever` then answers.

    Raises :class:`InputError` for what is no address, :class:`MachineError` where nobody can listen there.
    """
    said = _LISTEN.fullmatch(listen)
    if said is None or int(said["port"]) > _LAST_PORT:
        message = f"{quoted(listen)} is no address to listen at: write it as HOST:PORT, such as 127.0.0.1:5000"
        raise InputError(message)
    try:
        family, _, _, _, address = socket.getaddrinfo(said["host"].strip("[]"), int(said["port"]), type=socket.SOCK_STREAM)[0]
        return Server(family, address, offer, tell)
    except (OSError, UnicodeError) as error:  # a label of the name is empty or too long
        message = f"{listen}: cannot be listened at: {reason(error)}"
        raise MachineError(message, hint="Take an address of this machine's, and the port 0 for one that is free.") from error


@contextlib.contextmanager
def serving(listen: str, offer: Offer, tell: Tell) -> Iterator[Server]:
    """Serve in a thread until the context ends; raises as :func:`listening` does."""
    server = listening(listen, offer, tell)
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), name="rootless-layer serve", daemon=True)
    try:
        thread.start()
        yield server
    finally:
        if thread.ident is not None:
            server.shutdown()
            thread.join()
        server.server_close()


class Server(ThreadingHTTPServer):
    """Serves an offer at an address until it is shut down; ``tell`` is called with what goes wrong, by any thread.

    Raises :class:`OSError` where it cannot listen there.
    """

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...], offer: Offer, tell: Tell) -> None:
        """Listen; requests are answered when :meth:`serve_forever` is called."""
        self.address_family = family
        self.offer, self.tell = offer, tell
        self.known: dict[str, State] = {}
        """The states of files whose blobs were compared with their digests, by these."""
        self.meanwhile: Callable[[], object] = lambda: None
        """Is called several times a second by who serves."""
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._open: set[socket.socket] = set()
        self._ending = threading.Event()
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind, and ask no name server for the machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def host(self) -> str:
        """Give the address and the port, as they stand in names of images."""
        host, port = self.server_address[:2]
        text = str(host, "ascii") if isinstance(host, bytes) else str(host)
        return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"

    @property
    def is_loopback(self) -> bool:
        """Say whether nobody but this machine can reach it."""
        return is_loopback(self.host)

    def service_actions(self) -> None:
        """Do what is to be done meanwhile."""
        self.meanwhile()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the standard library has it
        """Answer the requests of a connection in a thread; where there are very many, wait for one to end."""
        while not self._free.acquire(timeout=_POLL_SECONDS):
            self.service_actions()  # who waits is still to end with its caller
            if self._ending.is_set():
                self.close_request(request)
                return
        self._open.add(request)
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Answer them."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as above
        """Close a connection so that the last answer arrives: unread bytes of the client's would make the kernel drop it."""
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
            request.settimeout(1)
            left = _MOST_DRAINED
            while left > 0 and (part := request.recv(1 << 16)):
                left -= len(part)
        self._open.discard(request)
        self.close_request(request)

    def shutdown(self) -> None:
        """Answer no more, and wait for no connection to end."""
        self._ending.set()
        super().shutdown()

    def server_close(self) -> None:
        """Listen no more, break the connections off, and wait for whoever answered there."""
        for request in tuple(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, _request: Any, _client_address: Any) -> None:  # noqa: ANN401 - as above
        """Tell of a fault in a line, but of a connection that broke."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.tell(f"a request could not be answered: {error!r}")
