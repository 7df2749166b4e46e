"""Settings come from flags, environment and file in this order, and all that is wrong is told at once."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import ValidationError

from mobile_multimodal.cli.main import main
from mobile_multimodal.errors import InvalidInputError, NotFoundError
from mobile_multimodal.serving.configuration import setting_names
from mobile_multimodal.serving.configuration.settings import ServeSettings
from mobile_multimodal.serving.configuration.settings_sources import load_settings
from mobile_multimodal.serving.workers.pool_settings import PoolSettings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MOBILE_MM_SERVE_"):
            monkeypatch.delenv(name)


def write(folder: Path, text: str) -> Path:
    path = folder / "serve.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_environment_and_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path, "port = 1001\nqueue_length = 11\nmax_batch = 3\n[limits]\nknown = ['5/minute']\n")
    monkeypatch.setenv("MOBILE_MM_SERVE_PORT", "1002")
    monkeypatch.setenv("MOBILE_MM_SERVE_QUEUE_LENGTH", "12")
    monkeypatch.setenv("MOBILE_MM_SERVE_LIMITS__ANONYMOUS", "1/second, 9/hour")
    settings = load_settings({("port",): "1003"}, config)
    assert (settings.port, settings.queue_length, settings.max_batch) == (1003, 12, 3)
    assert settings.limits.known == ("5/minute",)
    assert settings.limits.anonymous == ("1/second", "9/hour")


def test_all_problems_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path, "queue_lenght = 3\nmax_batch = 4.5\ndeadline_seconds = 100\n[cache]\nmemory_bites = 1\n")
    monkeypatch.setenv("MOBILE_MM_SERVE_HOTS", "x")
    monkeypatch.setenv("MOBILE_MM_SERVE_WORKERS", "none")
    with pytest.raises(InvalidInputError) as caught:
        load_settings({("host",): "http://x", ("limits", "known"): ["often"]}, config)
    told = caught.value.message
    assert told.startswith("8 settings are wrong:\n")
    for part in (
        "unknown variable MOBILE_MM_SERVE_HOTS in the environment; did you mean 'MOBILE_MM_SERVE_HOST'?",
        "setting host is 'http://x' by --host, expected a name or an address, for example 127.0.0.1",
        f"setting max_batch is 4.5 in {str(config)!r}, expected a valid integer",
        "setting workers is 'none' in the environment, expected a valid integer",
        f"unknown setting 'queue_lenght' in {str(config)!r}; did you mean 'queue_length'?",
        f"unknown setting 'cache.memory_bites' in {str(config)!r}; did you mean 'cache.memory_bytes'?",
        "setting limits.known is ['often'] by --limits-known, expected a count and a time",
        "deadline_seconds is 100 and max_deadline_seconds 60, expected the first to be the smaller; raise the second",
    ):
        assert part in told
    assert caught.value.hint.startswith("`mobile-mm serve --help`")


def test_a_secret_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILE_MM_SERVE_CACHE__REDIS__URL", "http://:hunter2@redis")
    with pytest.raises(InvalidInputError) as caught:
        load_settings({})
    assert "hunter2" not in str(caught.value)
    assert "setting cache.redis.url is (not shown) in the environment, expected redis://" in caught.value.message


def test_a_section_that_is_half_there_names_what_is_missing() -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_settings({("authentication", "tokens", "issuer"): "https://issuer.example"})
    for name in ("key_set", "audience"):
        told = f"setting authentication.tokens.{name} is missing, expected a value; put it into the file, or into "
        assert f"{told}MOBILE_MM_SERVE_AUTHENTICATION__TOKENS__{name.upper()}" in caught.value.message


def test_what_kubernetes_sets_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILE_MM_SERVE_PORT", "tcp://10.96.0.12:8080")
    with pytest.raises(InvalidInputError, match="put enableServiceLinks: false into the pod's spec"):
        load_settings({})


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILE_MM_SERVE_PORT", "")
    assert load_settings({}).port == 8080


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [("port = ", InvalidInputError, "is no TOML"), (None, NotFoundError, "does not exist")],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, text: str | None, error: type[Exception], message: str
) -> None:
    config = tmp_path / "none.toml" if text is None else write(tmp_path, text)
    with pytest.raises(error, match=message):
        load_settings({}, config)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "myhost", "127.0.0.1.example"])
def test_others_may_come_only_with_a_key_or_when_told_so(host: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"need no key or token; name --api-keys-file .*--allow-anonymous"):
        load_settings({("host",): host})
    assert load_settings({("host",): host, ("authentication", "allow_anonymous"): True}).host == host
    keys = tmp_path / "keys"
    keys.write_text("", encoding="utf-8")
    assert load_settings({("host",): host, ("authentication", "api_keys_file"): str(keys)}).needs_access


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_no_key(host: str) -> None:
    assert load_settings({("host",): host}).is_loopback


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({("port",): 9000, ("metrics_port",): 9000}, "port and metrics_port are both 9000"),
        ({("max_buffered_bytes",): 2000}, "max_buffered_bytes is 2000 and max_body_bytes 50000000"),
        ({("hsts_seconds",): 60}, "hsts_seconds is 60 without is_behind_tls"),
    ],
)
def test_settings_that_disagree_are_told(flags: dict[tuple[str, ...], object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load_settings(flags)


def test_settings_made_in_code_do_not_look_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILE_MM_SERVE_PORT", "1002")
    assert ServeSettings().port == 8080
    with pytest.raises(ValidationError, match="deadline_seconds is 99 and max_deadline_seconds 60"):
        ServeSettings(deadline_seconds=99)
    with pytest.raises(ValidationError, match="frozen"):
        ServeSettings().port = 1  # type: ignore[misc]


def test_the_pool_gets_every_setting_of_its_own() -> None:
    assert ServeSettings().pool_settings() == PoolSettings()
    assert {field.name for field in fields(PoolSettings)} <= set(ServeSettings.model_fields)
    assert ServeSettings(workers=3, retries=0).pool_settings().workers == 3


def test_every_setting_is_explained_and_named_once() -> None:
    settings = list(setting_names.all_settings())
    assert len({setting.flag for setting in settings}) == len(settings)
    assert len({setting.variable for setting in settings}) == len(settings)
    assert [setting.name for setting in settings if not setting.path[1:] and not setting.description] == []


def test_help_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert [setting.flag for setting in setting_names.all_settings() if setting.flag not in told] == []


def test_a_wrong_flag_ends_with_code_2_and_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "70000", "--max-batch", "0"]) == 2
    told = capsys.readouterr().err
    assert "mobile-mm: 2 settings are wrong:" in told
    assert "setting port is '70000' by --port, expected less than or equal to 65535" in told


def test_the_guide_lists_every_setting_with_its_default(root: Path) -> None:
    guide = (root / "docs" / "serving.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| .* \| (\S+) \|$", guide, re.MULTILINE))
    for setting in setting_names.all_settings():
        if setting.path[1:]:
            assert f"`{'.'.join(setting.path[:-1])}`" in guide
            continue
        default = setting.field.default
        shown = listed.pop(setting.name)
        if default in (None, ()):
            assert shown == "-"
        elif isinstance(default, bool):
            assert shown == ("on" if default else "off")
        elif isinstance(default, (int, float)):
            assert float(shown.replace(",", "")) == default
        else:
            assert shown == f"`{default}`"
    assert not listed
