"""Three-way merge, values in, values out: of history, settings, files, text, rows and keys.

Nothing here does I/O or reads a clock. Callers read base, ours (the target) and theirs (the fork), ask these
functions what follows, and carry it out. So every rule of merging can be tried in milliseconds.
"""
