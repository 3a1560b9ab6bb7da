"""A TCP proxy that spoils a connection on request: lets everything through, or nothing, or cuts after some bytes."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class Proxy:
    """Listens on 127.0.0.1:`port` and forwards to another port. Set `mode` at any time:

    "pass"; "delay" (every piece waits `delay_s`); "stall" (nothing is forwarded any more, connections stay open);
    "cut" (connections are closed after `cut_after` bytes of an answer); "refuse" (closed as soon as they are made).
    """

    def __init__(self, target: int) -> None:
        self.mode = "pass"
        self.delay_s = 0.0
        self.cut_after = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def spoil(self, mode: str, *, delay_s: float = 0.0, cut_after: int = 0) -> None:
        """Change the mode, for open connections too; "refuse" closes them."""
        self.delay_s, self.cut_after, self.mode = delay_s, cut_after, mode
        if mode == "refuse":
            self._close_all()

    def close(self) -> None:
        """Close everything."""
        self._shut(self._listener)
        self._threads[0].join(10)  # then nothing is opened any more
        self._close_all()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.mode == "refuse":
                    client.close()
                    continue
                self._open.append(client)
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open.append(server)
                for source, sink, answers in ((client, server, False), (server, client, True)):
                    thread = threading.Thread(target=self._forward, args=(source, sink, answers), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _forward(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        passed = 0
        with suppress(OSError):
            while piece := source.recv(65_536):
                if self.mode == "stall":
                    continue
                if self.mode == "delay":
                    time.sleep(self.delay_s)
                if self.mode == "cut" and answers:
                    piece = piece[: max(self.cut_after - passed, 0)]
                    passed += len(piece)
                    sink.sendall(piece)
                    if passed >= self.cut_after:
                        break
                else:
                    sink.sendall(piece)
        self._shut(source)
        self._shut(sink)

    def _close_all(self) -> None:
        for end in self._open:
            self._shut(end)
        self._open.clear()

    @staticmethod
    def _shut(end: socket.socket) -> None:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
