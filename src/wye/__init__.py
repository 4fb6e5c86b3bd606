"""wye is git for running production: fork a whole live environment, see what changed, merge it back."""

from wye.api.client import Client, connect

__all__ = ["Client", "__version__", "connect"]

__version__ = "0.1.0"
