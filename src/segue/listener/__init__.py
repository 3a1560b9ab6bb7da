"""What the platform knows of one listener right now: a fold over their recent events, read once per request."""
