"""The history of revisions as a graph, and where two histories meet.

`merge_base` gives the common ancestor that is no ancestor of another common ancestor. Where there are several (two
environments merged into each other crosswise) the nearest one wins, by the sum of its distances and then by name, so
that everybody who asks gets the same answer. git would merge the bases first; snapshots cannot be, and the
nearest base only makes more conflicts, never a silent overwrite.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from wye.model import RevisionId

Parents = Callable[[RevisionId], tuple[RevisionId, ...]]


def ancestors(parents: Parents, start: RevisionId) -> Iterator[tuple[RevisionId, int]]:
    """`start` and all before it, nearest first, each once with its distance."""
    seen = {start}
    queue = deque([(start, 0)])
    while queue:
        revision, distance = queue.popleft()
        yield revision, distance
        for parent in parents(revision):
            if parent not in seen:
                seen.add(parent)
                queue.append((parent, distance + 1))


def is_ancestor(parents: Parents, older: RevisionId, newer: RevisionId) -> bool:
    """Whether `newer` descends from `older` or is it."""
    return any(revision == older for revision, _ in ancestors(parents, newer))


def merge_base(parents: Parents, a: RevisionId, b: RevisionId) -> RevisionId | None:
    """The best common ancestor of `a` and `b`, which may be one of them; None if they share no history."""
    of_a = dict(ancestors(parents, a))
    of_b = dict(ancestors(parents, b))
    common = of_a.keys() & of_b.keys()
    hidden: set[RevisionId] = set()
    for revision in common:
        if revision not in hidden:
            hidden.update(older for older, distance in ancestors(parents, revision) if distance)
    best = common - hidden
    return min(best, key=lambda revision: (of_a[revision] + of_b[revision], revision), default=None)
