"""Image references: one spelling for all that mean the same, and a clear no for the rest."""

from __future__ import annotations

import pytest

from wye.drivers.images.reference import parse
from wye.errors import BadRequest

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("postgres:16-alpine", "docker.io/library/postgres:16-alpine"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("ghcr.io/a/b/c:V1.2_3", "ghcr.io/a/b/c:V1.2_3"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"nginx:1.2@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        ("a__b/c.d-e", "docker.io/a__b/c.d-e:latest"),
    ],
)
def test_references_have_one_full_spelling(text: str, full: str) -> None:
    assert str(parse(text)) == full
    assert str(parse(full)) == full


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "UPPER", "a b", "a:", "a:b:c", "a@sha256:12", "a@md5:" + "a" * 32, "../a", "a/../b", "a//b", "/a",
        "a/", "-a", "--help", "a:-b", "a:b/c", "localhost:port/x", "docker://nginx", "a\nb", "a" * 300, "a;b", "$(a)",
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse(text)


def test_the_host_of_a_registry_is_its_name_without_the_port() -> None:
    assert parse("localhost:5000/x").host == "localhost"
    assert parse("[::1]:5000/x").host == "::1"
    assert parse("nginx").host == "docker.io"
