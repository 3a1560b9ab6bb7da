"""The only place where adapters are chosen: settings in, a working platform out."""
