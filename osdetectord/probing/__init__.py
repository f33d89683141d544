"""Probes and traces of functions of user programs, added and removed while the daemon runs."""
