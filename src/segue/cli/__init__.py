"""The command line: `segue --help`."""
