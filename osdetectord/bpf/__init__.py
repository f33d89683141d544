"""The kernel part: compiled by a child process that ends, run by descriptors that the daemon holds."""
