"""When a service that ended is started again. Pure.

Backoff as people know it from containers: 100 ms, doubled each time up to a minute, and forgotten once a
service has run for ten seconds.
"""

from __future__ import annotations

from wye.model import Health, Healthcheck, Restart, RestartPolicy

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 60.0
_DOUBLINGS = 40
"""Beyond that every delay is the longest, and numbers would grow out of bounds in a service that never gets well."""
STABLE_AFTER_S = 10.0

_FIRST_PROBE_S = 0.05
UNHURRIED_S = 1.0
"""Until the first healthcheck of a service that nobody waits for: just after its start it has better to do."""


def delay_before_restart(restart: Restart, *, exit_code: int | None, restarts: int) -> float | None:
    """Seconds until a service that ended is started again; None: it stays ended.

    `restarts`: how often that was done since it last ran stably. An unknown exit code counts as a failure.
    """
    if restart.policy is RestartPolicy.NO:
        return None
    if restart.policy is RestartPolicy.ON_FAILURE and exit_code == 0:
        return None
    if restart.max_retries is not None and restarts >= restart.max_retries:
        return None
    first = restart.delay_s if restart.delay_s is not None else _FIRST_DELAY_S
    return float(min(first * 2 ** min(restarts, _DOUBLINGS), max(first, _LONGEST_DELAY_S)))


def next_probe(check: Healthcheck, *, health: Health, probes: int, awaited: bool) -> float:
    """Seconds until the next healthcheck. A service that is starting is asked often while somebody waits for it:
    50 ms at first, then ever more seldom up to its own interval."""
    if health is not Health.STARTING:
        return check.interval_s
    longest = min(check.start_interval_s, check.interval_s) if check.start_period_s else check.interval_s
    first = _FIRST_PROBE_S if awaited else UNHURRIED_S
    return float(min(first * 1.5 ** min(probes, _DOUBLINGS), longest))


def health_after_failure(
    check: Healthcheck, *, health: Health, running_s: float, failing_s: float, failures: int
) -> Health:
    """A failure counts once the start period is over; as many as `retries`, at the check's own interval, make it
    unhealthy. `failing_s`: since the first failure in a row that counted."""
    if running_s < check.start_period_s:
        return health
    if failures >= check.retries and failing_s >= (check.retries - 1) * check.interval_s:
        return Health.UNHEALTHY
    return health
