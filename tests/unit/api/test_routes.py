"""What the routes promise beyond the verbs: who may come in, how much may be sent, streams, and one shape of error."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from wye.api.client import connect
from wye.errors import Denied, NotFound, WyeError

if TYPE_CHECKING:
    Served = Any

TOKEN = "correct horse"


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


def ask(served: Served, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """(status, decoded body), over the Unix socket."""
    connection = http.client.HTTPConnection("wye")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(served.socket))
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, data, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


# ---------------------------------------------------------------- who may come in


def test_tcp_needs_the_token(shop: Served) -> None:
    with connect(shop.tcp, token=TOKEN) as client:
        assert [each.name for each in client.environments()] == ["production"]
        assert client.exec("production", ["echo", "hi"]).text == "hi\n"
        client.snapshot("production")
        assert client.log("production").entries[0].actor == "token:default"
    for token in (None, "wrong", "correct horsE"):
        with connect(shop.tcp, token=token) as client:
            assert client.version().api == 1
            with pytest.raises(Denied, match="token"):
                client.environments()
            with pytest.raises(Denied, match="token"):
                client.exec("production", ["true"])
            with pytest.raises(Denied, match="token"):
                next(client.events())
    assert len(shop.runtime.execs) == 1


def test_over_the_unix_socket_the_actor_is_the_peer(shop: Served) -> None:
    shop.client.snapshot("production")
    actor = shop.client.log("production").entries[0].actor
    assert actor.startswith(f"unix:{os.geteuid()}")


def test_a_token_does_not_change_who_a_unix_peer_is(shop: Served) -> None:
    status, _ = ask(shop, "GET", "/v1/environments", Authorization="Bearer wrong")
    assert status == 200


def test_the_socket_is_the_owners_only(served: Served) -> None:
    assert served.socket.stat().st_mode & 0o777 == 0o600


# ---------------------------------------------------------------- what may be sent


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/v1/nothing", None, 404, "there is no GET /v1/nothing"),
        ("PUT", "/v1/environments", None, 404, "there is no PUT /v1/environments"),
        ("GET", "/", None, 404, "there is no GET /"),
        ("POST", "/v1/environments/production/fork", b"{", 400, "JSON decode error"),
        ("POST", "/v1/environments/production/fork", {"nmae": "x"}, 400, "nmae: extra inputs are not permitted"),
        ("POST", "/v1/environments/production/fork", {"count": 0}, 400, "count: input should be greater than"),
        ("POST", "/v1/environments/production/fork", {"name": "A"}, 400, "'A' cannot name an environment"),
        ("POST", "/v1/environments/A/fork", {}, 400, "'A' cannot name an environment"),
        ("GET", "/v1/environments/production/log?limit=x", None, 400, "limit: input should be a valid integer"),
        ("GET", "/v1/environments/production/log?limit=0", None, 400, "limit: input should be greater than"),
        ("GET", "/v1/environments/nobody/logs", None, 404, "there is no environment 'nobody'"),
        ("GET", "/v1/entries/abcdef123456", None, 404, ""),
        ("POST", "/v1/config", {"directory": "relative"}, 400, "not a directory"),
    ],
)
def test_errors_have_one_shape(shop: Served, method: str, path: str, body: object, status: int, message: str) -> None:
    found, answer = ask(shop, method, path, body)
    assert found == status
    assert set(answer["error"]) == {"code", "message", "hint", "retryable", "exit_code"}
    assert message.lower() in answer["error"]["message"].lower()


def test_a_body_that_is_too_large_is_refused_before_it_is_read(served: Served) -> None:
    status, answer = ask(served, "POST", "/v1/config", None, **{"Content-Length": str(1 << 40)})
    assert (status, answer["error"]["code"]) == (413, "too_large")


def test_a_body_without_a_length_is_cut_off(served: Served) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(served.socket))
        raw.sendall(b"POST /v1/config HTTP/1.1\r\nHost: wye\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
        try:
            for _ in range(12):
                raw.sendall(chunk)
        except OSError:
            pass
        assert b" 413 " in raw.recv(4096).split(b"\r\n")[0]


def test_headers_without_end_are_cut_off(served: Served) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(served.socket))
        raw.sendall(b"GET /v1/version HTTP/1.1\r\nHost: wye\r\n")
        answered = b""
        try:
            for _ in range(64):
                raw.sendall(b"X-A: " + b"a" * 8192 + b"\r\n")
            answered = raw.recv(4096)
        except OSError:
            return
        assert answered.startswith(b"HTTP/1.1 4") or answered == b""


def test_an_answer_with_unknown_fields_is_read(served: Served) -> None:
    status, answer = ask(served, "GET", "/v1/version")
    assert (status, answer) == (200, {"version": "0.1.0", "api": 1})


# ---------------------------------------------------------------- streams


def test_a_client_that_goes_away_does_not_stop_a_verb(served: Served) -> None:
    served.images.gate.clear()
    (served.directory / "compose.yaml").write_text("name: shop\nservices: {web: {image: slow, command: [sleep, '9']}}")
    body = json.dumps({"directory": str(served.directory), "wait": False}).encode()
    raw = socket.socket(socket.AF_UNIX)
    raw.connect(str(served.socket))
    head = f"POST /v1/environments/production/up HTTP/1.1\r\nHost: wye\r\nContent-Length: {len(body)}\r\n"
    raw.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
    raw.recv(1)
    raw.close()
    served.images.gate.set()
    wait_until(lambda: bool(served.client.environments()) and served.client.environments()[0].awake)


def test_slow_verbs_do_not_hold_up_quick_ones(served: Served) -> None:
    served.images.gate.clear()
    errors: list[WyeError] = []

    def up(number: int) -> None:
        directory = served.directory / str(number)
        directory.mkdir()
        (directory / "compose.yaml").write_text("name: x\nservices: {web: {image: slow, command: [sleep, '9']}}")
        try:
            served.client.up(directory, name=f"e{number}", wait=False)
        except WyeError as error:
            errors.append(error)

    threads = [threading.Thread(target=up, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    for _ in range(20):
        served.client.environments()
    assert time.monotonic() - began < 5
    served.images.gate.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(served.client.environments()) == 40


def test_logs_end_and_logs_follow(shop: Served) -> None:
    wait_until(lambda: bool(list(shop.client.logs("production"))))
    line = next(iter(shop.client.logs("production", ["web"], tail=1)))
    assert (line.replica, line.stream, line.text) == ("web", "stdout", "hello from web")
    followed = shop.client.logs("production", follow=True)
    assert next(followed).text == "hello from web"
    wait_until(lambda: shop.runtime.followers == 1)
    followed.close()
    wait_until(lambda: shop.runtime.followers == 0)
    with pytest.raises(NotFound, match="no service 'db'"):
        list(shop.client.logs("production", ["db"], follow=True))


def test_events_follow_without_a_gap(shop: Served) -> None:
    news = shop.client.events(follow=True)
    past = next(news)
    assert past.environment == "production"
    shop.client.fork("production", "fix-1", asleep=True)
    for event in news:
        if (event.kind, event.environment) == ("fork", "fix-1"):
            break
    news.close()
    assert [each.kind for each in shop.client.events(since_at=time.time() + 60)] == []


def test_a_listener_that_goes_away_is_noticed_though_nothing_happens(shop: Served) -> None:
    news = shop.client.events(follow=True)
    next(news)
    listeners = shop.engine.events._listeners  # noqa: SLF001
    wait_until(lambda: len(listeners) == 1)
    news.close()
    wait_until(lambda: len(listeners) == 0)


def test_stopping_ends_those_who_follow(own_shop: Served) -> None:
    followed = own_shop.client.logs("production", follow=True)
    next(followed)
    own_shop.stop()
    assert list(followed) == []


def test_a_kept_connection_survives_the_daemons_restart_for_reading(shop: Served) -> None:
    shop.client.version()
    idle = shop.client._transport._idle  # noqa: SLF001
    assert len(idle) == 1
    idle[0].sock.shutdown(socket.SHUT_RDWR)
    assert shop.client.version().api == 1
