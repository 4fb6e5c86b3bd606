"""What OCI documents say, and what they must not be able to do."""

from __future__ import annotations

import json

import pytest

from wye.drivers.images import oci
from wye.errors import BadRequest, NotFound
from wye.model import Healthcheck, ImageConfig


def test_a_configuration_becomes_ours() -> None:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/entry"],
            "Cmd": ["run", "it"],
            "Env": ["PATH=/bin", "A=b=c", "EMPTY=", "=odd"],
            "WorkingDir": "/data",
            "User": "999:999",
            "StopSignal": "SIGINT",
            "ExposedPorts": {"5432/tcp": {}, "53/udp": {}},
            "Volumes": {"/data": {}},
            "Labels": {"a": "b"},
            "Healthcheck": {"Test": ["CMD-SHELL", "true || false"], "Interval": 5_000_000_000, "Retries": 7},
        },
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    assert oci.image_config(json.dumps(document).encode()) == ImageConfig(
        entrypoint=("/entry",),
        command=("run", "it"),
        environment={"PATH": "/bin", "A": "b=c", "EMPTY": ""},
        working_dir="/data",
        user="999:999",
        stop_signal="SIGINT",
        exposed=("53/udp", "5432/tcp"),
        volumes=("/data",),
        healthcheck=Healthcheck(test=("/bin/sh", "-c", "true || false"), interval_s=5.0, retries=7),
        labels={"a": "b"},
    )


@pytest.mark.parametrize(
    "text", ["{}", '{"config": {}}', '{"config": null}', '{"config": {"Env": null, "User": null}}']
)
def test_what_is_missing_has_a_default(text: str) -> None:
    assert oci.image_config(text.encode()) == ImageConfig()


def test_healthcheck_none_means_none_at_all() -> None:
    text = b'{"config": {"Healthcheck": {"Test": ["NONE"]}}}'
    assert oci.image_config(text).healthcheck == Healthcheck(test=())


@pytest.mark.parametrize("text", ["", "[]", "{", '{"config": 3}', '{"config": {"Env": "A=b"}}', "\0", "9" * 5000])
def test_a_document_of_another_shape_is_a_clear_error(text: str) -> None:
    with pytest.raises(BadRequest):
        oci.image_config(text.encode())


def index(*platforms: tuple[str, str]) -> oci.Manifest:
    entries = [
        {"digest": f"sha256:{number}", "platform": {"os": os, "architecture": architecture}}
        for number, (os, architecture) in enumerate(platforms)
    ]
    return oci.manifest(json.dumps({"manifests": entries}).encode())


def test_the_image_for_this_machine_is_chosen() -> None:
    assert oci.choose(index(("windows", oci.architecture()), ("linux", oci.architecture())), "x") == "sha256:1"


def test_an_index_without_this_machine_says_what_it_has() -> None:
    with pytest.raises(NotFound) as caught:
        oci.choose(index(("linux", "s390x"), ("unknown", "unknown")), "x")
    assert caught.value.hint == "it has linux/s390x"
