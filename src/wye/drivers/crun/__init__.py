"""Containers: an OCI runtime (crun) makes them, conmon holds each one's process, output and exit code.

Neither is this process, so containers outlive it, `kill -9` included. All that one start makes can be found by
the container's id below one directory (`bundle`), whole or half-made, so that the next daemon adopts or removes it.
"""
