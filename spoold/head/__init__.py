"""The head: observe, decide, commit, project."""
