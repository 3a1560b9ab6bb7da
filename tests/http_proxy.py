"""An HTTP proxy that spoils answers on request, as Google's services do on a bad day: refusals, lost answers, silence."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOREVER = 1 << 30


@dataclass
class Fault:
    """What happens to the next `times` requests whose line ("POST /path") contains `only`.

    "refused" ones are answered with a `status`, in Google's form, and do not reach the server; the job of a "failed" one is
    said to have ended with the `reason`. "lost" ones reach the server, but their answer is not passed on; "silent" ones are
    never answered.
    """

    status: int = 0
    reason: str = ""
    kind: str = "refused"
    only: str = ""
    times: int = FOREVER


class HttpProxy:
    """Listens on 127.0.0.1:`port` and forwards to another port. `met` counts the requests that met the present fault."""

    def __init__(self, target: int) -> None:
        self.fault = Fault(times=0)
        self.met = 0
        self._lock = threading.Lock()
        self._ends = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _pass(self) -> None:
                proxy._serve(self, target)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def spoil(self, fault: Fault) -> None:
        """From now on."""
        with self._lock:
            self.fault, self.met = fault, 0

    def close(self) -> None:
        """Close everything."""
        self._ends.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _meets(self, line: str) -> Fault | None:
        with self._lock:
            if self.met >= self.fault.times or self.fault.only not in line:
                return None
            self.met += 1
            return self.fault

    def _serve(self, request: BaseHTTPRequestHandler, target: int) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        fault = self._meets(f"{request.command} {request.path}")
        if fault is not None and fault.kind == "refused":
            self._answer(request, fault.status, [], _refusal(fault))
            return
        if fault is not None and fault.kind == "failed":
            self._answer(request, 200, [], _failure(fault, body))
            return
        if fault is not None and fault.kind == "silent":
            self._ends.wait(60)
            request.close_connection = True
            return
        connection = HTTPConnection("127.0.0.1", target)
        connection.request(request.command, request.path, body, dict(request.headers))
        found = connection.getresponse()
        content = found.read()
        connection.close()
        if fault is not None:
            request.close_connection = True
            return
        kept = [(k, v) for k, v in found.getheaders() if k.lower() not in _OF_THE_CONNECTION]
        self._answer(request, found.status, kept, content)

    @staticmethod
    def _answer(
        request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes
    ) -> None:
        request.send_response_only(status)
        for name, value in [*headers, ("Content-Length", str(len(content)))]:
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)


_OF_THE_CONNECTION = {"content-length", "transfer-encoding", "connection", "keep-alive"}


def _refusal(fault: Fault) -> bytes:
    reason = _reason(fault)
    error = {"code": fault.status, "message": reason["message"], "errors": [reason]}
    return json.dumps({"error": error}).encode()


def _failure(fault: Fault, job: bytes) -> bytes:
    reason = _reason(fault)
    status = {"state": "DONE", "errorResult": reason, "errors": [reason]}
    return json.dumps({**json.loads(job), "status": status}).encode()


def _reason(fault: Fault) -> dict[str, str]:
    return {"reason": fault.reason, "message": f"this is a bad day: {fault.reason}"}
