"""Models as pure arrays: each is fit on arrays, saved as arrays, and knows nothing of tables, requests or files."""
