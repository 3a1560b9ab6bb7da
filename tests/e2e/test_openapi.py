"""schemathesis asks a real server whatever its OpenAPI document allows and forbids: no 5xx, and only what is documented."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from serving_home import serving

from segue.wiring.home import Home

HERE = Path(__file__).parent
EXAMPLES, SEED = 15, 1


def test_the_server_keeps_to_its_own_description(service: Home, tmp_path: Path) -> None:
    shutil.copytree(service.root, tmp_path / "home")
    with serving(tmp_path / "home", "readyz", {"SEGUE_SERVING__WORKERS": "1"}) as server:
        done = subprocess.run(
            [
                *(
                    Path(sys.prefix) / "bin" / "schemathesis",
                    "--config-file",
                    HERE / "schemathesis.toml",
                    "--no-color",
                ),
                *("run", f"{server.url}/openapi.json", "--phases", "examples,coverage,fuzzing"),
                *("--max-examples", str(EXAMPLES), "--seed", str(SEED), "--continue-on-failure"),
            ],
            env=os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
    assert "No issues found" in done.stdout, done.stdout[-3_000:]
