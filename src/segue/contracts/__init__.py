"""The words every room shares: ids, event types, surfaces, tables, ports and errors."""
