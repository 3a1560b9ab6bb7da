"""Speed against well-known peers, measured in the same run; see README.md."""
