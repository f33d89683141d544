"""The mode of the original OSdetector: its ``config.json``, its CSV files, and detection over them."""
