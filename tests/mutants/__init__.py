"""Proof that the tests can fail: each safeguard of the protocol is taken away, one at a time, and a test goes red.

catalogue   what is taken away, as exact text, and which tests to ask first
scan        which safeguards there are, found in the code: none may lack a mutant
run         `make mutants`: asks the tests and writes table.txt
table.txt   what killed each mutant when that was run last
"""
