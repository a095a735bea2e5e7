"""The head: terms on real directories, cut and paused at every operation; two real heads."""
