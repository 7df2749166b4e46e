"""Pictures come from allowed public hosts by TLS alone, whatever names, redirects and servers try."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="needs the extra serve")
pytest.importorskip("cryptography", reason="needs the extra serve (joserfc brings it)")

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from mobile_multimodal.errors import DeadlineExceededError, ImageTooLargeError, InvalidInputError
from mobile_multimodal.serving.pictures.picture_fetch import PictureFetch, PictureFetchSettings, PublicResolver
from mobile_multimodal.serving.pictures.public_addresses import is_public

PUBLIC = "93.184.216.34"
HOST, OTHER = "images.example", "cdn.other.example"
PICTURE = b"\xff\xd8 what a picture is, the fetch does not look at \xff\xd9"
URL = f"https://{HOST}/a.jpg"

# --- addresses --------------------------------------------------------------------------------------------------------

INSIDE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:93.184.216.34",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::5db8:d822",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2002:5db8:d822::1",
    "2001:0:5db8:d822::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "3fff::1",
    "100::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fe80::1%1",
    "2606:2800:220:1::1%1",
    "fec0::1",
    "ff02::1",
    "5f00::1",
    "4000::1",
    "2606:2800:220:1:0:5efe:7f00:1",
    "2606:2800:220:1:200:5efe:7f00:1",
]
NO_ADDRESSES = ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "127.0.0.01", "localhost", "", "1.1.1.1 "]


@pytest.mark.parametrize("address", INSIDE + NO_ADDRESSES)
def test_what_leads_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1"),
        *("192.0.1.1", "198.17.255.255", "198.20.0.1", "223.255.255.255", "168.63.129.15"),
        *("2606:2800:220:1::1", "2a00:1450::1"),
    ],
)
def test_what_does_not_is_public(address: str) -> None:
    assert is_public(address)


def test_no_private_network_of_python_is_public() -> None:
    """The first, the last and a middle address of everything that Python's own tables call private."""
    networks = [
        *ipaddress._IPv4Constants._private_networks,  # type: ignore[attr-defined]
        *ipaddress._IPv6Constants._private_networks,  # type: ignore[attr-defined]
    ]
    assert len(networks) > 15
    for network in networks:
        for address in (network[0], network[-1], network[network.num_addresses // 2]):
            assert not is_public(str(address)), address


# --- a real server ----------------------------------------------------------------------------------------------------


def make_certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """A certificate of its own for these names, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(entry) for entry in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path


class Internet:
    """Names and addresses as a test wants them, and one real TLS server behind every address.

    The sockets are real, too; they only take every connection to the server, and note where it was meant to go.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate, self._key = certificate, key
        self.names: dict[str, list[list[str]]] = {HOST: [[PUBLIC]], OTHER: [["1.1.1.1"]]}
        self.lookups: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.requests: list[web.Request] = []
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.picture
        self.port = 0

    async def picture(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=PICTURE, content_type="image/jpeg")

    async def lookup(self, host: str, port: int) -> list[str]:
        """The next answer for a name; the last one stays."""
        self.lookups.append(host)
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def socket(self, address: Any) -> socket.socket:
        internet = self

        class Diverted(socket.socket):
            def connect(self, target: Any) -> None:
                internet.dialled.append(target[:2])
                super().connect(("127.0.0.1", internet.port))

        return Diverted(address[0], address[1], address[2])

    def fetcher(self, **changes: Any) -> PictureFetch:
        settings = PictureFetchSettings(
            **{"allowed_hosts": (HOST, "*.other.example"), "timeout_seconds": 30.0, **changes}
        )
        trust = ssl.create_default_context(cafile=str(self.certificate))
        return PictureFetch(settings, lookup=self.lookup, tls=trust, socket_factory=self.socket)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Internet]:
        async def respond(request: web.Request) -> web.StreamResponse:
            self.requests.append(request)
            return await self.answer(request)

        app = web.Application()
        app.router.add_get("/{path:.*}", respond)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self.certificate, self._key)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"), HOST, OTHER)


