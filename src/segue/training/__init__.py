"""From tables to a bundle: load plays, fit retrieval, draw samples, fit rankers, gate, publish."""
