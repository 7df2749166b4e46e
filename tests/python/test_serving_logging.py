"""Logs say what happened to which request, one line each, and never hold a secret or a picture."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("structlog", reason="needs the extra serve")

import structlog
from joserfc import jwt
from joserfc.jwk import ECKey
from pydantic import ValidationError

from mobile_multimodal.serving.access.api_keys import make_api_key
from mobile_multimodal.serving.telemetry.logging import LoggingSettings, bound_to_request, configure_logging
from mobile_multimodal.serving.telemetry.redaction import MAX_TEXT, without_secrets

API_KEY = make_api_key("ada")[0]
TOKEN = jwt.encode({"alg": "ES256"}, {"sub": "ada", "exp": 9_999_999_999}, ECKey.generate_key("P-256", private=True))
PASSWORD = "correct-horse"
PICTURE = base64.b64encode(os.urandom(3000)).decode()
COOKIE = "3f2b8c1d9e"
SIGNATURE = "a5d1f0e2b7"


@pytest.fixture(autouse=True)
def plain_logging_afterwards() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.getLogger("uvicorn.access").disabled = False


@pytest.fixture
def lines() -> Callable[[], list[dict[str, Any]]]:
    stream = io.StringIO()
    configure_logging(LoggingSettings(level="debug", format="json"), stream)

    def read() -> list[dict[str, Any]]:
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return [json.loads(line) for line in text.splitlines()]

    return read


# --- secrets ----------------------------------------------------------------------------------------------------------

TEXTS = [
    f"Authorization: Bearer {API_KEY}",
    f"authorization=Bearer {TOKEN}",
    f"AUTHORIZATION : Basic {base64.b64encode(f'ada:{PASSWORD}'.encode()).decode()}",
    f"X-API-Key: {PASSWORD}",
    f"x-api-key={PASSWORD}\nnext line",
    f"Cookie: a=1; session={COOKIE}; b=2",
    f"Set-Cookie: session={COOKIE}; HttpOnly",
    f"got {API_KEY} from a client",
    f"token {TOKEN} was refused",
    f"token {TOKEN[:60]} was cut",
    f"redis://:{PASSWORD}@127.0.0.1:6379/0 is down",
    f"rediss://user:{PASSWORD}@redis.example/0",
    f"https://ada:{PASSWORD}@example.com/a.jpg?x=1",
    f"GET /a.jpg?width=3&access_token={PASSWORD}&height=4",
    f"GET https://host/a.jpg?X-Amz-Signature={SIGNATURE}&X-Amz-Date=1",
    f"GET /?api_key={PASSWORD}",
    f"GET /?apikey%3D{PASSWORD}",
    f"GET /?sig={SIGNATURE}",
    f"GET /?client_secret={PASSWORD}#x",
    f"{{'authorization': 'Bearer {API_KEY}', 'x': 1}}",
    f'{{"x-api-key": "{PASSWORD}"}}',
    f"[(b'host', b'x'), (b'x-api-key', b'{PASSWORD}'), (b'cookie', b'session={COOKIE}')]",
    f'{{"image": "data:image/png;base64,{PICTURE}"}}',
    f"image={PICTURE}",
    f"src=data:image/jpeg;charset=x;base64,{PICTURE[:40]}",
    f"{'x' * (MAX_TEXT - 30)} {TOKEN}",
    f"{'x' * (MAX_TEXT - 50)} Bearer {API_KEY}",
]
SECRETS = [API_KEY, API_KEY[3:], TOKEN, *TOKEN.split("."), PASSWORD, PICTURE, PICTURE[:40], COOKIE, SIGNATURE]
SECRETS.append(base64.b64encode(f"ada:{PASSWORD}".encode()).decode())


@pytest.mark.parametrize("text", TEXTS)
def test_no_secret_survives_in_a_text(text: str) -> None:
    assert any(secret in text for secret in SECRETS) or TOKEN[:40] in text or len(text) > MAX_TEXT
    for value in (text, {"event": text}, [text], ("a", [{"b": text}]), ValueError(text), {text: 1}):
        shown = json.dumps(without_secrets(value))
        assert not any(secret in shown for secret in SECRETS), shown
        assert TOKEN[:40] not in shown


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Authorization",
        "X-API-Key",
        "api_key",
        "apikey",
        "cookie",
        "Set-Cookie",
        "password",
        "redis_password",
        "client_secret",
        "access_token",
        "jwt",
        "private_key",
        "X-Amz-Signature",
        "credentials",
    ],
)
def test_no_secret_survives_under_a_telling_name(name: str) -> None:
    for value in (PASSWORD, PASSWORD.encode(), [PASSWORD], {"a": PASSWORD}):
        for place in ({name: value}, {"headers": {name: value}}, [(name, value)], [(name.encode(), value)]):
            assert PASSWORD not in json.dumps(without_secrets(place))


def test_what_is_no_secret_stays_as_it_is() -> None:
    event = {
        "event": "request",
        "route": "/v1/caption",
        "text": "A bearer of bad news, with a basic tokenizer and 42 cookies.",
        "first_token": 12.5,
        "tokens_per_second": 80,
        "request_id": "0123456789abcdef0123456789abcdef",
        "model_version": "a" * 64,
        "path": "/a/b/c/d-e_f.jpg?width=300&page=2",
        "url": "https://example.com:443/a/b?x=1",
        "list": [1, 2.5, None, True, "text"],
        "email": "redis@example.com",
    }
    assert without_secrets(event) == event


def test_bytes_long_texts_and_deep_values_are_shortened() -> None:
    assert without_secrets({"body": b"\xff\xd8" * 500}) == {"body": "<1000 bytes>"}
    long = without_secrets("word " * 10_000)
    assert len(long) < MAX_TEXT + 100
    assert "characters more" in long
    deep: Any = "x"
    for _ in range(50):
        deep = [deep]
    assert len(json.dumps(without_secrets(deep))) < 100
    assert len(without_secrets(list(range(10_000)))) == 100


@pytest.mark.parametrize(
    "hostile",
    [
        part * 100_000
        for part in ("eyJ", "?", "?token", "a://", "data:", "cookie", "'cookie':'", "Bearer ", "-", "data:;a=;", "mm_")
    ],
)
def test_hostile_texts_end_and_stay_short(hostile: str) -> None:
    """With rules that go back and forth the longest of these would take minutes; the test has no clock of its own."""
    assert len(without_secrets(hostile)) < 6 * MAX_TEXT


# --- lines ------------------------------------------------------------------------------------------------------------


def test_both_ways_to_log_give_json_lines_without_secrets(lines: Callable[[], list[dict[str, Any]]]) -> None:
    structlog.get_logger("ours").info("hello", authorization=f"Bearer {API_KEY}", count=3)
    logging.getLogger("theirs").warning("refused %s", API_KEY)
    ours, theirs = lines()
    assert (ours["event"], ours["level"], ours["logger"], ours["count"]) == ("hello", "info", "ours", 3)
    assert ours["authorization"] == "[removed]"
    assert ours["timestamp"].endswith("Z")
    assert (theirs["event"], theirs["level"]) == ("refused [removed]", "warning")


def test_an_exception_is_one_line_without_the_secret_it_quotes(lines: Callable[[], list[dict[str, Any]]]) -> None:
    try:
        raise ConnectionError(f"redis://:{PASSWORD}@127.0.0.1 refused {TOKEN}")
    except ConnectionError:
        structlog.get_logger().exception("failed")
        logging.getLogger("theirs").exception("failed, too")
    for line in lines():
        assert "ConnectionError" in line["exception"]
        assert "Traceback" in line["exception"]
        assert PASSWORD not in json.dumps(line)
        assert TOKEN not in json.dumps(line)


def test_what_clients_write_cannot_forge_a_line_or_steer_a_terminal() -> None:
    forged = 'a\n{"event":"forged"}\r\x1b[31mred\x9b2J\u2028b'
    for form in ("json", "text"):
        stream = io.StringIO()
        configure_logging(LoggingSettings(format=form), stream)
        structlog.get_logger().info("got", value=forged)
        logging.getLogger("theirs").info(forged)
        text = stream.getvalue()
        assert len(text.splitlines()) == 2
        assert not any(character in text for character in "\r\x1b\x9b\u2028")
        assert "forged" in text


def test_text_is_for_terminals_and_json_for_everything_else() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, is_json in ((io.StringIO(), True), (Terminal(), False)):
        configure_logging(LoggingSettings(), stream)
        structlog.get_logger().info("hello")
        assert stream.getvalue().startswith("{") is is_json
        assert "hello" in stream.getvalue()


def test_levels_hold_for_both_ways_to_log() -> None:
    stream = io.StringIO()
    configure_logging(LoggingSettings(level="warning", format="json"), stream)
    for logger in (structlog.get_logger("a"), logging.getLogger("b")):
        logger.info("quiet")
        logger.warning("loud")
    assert "quiet" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 2


def test_a_process_writes_its_log_to_standard_error_alone(tmp_path: Path) -> None:
    program = (
        "import logging, structlog\n"
        "from mobile_multimodal.serving.telemetry.logging import LoggingSettings, configure_logging\n"
        "for _ in range(2): configure_logging(LoggingSettings())\n"
        "structlog.get_logger('x').info('one', cookie='session')\n"
        "logging.getLogger('uvicorn.access').info('127.0.0.1 GET /?token=x')\n"
        "logging.getLogger('uvicorn.error').info('two', extra={'color_message': '\\x1b[36mtwo'})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    written = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in written] == ["one", "two"]
    assert written[0]["cookie"] == "[removed]"
    assert "color_message" not in written[1]


# --- requests ---------------------------------------------------------------------------------------------------------


def test_every_line_of_a_request_has_its_id_and_no_other_line_has(lines: Callable[[], list[dict[str, Any]]]) -> None:
    async def handle(request_id: str, wait: asyncio.Event) -> None:
        with bound_to_request(request_id):
            structlog.get_logger().info("started", mine=request_id)
            await wait.wait()
            await asyncio.create_task(work(request_id))

    async def work(request_id: str) -> None:
        logging.getLogger("inside").info("working", extra={"mine": request_id})

    async def scenario() -> None:
        waits = [asyncio.Event() for _ in range(3)]
        tasks = [asyncio.create_task(handle(f"request-{number}", wait)) for number, wait in enumerate(waits)]
        await asyncio.sleep(0)
        logging.getLogger("outside").info("between")
        for wait in reversed(waits):
            wait.set()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    asyncio.run(scenario())
    written = lines()
    assert len(written) == 7
    for line in written:
        assert line.get("request_id") == line.get("mine")
    assert sum("request_id" in line for line in written) == 6


def test_extra_fields_of_the_standard_library_are_fields_without_secrets(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    extra = {"endpoint": "/v1/caption", "status": 200, "caller": "ada", "authorization": f"Bearer {API_KEY}"}
    logging.getLogger("access").info("request", extra=extra)
    (line,) = lines()
    assert (line["event"], line["endpoint"], line["status"], line["caller"]) == ("request", "/v1/caption", 200, "ada")
    assert line["authorization"] == "[removed]"
    assert API_KEY not in json.dumps(line)


def test_all_problems_of_the_settings_are_listed_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        LoggingSettings.model_validate({"level": "loud", "format": "xml", "file": "x"})
    assert {error["loc"][0] for error in caught.value.errors()} == {"level", "format", "file"}
