"""PostgreSQL: a copied cluster made safe, what changed in it, and those changes merged into a live one.

The production cluster needs nothing: no slot, no trigger, no setting. `cluster` and `prepare` make a fork's data
directory safe and give it a clean base; `plan.read_changes` says exactly what a fork changed since that base;
`apply.apply` merges it into a target in one transaction, or raises `refuse.Refused` with every conflict and leaves
the target as it was. Servers are started by whoever calls: see `cluster.Server`.
"""
