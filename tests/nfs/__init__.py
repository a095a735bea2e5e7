"""The project on a real NFS: small machines with the kernel's own server and client (see bench.py)."""
