"""Images from a real registry: pulled once, known by digest, and clear errors when there is none."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wye.drivers.images.layers import Limits
from wye.errors import BadRequest, Conflict, Denied, Exhausted, NotFound, Unavailable
from wye.host import Host
from wye.interfaces import Progress, silent
from wye.testing.faulty_host import FaultyHost

pytestmark = pytest.mark.host

CONFIG = {"Entrypoint": ["/bin/app"], "Env": ["A=b"], "WorkingDir": "/srv", "User": "7", "ExposedPorts": {"80/tcp": {}}}


def simple(pusher: Any, text: str = "hello") -> bytes:
    data: bytes = pusher.layer(
        pusher.folder("./"),
        pusher.folder("srv"),
        pusher.member("srv/file", text.encode(), mode=0o640, uid=7, gid=8),
        pusher.member("bin/app", b"#!/bin/sh\n", mode=0o4755),
    )
    return data


def test_a_pushed_image_is_pulled_and_shifted(pusher: Any, new_store: Callable[..., Any]) -> None:
    reference = pusher.push("team/app:1", [simple(pusher), pusher.layer(pusher.member("second", b"2"))], CONFIG)
    store = new_store()
    said: list[Progress] = []
    image = store.resolve(reference, pull=False, report=said.append)
    rootfs = store.rootfs(image)
    assert (rootfs / "srv/file").read_text() == "hello"
    assert (rootfs / "second").read_text() == "2"
    status = (rootfs / "srv/file").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (200_007, 200_008, 0o640)
    assert stat.S_IMODE((rootfs / "bin/app").stat().st_mode) == 0o4755
    assert image.reference == reference
    assert (image.config.entrypoint, image.config.environment) == (("/bin/app",), {"A": "b"})
    assert (image.config.working_dir, image.config.user, image.config.exposed) == ("/srv", "7", ("80/tcp",))
    assert (rootfs / "etc/resolv.conf").is_file()
    assert stat.S_IMODE((rootfs / "tmp").stat().st_mode) == 0o1777
    assert {"look up", "download", "unpack"} <= {progress.step for progress in said}
    assert store.digests() == {image.digest}


def test_downloads_may_be_on_another_file_system_than_images(pusher: Any, new_store: Callable[..., Any]) -> None:
    """As they are: images are in the pool, downloads are not."""
    store = new_store()
    reference = pusher.push("apart", [simple(pusher)], CONFIG)
    cache = pusher.directory.parent / "store/cache"
    cache.mkdir(exist_ok=True)
    Host().mount("test:mount", "tmpfs", cache, "tmpfs")
    try:
        assert (store.rootfs(store.resolve(reference, pull=False, report=silent)) / "srv/file").read_text() == "hello"
        assert list((cache / "oci/layouts").iterdir()) == []
    finally:
        Host().unmount("test:mount", cache)


def test_dockers_own_manifests(pusher: Any, new_store: Callable[..., Any]) -> None:
    reference = pusher.push("docker", [simple(pusher)], CONFIG, options=["--format", "v2s2"])
    store = new_store()
    image = store.resolve(reference, pull=False, report=silent)
    assert (store.rootfs(image) / "srv/file").read_text() == "hello"
    assert image.config.entrypoint == ("/bin/app",)


def test_an_image_for_several_platforms(pusher: Any, new_store: Callable[..., Any]) -> None:
    reference = pusher.push("several", [simple(pusher)], platforms=["s390x", "riscv64"], options=["--all"])
    store = new_store()
    image = store.resolve(reference, pull=False, report=silent)
    assert (store.rootfs(image) / "srv/file").read_text() == "hello"
    raw = Host().run("test:raw", ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]).stdout
    index = f"{reference}@sha256:{hashlib.sha256(raw).hexdigest()}"
    assert store.resolve(index, pull=False, report=silent).digest == image.digest
    host = FaultyHost(record=True)
    assert new_store(host).resolve(index, pull=False, report=silent).digest == image.digest
    assert "images:inspect" not in host.labels


def test_what_is_here_needs_no_network(pusher: Any, new_store: Callable[..., Any]) -> None:
    reference = pusher.push("offline:1", [simple(pusher)])
    first = new_store().resolve(reference, pull=False, report=silent)
    host = FaultyHost(record=True)
    again = new_store(host).resolve(reference, pull=False, report=silent)
    assert again == first
    assert not {"images:inspect", "images:copy-blobs"} & set(host.labels)


def test_a_tag_that_moved_is_followed_only_when_asked(pusher: Any, new_store: Callable[..., Any]) -> None:
    store = new_store()
    reference = pusher.push("moves:latest", [simple(pusher, "one")])
    first = store.resolve(reference, pull=False, report=silent)
    pusher.push("moves:latest", [simple(pusher, "two")])
    assert store.resolve(reference, pull=False, report=silent) == first
    second = store.resolve(reference, pull=True, report=silent)
    assert (store.rootfs(second) / "srv/file").read_text() == "two"
    assert store.digests() == {first.digest, second.digest}
    by_digest = f"{reference.rpartition(':')[0]}@sha256:{first.digest}"
    assert store.resolve(by_digest, pull=False, report=silent).digest == first.digest


def test_images_share_their_layers_in_the_cache(pusher: Any, new_store: Callable[..., Any]) -> None:
    store = new_store()
    shared = simple(pusher)
    for name in ("one", "two"):
        store.resolve(pusher.push(name, [shared, pusher.layer(pusher.member(name))]), pull=False, report=silent)
    blobs = (
        store.rootfs(store.resolve(f"{pusher.registry}/one", pull=False, report=silent)).parents[2] / "cache/oci/blobs"
    )
    # Three layers, two configurations, two manifests.
    assert len(list((blobs / "sha256").iterdir())) == 7


def test_deleting(pusher: Any, new_store: Callable[..., Any]) -> None:
    store = new_store()
    reference = pusher.push("deleted", [simple(pusher)])
    image = store.resolve(reference, pull=False, report=silent)
    store.delete(image.digest)
    store.delete(image.digest)
    store.delete("../../etc")
    assert store.digests() == frozenset()
    with pytest.raises(NotFound):
        store.rootfs(image)
    assert store.resolve(reference, pull=False, report=silent) == image


def test_threads_and_stores_that_want_one_image_fetch_it_once(pusher: Any, new_store: Callable[..., Any]) -> None:
    reference = pusher.push("wanted", [simple(pusher)])
    host = FaultyHost(record=True)
    stores = [new_store(host) for _ in range(4)]
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda store=store: results.append(store.resolve(reference, pull=False, report=silent)))
        for store in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len({image.digest for image in results}) == 1
    assert host.labels.count("images:unpack") == 1


# ---------------------------------------------------------------- no answer, or no


def test_an_unknown_image_is_not_found(registry: str, new_store: Callable[..., Any]) -> None:
    with pytest.raises(NotFound, match="there is no image") as caught:
        new_store().resolve(f"{registry}/absent:1", pull=False, report=silent)
    assert caught.value.hint


def test_an_unreachable_registry_mentions_the_catalogue(new_store: Callable[..., Any]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        new_store().resolve(f"127.0.0.1:{port}/postgres:16", pull=False, report=silent)
    assert "or use the catalogue image wye/postgres" in (caught.value.hint or "")
    with pytest.raises(Unavailable) as caught:
        new_store().resolve(f"127.0.0.1:{port}/other", pull=False, report=silent)
    assert "catalogue" not in (caught.value.hint or "")


def test_a_registry_that_never_answers_is_given_up(new_store: Callable[..., Any]) -> None:
    with socket.socket() as silence:
        silence.bind(("127.0.0.1", 0))
        silence.listen()
        started = time.monotonic()
        with pytest.raises(Unavailable):
            new_store(answer_s=2).resolve(f"127.0.0.1:{silence.getsockname()[1]}/x", pull=False, report=silent)
        assert time.monotonic() - started < 5


@contextlib.contextmanager
def answering(status: int, body: bytes = b"") -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_registry_that_refuses_says_how_to_log_in(new_store: Callable[..., Any]) -> None:
    with answering(401) as address, pytest.raises(Denied) as caught:
        new_store().resolve(f"{address}/private", pull=False, report=silent)
    assert f"skopeo login {address}" in (caught.value.hint or "")


@pytest.mark.parametrize(("status", "body"), [(200, b"not json"), (200, b"[]"), (200, b'{"layers": 3}'), (500, b"")])
def test_a_registry_that_talks_nonsense_is_a_clear_error(
    new_store: Callable[..., Any], status: int, body: bytes
) -> None:
    with answering(status, body) as address, pytest.raises((BadRequest, Unavailable)):
        new_store().resolve(f"{address}/x", pull=False, report=silent)


# ---------------------------------------------------------------- limits and ownership


def test_an_image_beyond_the_limits_leaves_nothing(pusher: Any, new_store: Callable[..., Any]) -> None:
    reference = pusher.push("big", [pusher.layer(pusher.member("zeros", bytes(8 << 20)))])
    store = new_store(limits=Limits(max_bytes=1 << 20))
    with pytest.raises(Exhausted, match="more than 1 MiB"):
        store.resolve(reference, pull=False, report=silent)
    assert store.digests() == frozenset()
    assert new_store().resolve(reference, pull=False, report=silent)


def test_capabilities_hard_links_and_large_ids(pusher: Any, new_store: Callable[..., Any]) -> None:
    capability = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
    headers = {"SCHILY.xattr.security.capability": capability.decode("latin-1")}
    members = [
        pusher.member("bin/ping", b"x", mode=0o755, pax_headers=headers),
        pusher.member("bin/plain", b"y", mode=0o2755, uid=5),
        pusher.member("bin/same", type=b"1", linkname="bin/plain"),
        pusher.member("large", b"z", uid=100_000, gid=70_000),
    ]
    store = new_store()
    rootfs = store.rootfs(store.resolve(pusher.push("owners", [pusher.layer(*members)]), pull=False, report=silent))
    version, permitted, *_, root = struct.unpack("<6I", os.getxattr(rootfs / "bin/ping", "security.capability"))
    assert (version & 0xFF000000, permitted, root) == (0x03000000, 1 << 10, 200_000)
    same = (rootfs / "bin/same").stat()
    assert same.st_ino == (rootfs / "bin/plain").stat().st_ino
    assert (same.st_uid, stat.S_IMODE(same.st_mode)) == (200_005, 0o2755)
    large = (rootfs / "large").stat()
    assert (large.st_uid, large.st_gid) == (265_534, 265_534)


def test_a_pool_of_other_user_ids_is_refused(new_store: Callable[..., Any], tmp_path: Any) -> None:
    new_store()
    settings = tmp_path / "store/images/settings.json"
    settings.write_text(settings.read_text().replace("200000", "300000"))
    with pytest.raises(Conflict, match="300000"):
        new_store()
