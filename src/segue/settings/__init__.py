"""One settings tree: defaults here, then `segue.toml`, then SEGUE_* variables, then `--set`; unknown keys are refused."""

from segue.settings.load import DEFAULT_HOME, load_settings
from segue.settings.tree import Settings

__all__ = ["DEFAULT_HOME", "Settings", "load_settings"]
