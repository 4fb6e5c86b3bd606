"""Layers are measured before anything unpacks them."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from wye.drivers.images.layers import Limits, Measure, measure
from wye.errors import BadRequest, Exhausted, Unsupported
from wye.host import Host


def archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for member, content in members:
            member.size = len(content) if member.isreg() else member.size
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def file(name: str, content: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def layer(tmp_path: Path, data: bytes) -> list[Path]:
    path = tmp_path / "layer"
    path.write_bytes(data)
    return [path]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("compress", [gzip.compress, bytes])
def test_entries_and_bytes_are_counted(tmp_path: Path, form: int, compress: type[bytes]) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.LNKTYPE, "a"
    names = ["a", "d" * 90 + "/" + "n" * 90] + (["ü" * 200] if form != tarfile.USTAR_FORMAT else [])
    data = archive(*(file(name, b"x" * 700) for name in names), (link, b""), form=form)
    measured = measure(Host(), layer(tmp_path, compress(data)), Limits())
    assert measured == Measure(bytes=700 * len(names), entries=len(names) + 1)


def test_layers_count_together(tmp_path: Path) -> None:
    layers = layer(tmp_path, archive(file("a", b"x" * 600))) * 3
    assert measure(Host(), layers, Limits()) == Measure(bytes=1800, entries=3)
    with pytest.raises(Exhausted, match="more than"):
        measure(Host(), layers, Limits(max_entries=2))


def test_a_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    bomb = gzip.compress(archive(file("zeros", bytes(64 << 20))))
    assert len(bomb) < 1 << 17
    with pytest.raises(Exhausted, match="16 MiB"):
        measure(Host(), layer(tmp_path, bomb), Limits(max_bytes=16 << 20))


def test_a_bomb_behind_the_end_of_the_archive_stops_too(tmp_path: Path) -> None:
    bomb = gzip.compress(archive(file("a")) + bytes(64 << 20))
    with pytest.raises(Exhausted):
        measure(Host(), layer(tmp_path, bomb), Limits(max_bytes=16 << 20))


def test_a_huge_header_is_not_read_into_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 8 << 30
    with pytest.raises(BadRequest, match="header of"):
        measure(Host(), layer(tmp_path, header.tobuf(tarfile.GNU_FORMAT)), Limits())


def test_sparse_files_are_refused_in_both_forms(tmp_path: Path) -> None:
    old = tarfile.TarInfo("sparse")
    old.type = tarfile.GNUTYPE_SPARSE
    new = tarfile.TarInfo("sparse")
    new.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 50)}
    for data in (old.tobuf(tarfile.GNU_FORMAT), archive((new, b""))):
        with pytest.raises(Unsupported, match="sparse"):
            measure(Host(), layer(tmp_path, data), Limits())


def test_the_size_in_an_extended_header_counts(tmp_path: Path) -> None:
    member = tarfile.TarInfo("big")
    member.size, member.pax_headers = 0, {"size": str(8 << 30)}
    with pytest.raises(BadRequest, match="damaged"):
        measure(Host(), layer(tmp_path, archive((member, b""))), Limits())


@pytest.mark.parametrize(
    "data", [b"x" * 512, b"x" * 100, gzip.compress(b"y" * 5000), gzip.compress(bytes(9000))[:-12], b"\x1f\x8b\x08junk"]
)
def test_what_is_no_archive_is_a_clear_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BadRequest):
        measure(Host(), layer(tmp_path, data), Limits())


@pytest.mark.parametrize("magic", [b"\x28\xb5\x2f\xfd", b"BZh9", b"\xfd7zXZ\0"])
def test_other_compressions_are_named(tmp_path: Path, magic: bytes) -> None:
    with pytest.raises(Unsupported, match="compressed with"):
        measure(Host(), layer(tmp_path, magic + bytes(600)), Limits())
