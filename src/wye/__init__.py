"""wye is git for running production: fork a whole live environment, see what changed, merge it back."""

__version__ = "0.1.0"
