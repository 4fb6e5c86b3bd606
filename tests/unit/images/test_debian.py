"""Which of a host's apt sources make images."""

from __future__ import annotations

from pathlib import Path

import pytest

from wye.drivers.images.debian import Debian, Source
from wye.drivers.images.diagnosis import findings
from wye.errors import Unsupported
from wye.host import Host

BOOKWORM = 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian"\n'


def debian(tmp_path: Path, files: dict[str, str], release: str = BOOKWORM) -> Debian:
    folder = tmp_path / "etc"
    (folder / "apt/sources.list.d").mkdir(parents=True, exist_ok=True)
    (folder / "os-release").write_text(release)
    for name, text in files.items():
        (folder / "apt" / name).write_text(text)
    return Debian(Host(), tmp_path / "cache", folder)


def test_one_line_sources(tmp_path: Path) -> None:
    text = """
    # deb http://commented bookworm main
    """
    lines = (
        "deb http://mirror.test/debian bookworm main contrib non-free-firmware # comment\n"
        "deb-src http://mirror.test/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
        "http://mirror.test/debian-security bookworm-security main\n"
    )
    assert debian(tmp_path, {"sources.list": text + lines}).sources() == [
        Source({"Types": "deb", "URIs": "http://mirror.test/debian", "Suites": "bookworm", "Components": "main"}),
        Source(
            {
                "Types": "deb",
                "URIs": "http://mirror.test/debian-security",
                "Suites": "bookworm-security",
                "Components": "main",
                "Signed-By": "/usr/share/keyrings/debian-archive-keyring.gpg",
            }
        ),
    ]


def test_paragraph_sources(tmp_path: Path) -> None:
    text = (
        "# a comment\nTypes: deb deb-src\nURIs: http://mirror.test/debian\n"
        "Suites: bookworm bookworm-updates bookworm-backports\nComponents: main non-free\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ==\n\n"
        "Types: deb\nURIs: http://off.test/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n"
    )
    (source,) = debian(tmp_path, {"sources.list.d/debian.sources": text}).sources()
    assert source.fields["Suites"] == "bookworm bookworm-updates"
    assert source.fields["Components"] == "main"
    assert "BEGIN PGP" in source.fields["Signed-By"]
    assert "\n -----BEGIN" in str(source)


@pytest.mark.parametrize(
    "line",
    [
        "deb https://download.docker.test/linux/debian bookworm stable",
        "deb http://apt.postgresql.test/pub/repos/apt bookworm-pgdg main",
        "deb [signed-by=/usr/share/keyrings/hashicorp.gpg] https://apt.test bookworm main",
        "deb http://mirror.test/debian trixie main",
        "deb http://mirror.test/debian sid main",
    ],
)
def test_third_parties_and_other_releases_are_left_out(tmp_path: Path, line: str) -> None:
    with pytest.raises(Unsupported, match="no apt source"):
        debian(tmp_path, {"sources.list": line + "\n"}).sources()


def test_credentials_of_a_mirror_stay_on_the_host(tmp_path: Path) -> None:
    made = debian(tmp_path, {"sources.list": "deb https://user:secret@mirror.test/debian bookworm main\n"})
    assert "secret" in str(made.sources()[0])
    assert "URIs: https://mirror.test/debian\n" in made.public_sources()


def test_another_distribution_is_not_possible_and_says_what_is(tmp_path: Path) -> None:
    with pytest.raises(Unsupported) as caught:
        debian(tmp_path, {}, release="ID=fedora\nVERSION_ID=40\n").sources()
    assert "OCI images" in (caught.value.hint or "")


def test_doctor_on_what_images_are_made_of(tmp_path: Path) -> None:
    line = "deb [signed-by={key}] http://user:secret@mirror.test/debian bookworm main\n"
    key = tmp_path / "debian-key.gpg"
    (told,) = [finding for finding in findings(debian(tmp_path, {"sources.list": line.format(key=key)})) if finding.fix]
    assert (told.level, str(key) in told.text) == ("warning", True)
    key.touch()
    (well,) = [
        finding
        for finding in findings(debian(tmp_path, {"sources.list": line.format(key=key)}))
        if finding.subject == "package archive"
    ]
    assert (well.level, well.text) == ("ok", "Debian bookworm from http://mirror.test/debian")
    other = debian(tmp_path, {}, release="ID=fedora\n")
    assert [finding.level for finding in findings(other) if finding.subject == "package archive"] == ["warning"]
