"""The long-running process; its main module is the composition root."""
