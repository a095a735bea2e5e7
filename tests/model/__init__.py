"""The protocol's model checker: see README.md beside this file."""
