from __future__ import annotations

from pathlib import Path

import pytest

from wye.daemon.config import Config, load, parse_size, pool_bytes
from wye.errors import BadRequest

NOWHERE = {"WYE_CONFIG": "/dev/null"}


def test_defaults_then_the_file_then_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "wye.toml"
    file.write_text('root = "/srv/wye"\nport_first = 21000\npool_bytes = "2GiB"\n')
    config = load({"WYE_CONFIG": str(file), "WYE_PORT_FIRST": "22000", "WYE_SOCKET": "/x", "WYE_TOKEN": "y"})
    assert (config.root, config.port_first, config.pool_bytes) == (Path("/srv/wye"), 22000, 2 << 30)
    assert (config.run, config.database) == (Path("/run/wye"), Path("/srv/wye/wye.db"))
    assert load(NOWHERE) == Config()


@pytest.mark.parametrize("text", ["wye", "a", "wyeacc", "w12345"])
def test_an_instance(text: str) -> None:
    assert load({**NOWHERE, "WYE_INSTANCE": text}).instance == text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("instance", "wyelong"), ("instance", ""), ("instance", "1wye"), ("instance", "Wye"), ("instance", "wy-e"),
        ("instance", "wyé"), ("port_first", "x"), ("port_first", "30000"), ("port_first", "0"),
        ("port_last", "70000"), ("pool_bytes", "much"), ("uid_base", "0"), ("uid_base", "4294967295"),
        ("subnet", "10.89.0.1/16"), ("subnet", "net"), ("log_level", "loud"), ("collect_interval_s", "0"),
        ("warm_networks", "-1"), ("listen", "127.0.0.1:7777"),
        ("subnet", "10.89.0.0/30"), ("subnet", "10.0.0.0/7"), ("subnet", "8.8.0.0/16"), ("uplinks", "net"),
        ("uplinks", "100.80.0.0/31"), ("uplinks", "10.89.128.0/17"), ("root", "var"), ("run", "./run"),
        ("log", "log"), ("pool", "pool"), ("token_file", "token"), ("pool_bytes", "0"), ("fork_disk_bytes", "0"),
        ("fork_disk_bytes", "-1"),
    ],
)  # fmt: skip
def test_what_cannot_be(variable: str, value: str) -> None:
    with pytest.raises(BadRequest) as caught:
        load({**NOWHERE, f"WYE_{variable.upper()}": value})
    assert variable.partition("_")[0] in caught.value.message or value in caught.value.message


def test_an_unknown_option_and_a_broken_file(tmp_path: Path) -> None:
    file = tmp_path / "wye.toml"
    file.write_text("roots = 1")
    with pytest.raises(BadRequest, match="roots") as caught:
        load({}, file)
    assert "port_first" in (caught.value.hint or "")
    file.write_text("root = ")
    with pytest.raises(BadRequest, match=str(file)):
        load({}, file)
    with pytest.raises(BadRequest, match="there is no config file"):
        load({}, tmp_path / "none.toml")
    with pytest.raises(BadRequest, match="there is no config file"):
        load({"WYE_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1000", 1000), ("1k", 1024), ("1.5K", 1536), ("20GiB", 20 << 30), ("2 MB", 2 << 20), ("1t", 1 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1x", "nan", "inf", "1e999G", "0x10"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_size(text)


def test_the_size_of_a_new_pool(tmp_path: Path) -> None:
    assert pool_bytes(Config(pool_bytes=123)) == 123
    assert (1 << 30) <= pool_bytes(Config(root=tmp_path / "not" / "yet")) <= 64 << 30


def test_listening_needs_a_token_and_a_port() -> None:
    complete = {**NOWHERE, "WYE_LISTEN": "[::1]:7777", "WYE_TOKEN_FILE": "/etc/wye/token"}
    assert load(complete).listen == "[::1]:7777"
    for wrong in ("localhost", "localhost:0", "localhost:70000", ":7777", "::1:7777", "a b:1"):
        with pytest.raises(BadRequest, match="listen"):
            load({**complete, "WYE_LISTEN": wrong})
