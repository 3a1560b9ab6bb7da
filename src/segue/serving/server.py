"""The server process: granian with some workers, each over a platform of its own that maps the same bundle.

`serve` blocks until it is told to stop (SIGTERM or Ctrl-C). Workers then accept nothing new, answer what
they have begun, and close their platform. A worker that is killed is replaced, however often (see workers.py); one that cannot
start ends the server, so that whoever started it sees the reason instead of a loop.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from starlette.applications import Starlette

from segue.contracts.errors import Conflict, InvalidSettings
from segue.monitoring.metrics import Metrics
from segue.serving.app import make_app
from segue.serving.platform import Platform
from segue.serving.pool import Queue
from segue.serving.workers import Server, end_with, keep_to_cpu
from segue.settings.tree import Settings

DRAIN_S: Final = 30
"""A worker that has not answered its last request after this long is killed."""
TOLD: Final = (signal.SIGTERM, signal.SIGINT)
"""The signals to end by."""
HEADER_S: Final = 10
"""A client that has not sent its headers after this long is dropped."""
FILES: Final = 65_536
"""A connection is an open file, and so is much of what a worker reads: as many as the system allows, this many at most."""
FEWEST_FILES: Final = 512
"""A worker has some 150 open, nearly twice as many while it changes over to another bundle, and its connections."""
HEADER_BYTES: Final = 65_536
"""A request whose headers are longer gets a bare 431: the HTTP library answers before there is a request."""


def serve(
    make_platform: Callable[[], Platform],
    settings: Settings,
    *,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve until told to stop.

    `make_platform` is called in each worker's process and must be picklable (a function of a module, or a
    functools.partial of one), since some systems spawn workers rather than fork them. Where they fork, what
    has threads or open files must not exist before. It should not raise because a bundle is missing: the
    platform says so in `ready`, and picks the bundle up when it comes. `on_listening` is called with the
    address once the port is ours (a port of 0 has been chosen by then), before the workers start.

    Raises InvalidSettings for an address that is not ours or too few open files, and Conflict for a port somebody else listens
    on; ends the process with status 1 if a worker cannot start.
    """
    _allow_files()
    port = claim_port(settings.serving.host, settings.serving.port)
    with tempfile.TemporaryDirectory(prefix="segue-") as directory:
        _keep(directory)
        queue = Queue.make(settings.serving.workers) if settings.serving.workers > 1 else None
        server = Server(
            "segue",
            address=settings.serving.host,
            port=port,
            interface=Interfaces.ASGI,
            workers=settings.serving.workers,
            http=HTTPModes.http1,  # HTTP/2 is a gateway's business: here it has no such limits
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_S * 1000, max_buffer_size=HEADER_BYTES),
            websockets=False,
            log_level=LogLevels.warning,
            respawn_failed_workers=True,
            workers_kill_timeout=DRAIN_S,
        )
        if on_listening is not None:
            server.on_startup(partial(on_listening, _url(settings.serving.host, port)))
        os.register_at_fork(
            before=_hold_signals, after_in_parent=_hear_signals, after_in_child=_end_when_told
        )
        server.serve(
            target_loader=partial(_load, make_platform, settings, Path(directory), queue, os.getpid()),
            wrap_loader=False,
        )


def _keep(directory: str) -> None:
    """Not to be swept by who cleans temporary directories: systemd passes over what is locked (tmpfiles.d, Age). Until we end."""
    fcntl.flock(os.open(directory, os.O_RDONLY | os.O_DIRECTORY), fcntl.LOCK_SH)


def _allow_files() -> None:
    """Raise the limit of open files, which many systems set low for the sake of programs that count them, to what is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if most < FEWEST_FILES:
        raise InvalidSettings(
            f"this process may open {most} files, and a server needs {FEWEST_FILES} or more: raise the limit "
            "(ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of docker)",
            field="ulimit -n",
            limit=f">= {FEWEST_FILES}",
        )
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # macOS allows fewer than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _end_when_told() -> None:
    """A worker inherits handlers that are not its own. Until it has some, it ends when told to: it has begun nothing yet."""
    for told in TOLD:
        signal.signal(told, signal.SIG_DFL)
    _hear_signals()


def _hold_signals() -> None:
    """What a worker is told before that waits: the handlers it inherits would take it for the server's, and lose it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)


def _hear_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)


def _load(
    make_platform: Callable[[], Platform],
    settings: Settings,
    directory: Path,
    queue: Queue | None,
    parent: int,
    worker: int,
    place: int,
) -> Starlette:
    """The application of one worker; runs in the worker's process."""
    if settings.serving.own_cpu:
        keep_to_cpu(worker, settings.serving.workers)
    end_with(parent, DRAIN_S)
    app = make_app(make_platform(), settings, Metrics(directory), queue, place)
    # What is loaded and warm by now stays: the collector need not look through it, 20 ms at a time, between requests.
    gc.collect()
    gc.freeze()
    return app


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def claim_port(host: str, port: int) -> int:
    """The port to listen on: `port` if nobody else does, a free one for 0.

    Workers share a port by SO_REUSEPORT, and so would a second server that is started by mistake: the
    kernel would deal requests out between the two. A plain bind beforehand finds that out.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Conflict(
                    f"serving.port: {host}:{port} is in use; stop what listens there or set another port",
                    field="serving.port",
                    limit="a free port",
                ) from error
            raise InvalidSettings(
                f"serving.host: cannot listen on {host}:{port}: {error.strerror}",
                field="serving.host",
                limit="an address of this machine",
            ) from error
        chosen: int = probe.getsockname()[1]
        return chosen
