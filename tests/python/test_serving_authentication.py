"""API keys and signed tokens let in whom they should, and nobody else, and say nothing about why."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("joserfc", reason="needs the extra serve")

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from pydantic import ValidationError

from mobile_multimodal.errors import InvalidInputError, PermissionDeniedError, UnauthenticatedError, UnavailableError
from mobile_multimodal.serving.access.api_keys import main as print_api_key
from mobile_multimodal.serving.access.api_keys import make_api_key, read_api_keys
from mobile_multimodal.serving.access.authentication import (
    ALGORITHMS,
    AuthenticationSettings,
    Authenticator,
    Caller,
    TokenSettings,
)
from mobile_multimodal.serving.access.token_keys import TokenKeys, parse_key_set

ISSUER, AUDIENCE = "https://issuer.example", "mobile-mm"
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"}, private=True)
EC = ECKey.generate_key("P-256", {"kid": "ec", "use": "sig"}, private=True)
ED = OKPKey.generate_key("Ed25519", {"kid": "ed", "use": "sig"}, private=True)
STRANGER = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"}, private=True)


def key_set(*keys: Key) -> bytes:
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": now, "nbf": now, "exp": now + 300, **changes}
    return {name: value for name, value in made.items() if value is not None}


def token(key: Key = RSA, algorithm: str = "RS256", header: dict[str, Any] | None = None, **changes: Any) -> str:
    fields = {"alg": algorithm, "kid": key.kid, **(header or {})}
    return jwt.encode(
        {name: value for name, value in fields.items() if value is not None},
        claims(**changes),
        key,
        algorithms=[algorithm],
    )


def segments(header: Any, payload: Any, sign: Callable[[bytes], bytes] = lambda text: b"") -> str:
    """A token made by hand, as no library would make it."""

    def encoded(part: bytes) -> bytes:
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    def text(part: Any) -> bytes:
        return part if isinstance(part, bytes) else json.dumps(part).encode()

    signed = encoded(text(header)) + b"." + encoded(text(payload))
    return (signed + b"." + encoded(sign(signed))).decode()


def bearer(credential: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + credential.encode("latin-1"))]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


@pytest.fixture
def keys_file(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str, name: str = "keys") -> Path:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o640)
        return path

    return write


@pytest.fixture
def token_settings(tmp_path: Path) -> Callable[..., TokenSettings]:
    def make(*keys: Key, **changes: Any) -> TokenSettings:
        path = tmp_path / "keys.json"
        path.write_bytes(key_set(*(keys or (RSA, EC, ED))))
        return TokenSettings(**{"key_set": str(path), "issuer": ISSUER, "audience": AUDIENCE, **changes})

    return make


# --- API keys ---------------------------------------------------------------------------------------------------------


def test_a_key_is_known_again_by_its_hash_alone(keys_file: Callable[..., Path]) -> None:
    key, entry = make_api_key("camera-team", ["reader", "admin"])
    path = keys_file("# whose keys", "", str(entry))
    assert key not in path.read_text()
    assert entry.digest == hashlib.sha256(key.encode()).hexdigest()
    authenticator = Authenticator(AuthenticationSettings(api_keys_file=path))
    expected = Caller(name="camera-team", kind="api_key", roles=("reader", "admin"))
    for headers in (bearer(key), [(b"authorization", f"bearer  {key} ".encode())], [(b"X-API-Key", key.encode())]):
        assert run(authenticator.authenticate(headers, "192.0.2.7")) == expected


def test_two_keys_are_never_alike() -> None:
    assert len({make_api_key("a")[0] for _ in range(100)}) == 100
    assert len(make_api_key("a")[0]) == len("mm_") + 43  # 32 bytes in base64url


def test_the_command_prints_a_line_and_shows_the_key_apart(keys_file: Callable[..., Path]) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "mobile_multimodal.serving.access.api_keys", "ada", "admin"],
        capture_output=True,
        text=True,
    )
    key = made.stderr.split()[-1]
    assert made.returncode == 0
    assert key not in made.stdout
    authenticator = Authenticator(AuthenticationSettings(api_keys_file=keys_file(made.stdout)))
    caller = run(authenticator.authenticate(bearer(key), None))
    assert (caller.name, caller.roles) == ("ada", ("admin",))


@pytest.mark.parametrize("arguments", [[], ["--help"], ["a", "b", "c"], ["no spaces"], ["a", "ro:le"], [""]])
def test_the_command_refuses_what_it_does_not_know(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert print_api_key(arguments) == 2
    assert not capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["", "x", "mm_", "é", "\udcff", "a" * 513, "a" * 100_000, "a.b.c", "camera-team"])
def test_a_wrong_key_is_refused(keys_file: Callable[..., Path], wrong: str) -> None:
    key, entry = make_api_key("camera-team")
    authenticator = Authenticator(AuthenticationSettings(api_keys_file=keys_file(str(entry))))
    for credential in (wrong, entry.digest, key[:-1], key + "x", key.upper(), str(entry)):
        headers = [(b"authorization", b"Bearer " + credential.encode("utf-8", errors="surrogatepass"))]
        with pytest.raises(UnauthenticatedError) as caught:
            run(authenticator.authenticate(headers, "192.0.2.7"))
        assert caught.value.message in ("the API key or token is not valid", "no API key or token")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Basic dXNlcjpwYXNz")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"")],
        [],
        [(b"x-api-key", b"")],
        [(b"cookie", b"key=KEY")],
        [(b"authorization", b"Bearer KEY"), (b"authorization", b"Bearer KEY")],
        [(b"authorization", b"Bearer KEY"), (b"x-api-key", b"KEY")],
        [(b"authorization", b"Bearer KEY,KEY")],
        [(b"authorization", b"Bearer KEY KEY")],
    ],
)
def test_a_key_counts_only_once_and_only_in_its_place(
    keys_file: Callable[..., Path], headers: list[tuple[bytes, bytes]]
) -> None:
    key, entry = make_api_key("ada")
    authenticator = Authenticator(AuthenticationSettings(api_keys_file=keys_file(str(entry))))
    filled = [(name, value.replace(b"KEY", key.encode())) for name, value in headers]
    with pytest.raises(UnauthenticatedError):
        run(authenticator.authenticate(filled, "192.0.2.7"))


def test_a_proxys_own_authorization_does_not_hide_a_key(keys_file: Callable[..., Path]) -> None:
    key, entry = make_api_key("ada")
    authenticator = Authenticator(AuthenticationSettings(api_keys_file=keys_file(str(entry))))
    headers = [(b"authorization", b"Basic dXNlcjpwYXNz"), (b"x-api-key", key.encode())]
    assert run(authenticator.authenticate(headers, "192.0.2.7")).name == "ada"


def test_every_wrong_line_is_named_by_number_and_none_is_shown(keys_file: Callable[..., Path]) -> None:
    key, entry = make_api_key("ada")
    lines = [str(entry), f"ada:{key}", "no digest", f"bob:{'A' * 64}", f":{'a' * 64}", f"eve:{'b' * 64}:", str(entry)]
    path = keys_file(*lines)
    path.chmod(0o666)
    with pytest.raises(InvalidInputError) as caught:
        read_api_keys(path)
    for expected in ("anybody on this machine", "line 2 ", "line 3 ", "line 4 ", "line 5 ", "line 6 ", "line 7 has"):
        assert expected in caught.value.message
    assert "line 1 " not in caught.value.message
    assert key not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_api_keys(path)
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidInputError, match="API keys"):
        read_api_keys(path)


def test_a_changed_file_counts_and_a_spoiled_one_does_not(
    keys_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mobile_multimodal.serving.access.authentication._KEYS_CHECK_SECONDS", 0.0)
    (old, old_entry), (new, new_entry) = make_api_key("ada"), make_api_key("ada")
    authenticator = Authenticator(AuthenticationSettings(api_keys_file=keys_file(str(old_entry))))
    keys_file(str(old_entry), str(new_entry))
    assert run(authenticator.authenticate(bearer(new), None)).name == "ada"
    keys_file(str(new_entry))
    with pytest.raises(UnauthenticatedError):
        run(authenticator.authenticate(bearer(old), None))
    for spoiled in ("", f"ada:{new}", "garbage"):
        keys_file(spoiled)
        assert run(authenticator.authenticate(bearer(new), None)).name == "ada"
    keys_file("x").unlink()
    assert run(authenticator.authenticate(bearer(new), None)).name == "ada"
    assert "the API keys stay as they were" in caplog.text
    assert new not in caplog.text


# --- signed tokens ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "Ed25519")])
def test_a_token_names_its_subject_and_roles(
    token_settings: Callable[..., TokenSettings], key: Key, algorithm: str
) -> None:
    authenticator = Authenticator(AuthenticationSettings(tokens=token_settings()))
    for roles in (["reader", "admin", 5], "reader admin"):
        text = token(key, algorithm, roles=roles, aud=["another", AUDIENCE])
        expected = Caller(name="ada", kind="token", roles=("reader", "admin"))
        assert run(authenticator.authenticate(bearer(text), "192.0.2.7")) == expected
    assert run(authenticator.authenticate(bearer(token(key, algorithm)), None)).roles == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1_000_000_000},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": [9999999999]},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": 10**400},
        {"nbf": float("nan")},
        {"nbf": 9_999_999_999},
        {"iat": 9_999_999_999},
        {"iss": "https://issuer.example/"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"aud": "another"},
        {"aud": None},
        {"aud": []},
        {"aud": [AUDIENCE + "x"]},
        {"aud": {AUDIENCE: 1}},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": "x" * 257},
        {"sub": "a\nb"},
        {"sub": "\x1b[31m"},
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(
    token_settings: Callable[..., TokenSettings], changes: dict[str, Any]
) -> None:
    authenticator = Authenticator(AuthenticationSettings(tokens=token_settings()))
    with pytest.raises(UnauthenticatedError) as caught:
        run(authenticator.authenticate(bearer(token(**changes)), "192.0.2.7"))
    assert caught.value.message == "the API key or token is not valid"


def test_the_leeway_is_what_was_chosen(token_settings: Callable[..., TokenSettings]) -> None:
    now = int(time.time())
    strict = Authenticator(AuthenticationSettings(tokens=token_settings(leeway_seconds=0)))
    lenient = Authenticator(AuthenticationSettings(tokens=token_settings(leeway_seconds=300)))
    for changes in ({"exp": now - 60}, {"nbf": now + 200}):
        assert run(lenient.authenticate(bearer(token(**changes)), None)).name == "ada"
        with pytest.raises(UnauthenticatedError):
            run(strict.authenticate(bearer(token(**changes)), None))


def _public_pem(key: RSAKey) -> bytes:
    return key.as_pem(private=False)


def _hs256(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda text: hmac.new(secret, text, "sha256").digest()


FORGED = {
    "none": segments({"alg": "none", "kid": "rsa"}, claims()),
    "None": segments({"alg": "None", "kid": "rsa"}, claims()),
    "no algorithm": segments({"kid": "rsa"}, claims()),
    "a list of algorithms": segments({"alg": ["RS256"], "kid": "rsa"}, claims()),
    "an empty signature": segments({"alg": "RS256", "kid": "rsa"}, claims()),
    "HS256 with the public key": segments({"alg": "HS256", "kid": "rsa"}, claims(), _hs256(_public_pem(RSA))),
    "HS256 with the public key's JSON": segments(
        {"alg": "HS256", "kid": "rsa"}, claims(), _hs256(json.dumps(RSA.as_dict(private=False)).encode())
    ),
    "an HS256 signature called RS256": segments({"alg": "RS256", "kid": "rsa"}, claims(), _hs256(_public_pem(RSA))),
    "a stranger's key with our key id": token(STRANGER),
    "a stranger's key in the header": token(STRANGER, header={"jwk": STRANGER.as_dict(private=False)}),
    "a stranger's URL in the header": token(STRANGER, header={"jku": "https://stranger.example/keys"}),
    "an unknown key id": token(STRANGER, header={"kid": "another"}),
    "a key id that is a path": token(STRANGER, header={"kid": "../../dev/null"}),
    "another key's algorithm": segments({"alg": "ES256", "kid": "rsa"}, claims(), lambda text: b"x" * 64),
    "a zero signature for ECDSA": segments({"alg": "ES256", "kid": "ec"}, claims(), lambda text: bytes(64)),
    "an unknown critical field": segments({"alg": "RS256", "kid": "rsa", "crit": ["x"], "x": 1}, claims()),
    "no JSON": segments(b"{", b"}"),
    "a number for a header": segments(5, claims()),
    "a list for a payload": segments({"alg": "RS256", "kid": "rsa"}, []),
    "deep nesting in the header": segments(b"[" * 5000, claims()),
    "deep nesting in an object": segments(b'{"alg":' * 700, claims()),
    "empty parts": "..",
    "no base64": "$$.$$.$$",
    "too long": "a" * 8193 + ".b.c",
    "not ASCII": "é.é.é",
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_a_forged_token_is_refused(token_settings: Callable[..., TokenSettings], forged: str) -> None:
    settings = AuthenticationSettings(tokens=token_settings(algorithms=ALGORITHMS, min_refresh_seconds=3600))
    with pytest.raises(UnauthenticatedError) as caught:
        run(Authenticator(settings).authenticate(bearer(forged), "192.0.2.7"))
    assert caught.value.message == "the API key or token is not valid"


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_changed_token_is_refused(token_settings: Callable[..., TokenSettings], part: int) -> None:
    authenticator = Authenticator(AuthenticationSettings(tokens=token_settings()))
    parts = token().split(".")
    middle = len(parts[part]) // 2
    parts[part] = parts[part][:middle] + ("A" if parts[part][middle] != "A" else "B") + parts[part][middle + 1 :]
    with pytest.raises(UnauthenticatedError):
        run(authenticator.authenticate(bearer(".".join(parts)), None))


def test_an_algorithm_that_is_not_allowed_is_refused_even_if_signed(
    token_settings: Callable[..., TokenSettings],
) -> None:
    only_ec = Authenticator(AuthenticationSettings(tokens=token_settings(algorithms=("ES256",))))
    assert run(only_ec.authenticate(bearer(token(EC, "ES256")), None)).name == "ada"
    with pytest.raises(UnauthenticatedError):
        run(only_ec.authenticate(bearer(token(RSA, "RS256")), None))


def test_a_symmetric_key_in_the_set_is_never_used() -> None:
    secret = OctKey.generate_key(256, {"kid": "oct"})
    short = {"kty": "RSA", "kid": "short", "e": "AQAB", "n": "w" * 171}  # 1024 bits
    encrypting = {**EC.as_dict(private=False), "kid": "enc", "use": "enc"}
    entries = [secret.as_dict(), short, encrypting, {"kty": "EC"}, 5, None, EC.as_dict(private=True)]
    keys = parse_key_set(json.dumps({"keys": entries}).encode())
    assert list(keys) == ["ec"]
    assert not keys["ec"][0].is_private
    with pytest.raises(InvalidInputError, match="no public key"):
        parse_key_set(json.dumps({"keys": [secret.as_dict()]}).encode())


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"keys": 5}', b"[" * 100_000, b"\xff", b'{"keys": []}'])
def test_a_damaged_key_set_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInputError, match="token keys"):
        parse_key_set(text)


def test_a_token_without_a_key_id_needs_a_set_of_one_key(token_settings: Callable[..., TokenSettings]) -> None:
    text = jwt.encode({"alg": "RS256"}, claims(), RSAKey.import_key(RSA.as_pem(private=True)))
    alone = Authenticator(AuthenticationSettings(tokens=token_settings(RSA)))
    assert run(alone.authenticate(bearer(text), None)).name == "ada"
    several = Authenticator(AuthenticationSettings(tokens=token_settings(RSA, EC, min_refresh_seconds=3600)))
    with pytest.raises(UnauthenticatedError):
        run(several.authenticate(bearer(text), None))


# --- the issuer's URL -------------------------------------------------------------------------------------------------


class Issuer:
    """A real HTTP server on this machine that hands out a key set, and counts how often."""

    def __init__(self) -> None:
        self.keys: tuple[Key, ...] = (RSA,)
        self.answer: Callable[[], web.StreamResponse] | None = None
        self.delay_until: asyncio.Event | None = None
        self.requests = 0
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Issuer:
        app = web.Application()
        app.router.add_get("/keys", self._respond)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/keys"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _respond(self, _: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.delay_until is not None:
            await self.delay_until.wait()
        if self.answer is not None:
            return self.answer()
        return web.Response(body=key_set(*self.keys), content_type="application/json")


def test_keys_are_fetched_once_and_a_new_key_when_a_token_names_it() -> None:
    async def scenario() -> None:
        async with Issuer() as issuer:
            keys = TokenKeys(issuer.url, min_refresh_seconds=1e-9, refresh_seconds=3600)
            assert issuer.requests == 0
            for _ in range(5):
                assert await keys.find("rsa") is not None
            assert issuer.requests == 1
            issuer.keys = (RSA, EC)
            found = await asyncio.gather(*(keys.find("ec") for _ in range(20)))
            assert all(key is not None for key in found)
            assert issuer.requests == 2
            await keys.close()

    run(scenario())


def test_made_up_key_ids_do_not_reach_the_issuer_each_time() -> None:
    async def scenario() -> None:
        async with Issuer() as issuer:
            keys = TokenKeys(issuer.url, min_refresh_seconds=3600)
            for number in range(50):
                assert await keys.find(f"made-up-{number}") is None
            assert issuer.requests == 1
            assert await keys.find("rsa") is not None

    run(scenario())


def test_known_keys_are_given_while_a_fetch_hangs() -> None:
    async def scenario() -> None:
        async with Issuer() as issuer:
            keys = TokenKeys(issuer.url, min_refresh_seconds=1e-9, timeout_seconds=30)
            assert await keys.find("rsa") is not None
            issuer.delay_until = asyncio.Event()
            waiting = asyncio.create_task(keys.find("unknown"))
            while issuer.requests < 2:
                await asyncio.sleep(0.001)
            assert await keys.find("rsa") is not None
            assert not waiting.done()
            issuer.delay_until.set()
            assert await waiting is None
            await keys.close()

    run(scenario())


def test_keys_grow_old_in_the_background_and_stay_while_the_issuer_fails() -> None:
    async def scenario() -> None:
        async with Issuer() as issuer:
            keys = TokenKeys(issuer.url, refresh_seconds=1e-9, min_refresh_seconds=1e-9)
            assert await keys.find("rsa") is not None
            issuer.answer = lambda: web.Response(status=500)
            while issuer.requests < 3:
                assert await keys.find("rsa") is not None
                await asyncio.sleep(0.001)
            await keys.close()

    run(scenario())


def test_keys_that_are_too_old_count_no_more() -> None:
    async def scenario() -> None:
        async with Issuer() as issuer:
            seconds = 1000.0
            keys = TokenKeys(issuer.url, max_age_seconds=7200, clock=lambda: seconds)
            assert await keys.find("rsa") is not None
            issuer.answer = lambda: web.Response(status=500)
            seconds += 7201
            with pytest.raises(UnavailableError):
                await keys.find("rsa")
            issuer.answer = None
            seconds += 31
            assert await keys.find("rsa") is not None

    run(scenario())


UNUSABLE: dict[str, Callable[[], web.StreamResponse]] = {
    "an error": lambda: web.Response(status=503),
    "a redirect": lambda: web.Response(status=302, headers={"Location": "/keys"}),
    "no keys": lambda: web.json_response({"keys": []}),
    "no JSON": lambda: web.Response(text="<html>"),
    "too much": lambda: web.Response(body=b" " * 300_000 + key_set(RSA)),
}


@pytest.mark.parametrize("answer", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_without_any_keys_the_answer_is_to_come_back(answer: Callable[[], web.StreamResponse]) -> None:
    async def scenario() -> None:
        async with Issuer() as issuer:
            issuer.answer = answer
            settings = TokenSettings(key_set=issuer.url, issuer=ISSUER, audience=AUDIENCE)
            authenticator = Authenticator(AuthenticationSettings(tokens=settings))
            with pytest.raises(UnavailableError, match="out of reach"):
                await authenticator.authenticate(bearer(token()), None)
            await authenticator.close()

    run(scenario())


def test_an_issuer_that_hangs_or_is_gone_costs_its_time_out_once() -> None:
    async def scenario() -> None:
        async with Issuer() as issuer:
            issuer.delay_until = asyncio.Event()
            keys = TokenKeys(issuer.url, timeout_seconds=0.05, min_refresh_seconds=3600)
            for _ in range(3):
                with pytest.raises(UnavailableError):
                    await keys.find("rsa")
            assert issuer.requests == 1
            gone = issuer.url
            issuer.delay_until.set()
        with pytest.raises(UnavailableError):
            await TokenKeys(gone, timeout_seconds=1).find("rsa")

    run(scenario())


def test_a_file_of_token_keys_is_read_again_for_a_new_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(RSA))
    keys = TokenKeys(str(path), min_refresh_seconds=1e-9)
    assert run(keys.find("ec")) is None
    path.write_bytes(key_set(RSA, EC))
    assert run(keys.find("ec")) is not None
    path.write_bytes(b"spoiled")
    assert run(keys.find("unknown")) is None
    assert run(keys.find("ec")) is not None


# --- who calls --------------------------------------------------------------------------------------------------------


def test_without_keys_and_tokens_a_caller_is_an_address() -> None:
    authenticator = Authenticator(AuthenticationSettings())
    assert not AuthenticationSettings().is_required
    caller = run(authenticator.authenticate([(b"authorization", b"Bearer whatever")], "192.0.2.7"))
    assert caller == Caller(name="192.0.2.7", kind="anonymous")


def test_anonymous_callers_are_let_in_when_allowed_but_wrong_keys_are_not(keys_file: Callable[..., Path]) -> None:
    key, entry = make_api_key("ada")
    settings = AuthenticationSettings(api_keys_file=keys_file(str(entry)), allow_anonymous=True)
    authenticator = Authenticator(settings)
    assert not settings.is_required
    assert run(authenticator.authenticate([], "192.0.2.7")).kind == "anonymous"
    assert run(authenticator.authenticate(bearer(key), "192.0.2.7")).kind == "api_key"
    with pytest.raises(UnauthenticatedError):
        run(authenticator.authenticate(bearer(key + "x"), "192.0.2.7"))


FORWARDED = [
    ("192.0.2.7", [], [], "192.0.2.7"),
    ("192.0.2.7", ["203.0.113.9"], [], "192.0.2.7"),  # nobody is trusted: the field is the client's own invention
    ("192.0.2.7", ["203.0.113.9"], ["10.0.0.0/8"], "192.0.2.7"),
    ("10.0.0.1", ["203.0.113.9"], ["10.0.0.0/8"], "203.0.113.9"),
    ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], ["10.0.0.0/8"], "203.0.113.9"),  # what stands left was made up
    ("10.0.0.1", ["1.1.1.1", "203.0.113.9, 10.0.0.2"], ["10.0.0.0/8"], "203.0.113.9"),
    ("10.0.0.1", ["garbage"], ["10.0.0.0/8"], "10.0.0.1"),
    ("10.0.0.1", ["203.0.113.9, garbage"], ["10.0.0.0/8"], "10.0.0.1"),
    ("10.0.0.1", ["10.0.0.3"], ["10.0.0.0/8"], "10.0.0.3"),
    ("10.0.0.1", ["203.0.113.9:4711"], ["10.0.0.0/8"], "203.0.113.9"),
    ("10.0.0.1", ["[2001:db8:1:2:3::4]:4711"], ["10.0.0.0/8"], "2001:db8:1:2::/64"),
    ("::ffff:10.0.0.1", ["203.0.113.9"], ["10.0.0.0/8"], "203.0.113.9"),
    ("10.0.0.1", ["::ffff:203.0.113.9"], ["10.0.0.0/8"], "203.0.113.9"),
    ("2001:db8:1:2:ffff::1", [], [], "2001:db8:1:2::/64"),
    ("fe80::1%eth0", [], [], "fe80::/64"),
    (None, ["203.0.113.9"], ["10.0.0.0/8"], "local"),
    ("10.0.0.1", [",".join(["10.0.0.9"] * 100_000)], ["10.0.0.0/8"], "10.0.0.9"),
]


@pytest.mark.parametrize(("peer", "forwarded", "trusted", "expected"), FORWARDED)
def test_the_address_is_the_one_that_a_trusted_proxy_saw(
    peer: str | None, forwarded: list[str], trusted: list[str], expected: str
) -> None:
    authenticator = Authenticator(AuthenticationSettings(trusted_proxies=tuple(trusted)))
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    assert run(authenticator.authenticate(headers, peer)).name == expected


def test_a_role_is_required_without_saying_which() -> None:
    caller = Caller(name="ada", kind="api_key", roles=("reader",))
    caller.require_role("reader")
    with pytest.raises(PermissionDeniedError) as caught:
        caller.require_role("secret-admin")
    assert "secret-admin" not in str(caught.value)


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def test_no_secret_reaches_the_log(
    keys_file: Callable[..., Path],
    token_settings: Callable[..., TokenSettings],
    everything_logged: pytest.LogCaptureFixture,
) -> None:
    key, entry = make_api_key("ada")
    settings = AuthenticationSettings(api_keys_file=keys_file(str(entry)), tokens=token_settings())
    authenticator = Authenticator(settings)
    secrets = [key, key + "x", token(), token(STRANGER), token(exp=1_000_000_000), token() + "x"]
    for secret in secrets:
        try:
            run(authenticator.authenticate(bearer(secret), "192.0.2.7"))
        except UnauthenticatedError as error:
            assert secret not in str(error)
            assert error.__cause__ is None
            assert error.__context__ is None
    assert "has expired from 192.0.2.7" in everything_logged.text
    for secret in secrets:
        assert secret not in everything_logged.text
        assert secret.rpartition(".")[2] not in everything_logged.text


# --- settings ---------------------------------------------------------------------------------------------------------


def test_all_problems_of_the_settings_are_listed_at_once_without_values() -> None:
    with pytest.raises(ValidationError) as caught:
        AuthenticationSettings.model_validate(
            {
                "tokens": {
                    "key_set": "https://user:hunter2@issuer.example/keys",
                    "issuer": "",
                    "audience": "mobile-mm",
                    "algorithms": ["RS256", "HS256"],
                    "leeway_seconds": 3600,
                    "audiences": "x",
                },
                "trusted_proxies": ["10.0.0.0/8", "everybody"],
                "allow_anonymus": True,
            }
        )
    places = {".".join(str(part) for part in error["loc"]) for error in caught.value.errors()}
    assert places == {
        "tokens.key_set",
        "tokens.issuer",
        "tokens.algorithms",
        "tokens.leeway_seconds",
        "tokens.audiences",
        "trusted_proxies.1",
        "allow_anonymus",
    }
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("algorithms", [(), ("none",), ("HS256",), ("RS256", "HS512"), ("ES256K",)])
def test_only_asymmetric_algorithms_can_be_chosen(algorithms: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="algorithms"):
        TokenSettings(key_set="/keys.json", issuer=ISSUER, audience=AUDIENCE, algorithms=algorithms)


@pytest.mark.parametrize(
    "source", ["http://issuer.example/keys", "ftp://127.0.0.1/keys", "http://10.0.0.1/keys", "https:///keys"]
)
def test_keys_come_from_a_file_https_or_this_machine(source: str) -> None:
    with pytest.raises(ValidationError, match="key_set"):
        TokenSettings(key_set=source, issuer=ISSUER, audience=AUDIENCE)
    for good in ("/etc/keys.json", "https://issuer.example/keys", "http://127.0.0.1:9/keys", "http://[::1]/keys"):
        assert TokenSettings(key_set=good, issuer=ISSUER, audience=AUDIENCE).key_set == good


def test_a_missing_file_of_token_keys_is_told_at_the_start() -> None:
    settings = TokenSettings(key_set="/no/such/keys.json", issuer=ISSUER, audience=AUDIENCE)
    with pytest.raises(InvalidInputError, match=r"/no/such/keys\.json cannot be read"):
        Authenticator(AuthenticationSettings(tokens=settings))
