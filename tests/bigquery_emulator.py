"""BigQuery's emulator, a program of others in an environment of its own: for tests, and for `make bigquery-emulator`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from uuid import uuid4

from real_stores import free_port, wait_until_open
from segue.settings.tree import BigQuery

FOLDER = Path(__file__).parents[1] / ".bqemulator"
PROGRAM = FOLDER / "bin" / "bqemulator"
INSTALL = "make .bqemulator/.ready"
PORTS = (9050, 9060)
SETTINGS = {
    "HOME": str(FOLDER),  # where DuckDB finds the extension that the emulator would fetch otherwise
    "BQEMU_ENABLE_FORMAT_EXTENSIONS": "false",
    # It copies a table whenever it is written, and would keep every copy in memory for a week.
    "BQEMU_TIME_TRAVEL_RETENTION_DAYS": "0",
}


class Emulator:
    """The emulator at 127.0.0.1:`rest`, and at 127.0.0.1:`grpc` for its Storage API. It keeps everything in memory."""

    def __init__(self, folder: Path, rest: int = 0, grpc: int = 0) -> None:
        self.rest, self.grpc = rest or free_port(), grpc or free_port()
        command = [
            PROGRAM,
            "start",
            "--rest-port",
            self.rest,
            "--grpc-port",
            self.grpc,
            "--log-level",
            "error",
        ]
        with (folder / "bqemulator.log").open("w") as said:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                env=os.environ | SETTINGS | {"BQEMU_UPLOAD_STAGING_DIR": str(folder)},
                stdout=said,
                stderr=said,
                cwd=folder,
                # Why: it does not end by a signal that can be caught, so nothing but `stop` may reach it.
                start_new_session=True,
            )
        for port in (self.rest, self.grpc):
            wait_until_open(port, self.process)

    def place(self, rest: int | None = None, deadline_s: float = 60.0) -> BigQuery:
        """A dataset of its own there, asked for by way of another port if one is given."""
        return BigQuery(
            project="test",
            dataset=f"t{uuid4().hex[:12]}",
            endpoint=f"http://127.0.0.1:{rest or self.rest}",
            storage_endpoint=f"127.0.0.1:{self.grpc}",
            deadline_s=deadline_s,
        )

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


def main() -> None:
    """Run one at the usual ports until Ctrl-C, and say how it is used."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory() as folder:
        emulator = Emulator(Path(folder), *PORTS)
        try:
            sys.stdout.write(
                f"BigQuery's emulator runs at http://127.0.0.1:{emulator.rest} (Ctrl-C ends it, and its tables).\n"
                f"In another shell:\n\n"
                f"  export BIGQUERY_EMULATOR_HOST=http://127.0.0.1:{emulator.rest}\n"
                f"  export SEGUE_WAREHOUSE__BIGQUERY__STORAGE_ENDPOINT=127.0.0.1:{emulator.grpc}\n"
                f"  export SEGUE_WAREHOUSE__ENGINE=bigquery\n"
                f"  segue import 30music sessions.parquet && segue run\n\n"
            )
            sys.stdout.flush()
            emulator.process.wait()
        except (KeyboardInterrupt, SystemExit):
            pass
        finally:
            emulator.stop()


if __name__ == "__main__":
    main()
