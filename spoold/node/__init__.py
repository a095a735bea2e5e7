"""The node runner: makes what runs here what assigned.json says, and reports it in status.json."""
