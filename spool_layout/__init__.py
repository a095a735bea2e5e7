"""The contract: what is on disk, byte for byte and name for name. Knows no policy."""
