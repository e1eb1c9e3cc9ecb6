import subprocess
import sys
from typing import Any

import pytest

from farthing.app_stores import check_redis
from farthing.errors import SettingsError
from farthing.redis.questions import open_questions
from farthing.settings import Settings, effective, load_text

_WITHOUT_THE_PACKAGE = """
import sys
sys.modules["redis"] = None
from farthing.app_stores import check_redis
from farthing.errors import SettingsError
from farthing.settings import load_text
check_redis(load_text(None, {}))
try:
    check_redis(load_text(None, {}, {"redis.url": "redis://localhost"}))
except SettingsError as error:
    print(error.message)
"""


def loaded(**redis: Any) -> Settings:
    return load_text(None, {}, {f"redis.{name}": value for name, value in redis.items()})


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379",
        "redis://localhost:6379/",
        "redis://localhost:6379/0",
        "rediss://user:p%40ss@clustercfg.name.abc123.use1.cache.amazonaws.com:6379?ssl_ca_certs=/etc/ssl/ca.pem",
        "rediss://:secret@10.0.0.1:6380/0?ssl_certfile=/a.pem&ssl_keyfile=/b.pem&db=0",
        "redis://[::1]:6379",
        "unix:///run/valkey.sock",
        "unix://:secret@/run/valkey.sock?db=0",
    ],
)
def test_a_url_is_taken(url: str) -> None:
    settings = loaded(url=url)
    assert settings.redis.url is not None
    assert settings.redis.url.get_secret_value() == url
    check_redis(settings)
    open_questions(settings.redis, dimensions=384)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:6379", "must be a rediss://"),
        ("http://localhost", "must be a rediss://"),
        ("redis://", "must be a rediss://"),
        ("redis://localhost/1", "database 0"),
        ("redis://localhost?db=1", "database 0"),
        ("redis://localhost:port", "port"),
        ("redis://localhost:70000", "port"),
        ("redis://local host", "must be a rediss://"),
        ("redis://localhost#x", "must be a rediss://"),
        ("redis://localhost?decode_responses=true", "decode_responses"),
        ("rediss://localhost?ssl_cert_reqs=none", "ssl_cert_reqs"),
        ("redis://localhost?socket_timeout=9999", "socket_timeout"),
        ("unix://", "must be a rediss://"),
        ("", "must be a rediss://"),
    ],
)
def test_what_is_no_url_or_undoes_a_time_out_or_the_check_of_certificates_is_an_error(url: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(url=url)
    assert caught.value.message.startswith("redis.url: ")
    assert said in caught.value.message


@pytest.mark.parametrize("prefix", ["", "a b", "a:b", "{x}", "a*", "\u00e9", "x" * 65])
def test_a_prefix_that_would_be_read_as_something_else_is_an_error(prefix: str) -> None:
    with pytest.raises(SettingsError, match=r"redis\.prefix"):
        loaded(prefix=prefix)


def test_the_url_is_a_secret() -> None:
    shown = effective(loaded(url="redis://:hunter2@localhost"))
    assert "hunter2" not in shown
    assert "redis:" in shown


def test_without_a_url_there_is_nothing_to_open() -> None:
    check_redis(loaded())
    with pytest.raises(SettingsError, match=r"redis\.url"):
        open_questions(loaded().redis, dimensions=384)


def test_a_url_without_the_package_is_an_error_that_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT_THE_PACKAGE], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "redis.url: needs the redis package: pip install 'farthing[redis]'\n"
