"""The daemon on the system bus."""
