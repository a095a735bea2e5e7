"""A cluster of several hosts in one process and in virtual time: the product's own code, faults, and a judge."""
