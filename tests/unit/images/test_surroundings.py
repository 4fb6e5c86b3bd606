"""What a build takes on from the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wye.drivers.images.chamber import View
from wye.drivers.images.surroundings import Surroundings, surroundings
from wye.host import Host


def of(tmp_path: Path, environment: dict[str, str], pip_conf: str = "") -> Surroundings:
    home = tmp_path / "home"
    (home / ".config/pip").mkdir(parents=True, exist_ok=True)
    (home / ".config/pip/pip.conf").write_text(pip_conf)
    configuration = (
        {"PIP_CONFIG_FILE": str(home / ".config/pip/pip.conf")} if pip_conf else {"PIP_CONFIG_FILE": "/dev/null"}
    )
    return surroundings(Host(), tmp_path / "work", os.getuid(), {"HOME": str(home), **configuration, **environment})


def test_proxies_come_along_in_both_spellings(tmp_path: Path) -> None:
    found = of(tmp_path, {"HTTPS_PROXY": "http://p:1", "no_proxy": "a,b", "SECRET": "x", "PATH": "/x"})
    assert found.env["HTTPS_PROXY"] == "http://p:1"
    assert found.env["no_proxy"] == "a,b"
    assert not {"SECRET", "PATH", "HOME"} & set(found.env)


def test_the_environment_wins_over_pips_files(tmp_path: Path) -> None:
    conf = "[global]\nindex-url = https://file/simple\ntimeout = 7\n[install]\nno-binary = x\n[list]\nformat = json\n"
    found = of(tmp_path, {"PIP_INDEX_URL": "https://environment/simple", "PIP_TARGET": "/x"}, conf)
    assert found.env["PIP_INDEX_URL"] == "https://environment/simple"
    assert found.env["PIP_TIMEOUT"] == "7"
    assert found.env["PIP_NO_BINARY"] == "x"
    assert not {"PIP_TARGET", "PIP_FORMAT", "PIP_CONFIG_FILE"} & set(found.env)


def test_directories_of_packages_are_shared_and_renamed(tmp_path: Path) -> None:
    wheels, index = tmp_path / "wheels", tmp_path / "index/simple"
    wheels.mkdir()
    index.mkdir(parents=True)
    conf = f"[global]\nfind-links = {wheels}\n  https://elsewhere/\n  {tmp_path}/absent\nextra-index-url = file://{index}\n"
    found = of(tmp_path, {}, conf)
    assert found.env["PIP_FIND_LINKS"] == f"/mnt/host{wheels} https://elsewhere/"
    assert found.env["PIP_EXTRA_INDEX_URL"] == f"file:///mnt/host{index}"
    assert View(wheels, f"/mnt/host{wheels}") in found.views
    # An index refers to files beside it.
    assert View(index.parent, f"/mnt/host{index.parent}") in found.views


@pytest.mark.parametrize("name", ["PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"])
def test_the_hosts_certificates_serve_every_program(tmp_path: Path, name: str) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.write_text("certificates")
    found = of(tmp_path, {name: str(bundle)})
    inside = found.env["PIP_CERT"]
    assert {found.env[each] for each in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")} == {inside}
    (view,) = [view for view in found.views if view.target == inside]
    assert view.source.read_text() == "certificates"
    assert view.source != bundle


def test_views_lie_below_mnt_so_that_nothing_stays_in_the_image(tmp_path: Path) -> None:
    found = of(tmp_path, {})
    others = {view.target for view in found.views if not view.target.startswith("/mnt/")}
    assert others <= {"/etc/resolv.conf", "/etc/hosts"}
