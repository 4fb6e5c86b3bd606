"""The command line. One file per command: parse, call the client, render.

It speaks to the daemon through `wye.api` and to nothing else. What people read goes through `tables` and `words`;
what machines read (`--json`) is the daemon's own answer, unchanged.
"""
