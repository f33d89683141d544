"""Watch processes with eBPF, learn what is normal for each, report what is not."""

__version__ = "0.1.0"
