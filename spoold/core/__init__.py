"""What decides: events in, events out. No I/O, no clock, no chance (import-linter holds it to that)."""
