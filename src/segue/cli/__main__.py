"""`python -m segue.cli`, the same as `segue`."""

from segue.cli.main import app

app()
