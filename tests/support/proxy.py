"""A way between a client and a server that can be cut and mended."""

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from tests.support.ray_head import free_port


@dataclass
class Proxy:
    """Passes bytes on between its port and another one, while it is up."""

    target: int
    port: int = field(default_factory=free_port)
    open_sockets: list[socket.socket] = field(default_factory=list)
    listener: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mend(self) -> None:
        """Begins to listen."""
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def cut(self) -> None:
        """Ends all connections and takes no more."""
        assert self.listener is not None
        for each in (self.listener, *self.open_sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.open_sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self.open_sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)
