from __future__ import annotations

import pytest

from wye.daemon.restarts import delay_before_restart, health_after_failure, next_probe
from wye.model import Health, Healthcheck, Restart, RestartPolicy

ALWAYS, ON_FAILURE = Restart(policy=RestartPolicy.ALWAYS), Restart(policy=RestartPolicy.ON_FAILURE)


@pytest.mark.parametrize(
    ("policy", "exit_code", "again"),
    [
        (RestartPolicy.NO, 1, False),
        (RestartPolicy.NO, None, False),
        (RestartPolicy.ALWAYS, 0, True),
        (RestartPolicy.UNLESS_STOPPED, 0, True),
        (RestartPolicy.ON_FAILURE, 0, False),
        (RestartPolicy.ON_FAILURE, 137, True),
        (RestartPolicy.ON_FAILURE, None, True),
    ],
)
def test_policies(policy: RestartPolicy, exit_code: int | None, again: bool) -> None:
    assert (delay_before_restart(Restart(policy=policy), exit_code=exit_code, restarts=0) is not None) == again


def test_backoff_doubles_up_to_a_minute() -> None:
    delays = [delay_before_restart(ALWAYS, exit_code=0, restarts=n) for n in range(12)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-2:] == [60.0, 60.0]
    assert delay_before_restart(ALWAYS, exit_code=0, restarts=5000) == 60.0
    slow = Restart(policy=RestartPolicy.ALWAYS, delay_s=5.0)
    assert [delay_before_restart(slow, exit_code=0, restarts=n) for n in range(3)] == [5.0, 10.0, 20.0]


def test_retries_come_to_an_end() -> None:
    twice = Restart(policy=RestartPolicy.ON_FAILURE, max_retries=2)
    assert [delay_before_restart(twice, exit_code=1, restarts=n) is not None for n in range(4)] == [
        True, True, False, False,
    ]  # fmt: skip


def test_who_is_waited_for_is_asked_often_at_first() -> None:
    check = Healthcheck(test=("x",), interval_s=30.0)
    awaited = [next_probe(check, health=Health.STARTING, probes=n, awaited=True) for n in range(30)]
    assert awaited[0] == 0.05
    assert awaited == sorted(awaited)
    assert awaited[-1] == 30.0
    assert next_probe(check, health=Health.STARTING, probes=0, awaited=False) == 1.0
    assert next_probe(check, health=Health.HEALTHY, probes=0, awaited=True) == 30.0
    starting = Healthcheck(test=("x",), interval_s=30.0, start_period_s=60.0, start_interval_s=2.0)
    assert next_probe(starting, health=Health.STARTING, probes=30, awaited=False) == 2.0
    quick = Healthcheck(test=("x",), interval_s=0.5)
    assert next_probe(quick, health=Health.STARTING, probes=0, awaited=False) == 0.5


@pytest.mark.parametrize("health", [Health.STARTING, Health.HEALTHY])
def test_failures_count_after_the_start_period_and_over_time(health: Health) -> None:
    check = Healthcheck(test=("x",), interval_s=10.0, retries=3, start_period_s=60.0)

    def after(running_s: float, failing_s: float, failures: int) -> Health:
        return health_after_failure(check, health=health, running_s=running_s, failing_s=failing_s, failures=failures)

    assert after(59.0, 59.0, 100) is health
    assert after(61.0, 25.0, 2) is health
    assert after(61.0, 1.0, 100) is health, "asked often is not failing for long"
    assert after(81.0, 20.0, 3) is Health.UNHEALTHY
