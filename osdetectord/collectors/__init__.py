"""Collectors: each is a BPF source, and beside it the meaning of its tables."""
