"""One file per command: parse, call the client, render."""
