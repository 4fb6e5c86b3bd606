"""What people find when they come into an environment without naming a service."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.host


def test_one_is_a_user_at_home_and_root_by_sudo(project: Project) -> None:
    project.up()
    project.fork()
    project.sh("f", "echo secret > /data/private; chmod 600 /data/private; chown 999 /data/private")
    told = project.sh("f", "id -un; id -u; pwd; echo $HOME; touch mine && sudo id -u", None)
    assert told.text.split() == ["user", "1000", "/home/user", "/home/user", "0"], told.stderr
    assert project.sh("f", "cat /volumes/data/private", None).exit_code != 0
    assert project.sh("f", "sudo cat /volumes/data/private", None).text == "secret\n"
    assert (
        project.sh("f", "python3 -c 'import urllib.request as u; u.urlopen(\"http://box:7000\")'", None).exit_code == 0
    )
    assert project.client.exec("f", ["id", "-u"], user="root").text == "0\n"