@pytest.fixture
def internet(certificate: tuple[Path, Path]) -> Internet:
    return Internet(*certificate)


def in_service(internet: Internet, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def serve() -> None:
        async with internet.serving():
            await scenario()

    asyncio.run(serve())


async def refused(fetch: PictureFetch, url: str, match: str | None = None) -> InvalidInputError:
    with pytest.raises(InvalidInputError, match=match) as caught:
        await fetch.fetch(url)
    assert PUBLIC not in str(caught.value)
    return caught.value


def test_a_picture_comes_from_the_address_that_was_checked(internet: Internet) -> None:
    async def scenario() -> None:
        fetch = internet.fetcher()
        assert await fetch.fetch(f"{URL}?x=1#part") == PICTURE
        assert internet.dialled == [(PUBLIC, 443)]
        assert internet.lookups == [HOST]
        (request,) = internet.requests
        assert request.path_qs == "/a.jpg?x=1"
        assert request.headers["Host"] == HOST
        for name in ("Authorization", "Cookie", "Referer", "Proxy-Authorization"):
            assert name not in request.headers
        assert await fetch.fetch(f"https://{OTHER.upper()}/b.png") == PICTURE

    in_service(internet, scenario)


def test_a_name_that_changes_between_two_looks_is_looked_up_once_and_pinned(internet: Internet) -> None:
    internet.names[HOST] = [[PUBLIC], ["127.0.0.1"]]

    async def scenario() -> None:
        fetch = internet.fetcher()
        assert await fetch.fetch(URL) == PICTURE
        assert internet.lookups == [HOST]
        assert internet.dialled == [(PUBLIC, 443)]
        await refused(fetch, URL, "no picture to fetch")  # the second look-up says 127.0.0.1
        assert internet.lookups == [HOST, HOST]
        assert internet.dialled == [(PUBLIC, 443)]

    in_service(internet, scenario)


@pytest.mark.parametrize("address", INSIDE + NO_ADDRESSES)
def test_nothing_is_dialled_when_a_name_leads_inside(internet: Internet, address: str) -> None:
    async def scenario() -> None:
        for answer in ([address], [PUBLIC, address], [address, PUBLIC]):
            internet.names[HOST] = [answer]
            await refused(internet.fetcher(), URL, "no picture to fetch")
        assert not internet.dialled

    asyncio.run(scenario())


def test_a_name_without_an_address_says_the_same_as_one_that_leads_inside(internet: Internet) -> None:
    async def scenario() -> None:
        words = set()
        for answer in ([], ["127.0.0.1"], ["10.0.0.1"]):
            internet.names[HOST] = [answer]
            words.add(str(await refused(internet.fetcher(), URL)))
        internet.names[HOST] = [[PUBLIC]]
        for answer in (web.Response(status=404), web.Response(text="x"), web.Response(status=500)):

            async def respond(_: web.Request, answer: web.Response = answer) -> web.Response:
                return answer

            internet.answer = respond
            words.add(str(await refused(internet.fetcher(), URL)))
        internet.port = 1  # nobody listens there
        words.add(str(await refused(internet.fetcher(), URL)))
        assert len(words) == 1

    in_service(internet, scenario)


REFUSED_URLS = [
    f"http://{HOST}/a.jpg",
    f"ftp://{HOST}/a.jpg",
    f"file:///etc/passwd?{HOST}",
    f"//{HOST}/a.jpg",
    f"https:{HOST}/a.jpg",
    "https://",
    "https:///a.jpg",
    f"https://user@{HOST}/a.jpg",
    f"https://user:password@{HOST}/a.jpg",
    f"https://:@{HOST}/a.jpg",
    f"https://{HOST}@evil.example/a.jpg",
    f"https://{HOST}:password@evil.example/a.jpg",
    f"https://evil.example\\@{HOST}/a.jpg",
    f"https://{HOST}\\@evil.example/a.jpg",
    f"https://evil.example#@{HOST}/a.jpg",
    f"https://evil.example?@{HOST}/a.jpg",
    f"https://{HOST}:80/a.jpg",
    f"https://{HOST}:8443/a.jpg",
    f"https://{HOST}:0/a.jpg",
    f"https://{HOST}:99999/a.jpg",
    f"https://{HOST}:a/a.jpg",
    f"https://{HOST}./a.jpg",
    f"https://.{HOST}/a.jpg",
    f"https://x.{HOST}/a.jpg",
    f"https://x{HOST}/a.jpg",
    f"https://{HOST}.evil.example/a.jpg",
    "https://other.example/a.jpg",
    "https://evilother.example/a.jpg",
    "https://*.other.example/a.jpg",
    "https://evil.example/a.jpg",
    "https://localhost/a.jpg",
    "https://127.0.0.1/a.jpg",
    "https://127.1/a.jpg",
    "https://2130706433/a.jpg",
    "https://0x7f000001/a.jpg",
    "https://0x7f.0.0.1/a.jpg",
    "https://0177.0.0.1/a.jpg",
    "https://017700000001/a.jpg",
    "https://[::1]/a.jpg",
    "https://[::ffff:127.0.0.1]/a.jpg",
    "https://[fe80::1%25eth0]/a.jpg",
    f"https://{PUBLIC}/a.jpg",
    "https://１２７.0.0.1/a.jpg",
    "https://127。0。0。1/a.jpg",
    f"https://{HOST}/a b.jpg",
    f"https://{HOST}/a.jpg\r\nX: y",
    f"https://{HOST}\t/a.jpg",
    f" https://{HOST}/a.jpg",
    f"https://{HOST}/{'a' * 2048}",
    f"https://{HOST}%2eevil.example/a.jpg",
    f"https://evil.example%2f{HOST}/a.jpg",
    f"https://{HOST}%00.evil.example/a.jpg",
    "https://[/a.jpg",
    "",
]


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_a_url_that_is_not_plainly_allowed_is_refused_without_a_look_up(internet: Internet, url: str) -> None:
    async def scenario() -> None:
        error = await refused(internet.fetcher(), url)
        assert "password" not in error.message.replace("user name or password", "")

    asyncio.run(scenario())
    assert not internet.lookups
    assert not internet.dialled


def test_a_redirect_goes_through_the_same_checks(internet: Internet) -> None:
    target = ""

    async def redirect(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": target.encode("utf-8").decode("latin-1")})

    internet.answer = redirect

    async def scenario() -> None:
        nonlocal target
        fetch = internet.fetcher()
        # Some of these are paths of the same host when they stand in a redirect: those run in circles, and end.
        for target in [url for url in REFUSED_URLS if "\n" not in url]:
            await refused(fetch, URL)
            assert {address for address, _ in internet.dialled} == {PUBLIC}, target
            assert set(internet.lookups) == {HOST}, target

    in_service(internet, scenario)


def test_a_redirect_to_a_host_that_leads_inside_is_not_followed(internet: Internet) -> None:
    internet.names[OTHER] = [["10.0.0.1"]]

    async def redirect(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": f"https://{OTHER}/b.jpg"})

    internet.answer = redirect

    async def scenario() -> None:
        await refused(internet.fetcher(), URL, "no picture to fetch")
        assert internet.lookups == [HOST, OTHER]
        assert internet.dialled == [(PUBLIC, 443)]

    in_service(internet, scenario)


def test_a_redirect_of_the_same_host_is_looked_up_again(internet: Internet) -> None:
    internet.names[HOST] = [[PUBLIC], ["192.168.0.1"]]

    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "/again"})

    internet.answer = redirect

    async def scenario() -> None:
        await refused(internet.fetcher(), URL, "no picture to fetch")
        assert internet.dialled == [(PUBLIC, 443)]

    in_service(internet, scenario)


@pytest.mark.parametrize(("redirects", "arrives"), [(1, True), (3, True), (4, False)])
def test_three_redirects_are_followed_and_no_cookie_comes_along(
    internet: Internet, redirects: int, arrives: bool
) -> None:
    async def respond(request: web.Request) -> web.StreamResponse:
        if len(internet.requests) > redirects:
            return await internet.picture(request)
        host = OTHER if len(internet.requests) % 2 else HOST
        headers = {"Location": f"https://{host}/{len(internet.requests)}", "Set-Cookie": "a=b; Domain=example"}
        return web.Response(status=301, headers=headers)

    internet.answer = respond

    async def scenario() -> None:
        fetch = internet.fetcher()
        if arrives:
            assert await fetch.fetch(URL) == PICTURE
        else:
            await refused(fetch, URL, "more than 3 times")
        assert all("Cookie" not in request.headers for request in internet.requests)

    in_service(internet, scenario)


def test_the_certificate_must_be_the_hosts(internet: Internet) -> None:
    internet.names["wrong.other.example"] = [[PUBLIC]]

    async def scenario() -> None:
        await refused(internet.fetcher(), "https://wrong.other.example/a.jpg", "no picture to fetch")
        assert internet.dialled == [(PUBLIC, 443)]
        assert not internet.requests
        untrusting = PictureFetch(
            PictureFetchSettings(allowed_hosts=(HOST,)), lookup=internet.lookup, socket_factory=internet.socket
        )
        await refused(untrusting, URL, "no picture to fetch")
        assert not internet.requests

    in_service(internet, scenario)


@pytest.mark.parametrize("says_so", [True, False])
def test_a_file_that_is_too_large_is_cut_off(internet: Internet, says_so: bool) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        if says_so:
            response.content_length = 100_000_000
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while sent < 100_000_000:
                await response.write(bytes(65536))
                sent += 65536
        return response

    internet.answer = endless

    async def scenario() -> None:
        with pytest.raises(ImageTooLargeError, match="larger than 100000 bytes"):
            await internet.fetcher(max_bytes=100_000).fetch(URL)
        assert sent < 50_000_000  # what fits in buffers on the way, not the file

    in_service(internet, scenario)


def test_a_file_as_large_as_allowed_comes(internet: Internet) -> None:
    async def respond(_: web.Request) -> web.StreamResponse:
        return web.Response(body=bytes(100_000), content_type="image/png")

    internet.answer = respond

    async def scenario() -> None:
        assert await internet.fetcher(max_bytes=100_000).fetch(URL) == bytes(100_000)
        with pytest.raises(ImageTooLargeError):
            await internet.fetcher(max_bytes=99_999).fetch(URL)

    in_service(internet, scenario)


def test_a_server_that_drips_or_says_nothing_costs_its_time_once(internet: Internet) -> None:
    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x")
                await asyncio.sleep(0.01)
        return response

    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        raise AssertionError

    async def redirecting(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.1)
        return web.Response(status=302, headers={"Location": "/next"})

    async def slow_lookup(host: str, port: int) -> list[str]:
        await asyncio.sleep(3600)
        return []

    async def scenario() -> None:
        for answer in (dripping, silent, redirecting):
            internet.answer = answer
            with pytest.raises(DeadlineExceededError, match=r"within 0\.2 s"):
                await internet.fetcher(timeout_seconds=0.2).fetch(URL)
        fetch = PictureFetch(PictureFetchSettings(allowed_hosts=(HOST,), timeout_seconds=0.05), lookup=slow_lookup)
        with pytest.raises(DeadlineExceededError):
            await fetch.fetch(URL)

    in_service(internet, scenario)


NO_PICTURES: dict[str, Callable[[], web.Response]] = {
    "text": lambda: web.Response(text="hello"),
    "HTML": lambda: web.Response(body=PICTURE, content_type="text/html"),
    "no type": lambda: web.Response(body=PICTURE, headers={"Content-Type": ""}),
    "almost image": lambda: web.Response(body=PICTURE, content_type="imagex/png"),
    "compressed": lambda: web.Response(
        body=gzip.compress(PICTURE), content_type="image/png", headers={"Content-Encoding": "gzip"}
    ),
    "not found": lambda: web.Response(status=404, body=PICTURE, content_type="image/png"),
    "no content": lambda: web.Response(status=204, content_type="image/png"),
    "part of it": lambda: web.Response(status=206, body=PICTURE, content_type="image/png"),
    "a redirect to nowhere": lambda: web.Response(status=304, content_type="image/png"),
}


@pytest.mark.parametrize("answer", NO_PICTURES.values(), ids=NO_PICTURES.keys())
def test_what_is_no_picture_is_not_taken_for_one(internet: Internet, answer: Callable[[], web.Response]) -> None:
    async def respond(_: web.Request) -> web.StreamResponse:
        return answer()

    internet.answer = respond

    async def scenario() -> None:
        await refused(internet.fetcher(), URL, "no picture to fetch")

    in_service(internet, scenario)


def test_no_proxy_of_the_environment_is_used(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        called = []
        proxy = await asyncio.start_server(lambda reader, writer: (called.append(1), writer.close()), "127.0.0.1", 0)
        address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
            monkeypatch.setenv(name, address)
        assert await internet.fetcher().fetch(URL) == PICTURE
        assert not called
        proxy.close()
        await proxy.wait_closed()

    in_service(internet, scenario)


def test_more_at_once_than_allowed_wait_for_each_other(internet: Internet) -> None:
    under_way = most = 0

    async def respond(request: web.Request) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return await internet.picture(request)

    internet.answer = respond

    async def scenario() -> None:
        fetch = internet.fetcher(max_at_once=2)
        assert await asyncio.gather(*(fetch.fetch(URL) for _ in range(10))) == [PICTURE] * 10
        assert most == 2

    in_service(internet, scenario)


def test_a_cancelled_fetch_leaves_nothing_behind(internet: Internet) -> None:
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        raise AssertionError

    internet.answer = silent

    async def scenario() -> None:
        fetch = internet.fetcher(max_at_once=1)
        task = asyncio.create_task(fetch.fetch(URL))
        while not internet.requests:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        internet.answer = internet.picture
        assert await fetch.fetch(URL) == PICTURE  # the place is free again

    in_service(internet, scenario)


@pytest.mark.parametrize("name", ["localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1", "::1"])
def test_the_systems_own_resolver_does_not_lead_to_this_machine(name: str) -> None:
    """The resolver of the C library takes all of these for this machine, whatever a pattern thinks of them."""

    async def scenario() -> None:
        resolver = PublicResolver()
        with pytest.raises(OSError, match=r"no public address|not known|not supported"):
            await resolver.resolve(name, 443)

    asyncio.run(scenario())


# --- settings ---------------------------------------------------------------------------------------------------------


def test_it_is_off_by_default(internet: Internet) -> None:
    assert not PictureFetchSettings().is_enabled
    asyncio.run(refused(internet.fetcher(allowed_hosts=()), URL, "fetches no pictures"))


@pytest.mark.parametrize(
    "host",
    [
        *("*", "*.", "*.*.example", "a.*.example", "images", "127.0.0.1", "::1", "[::1]", "2130706433", "a.0x7f"),
        *("https://a.example", "a.example:1", "a.example/", ".example", "a..example", "a.example.", "-a.example"),
        *("a.127", "ä.example"),
    ],
)
def test_an_allowed_host_must_be_a_name(host: str) -> None:
    with pytest.raises(ValidationError, match="allowed_hosts"):
        PictureFetchSettings(allowed_hosts=(host,))


def test_all_problems_of_the_settings_are_listed_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        PictureFetchSettings.model_validate(
            {"allowed_hosts": ["a.example", "*"], "ports": [], "max_bytes": 1, "timeout_seconds": 0}
            | {"max_redirects": 4, "max_at_once": 0, "proxy": "x"}
        )
    places = {".".join(str(part) for part in error["loc"]) for error in caught.value.errors()}
    assert places == {
        "allowed_hosts.1",
        "ports",
        "max_bytes",
        "timeout_seconds",
        "max_redirects",
        "max_at_once",
        "proxy",
    }
