"""The flow: registered steps, and the runner that keeps tables, models and listener state up to date."""
