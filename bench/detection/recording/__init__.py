"""Recordings of real programs, with faults at known times, through the project's own collectors."""
