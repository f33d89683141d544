"""Demonstrations: real servers of Debian under a steady load that go wrong for real, one file for each fault."""
