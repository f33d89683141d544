"""The engine: every watched process's samples in, scores and episodes out."""
