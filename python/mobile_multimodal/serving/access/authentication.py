"""Tells who sends a request: the owner of an API key, the subject of a signed token, or an address without either."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jws import JWSRegistry
from pydantic import AfterValidator, Field, field_validator

from mobile_multimodal.errors import InvalidInputError, PermissionDeniedError, UnauthenticatedError
from mobile_multimodal.serving.access.api_keys import ApiKeys
from mobile_multimodal.serving.access.client_address import ClientAddresses, Network
from mobile_multimodal.serving.access.token_keys import TokenKeys, check_key_source
from mobile_multimodal.serving.configuration.policy_settings import PolicySettings

_log = logging.getLogger(__name__)

# Asymmetric alone: whoever can check a token must not be able to make one.
ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
MAX_TOKEN_BYTES: Final = 8192  # header lines of servers end there, too
_KEYS_CHECK_SECONDS: Final = 2.0  # how often the file of API keys is looked at for a change
CHALLENGE: Final[Mapping[str, str]] = {"WWW-Authenticate": 'Bearer realm="mobile-mm"'}  # belongs on every 401


class TokenSettings(PolicySettings):
    """Which signed tokens (JWT, RFC 7519) count.

    key_set              a JWK set: the path of a file, or an https URL (http on this machine)
    issuer, audience     what `iss` must be and `aud` must hold, exactly
    algorithms           what the token may be signed with
    leeway_seconds       how far clocks may be apart
    name_claim           names the caller
    roles_claim          a list of roles, or one string with spaces between them
    refresh_seconds ...  see TokenKeys
    """

    key_set: Annotated[str, AfterValidator(check_key_source)] = Field(min_length=1)
    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA", "Ed25519")
    leeway_seconds: int = Field(default=30, ge=0, le=300)
    name_claim: str = Field(default="sub", min_length=1)
    roles_claim: str = Field(default="roles", min_length=1)
    refresh_seconds: float = Field(default=600.0, gt=0, le=86400)
    min_refresh_seconds: float = Field(default=30.0, gt=0, le=3600)
    timeout_seconds: float = Field(default=3.0, gt=0, le=30)

    @field_validator("algorithms")
    @classmethod
    def _check_algorithms(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        if not algorithms or any(name not in ALGORITHMS for name in algorithms):
            raise ValueError(f"expected one or more of {', '.join(ALGORITHMS)}")
        return algorithms


class AuthenticationSettings(PolicySettings):
    """How callers show who they are; with neither keys nor tokens nobody needs to.

    api_keys_file    lines `name:sha256hex[:role,role]`
    tokens           None takes no tokens
    allow_anonymous  lets callers in without a key or token even so; a wrong one is refused all the same
    trusted_proxies  addresses or networks whose X-Forwarded-For is believed
    """

    api_keys_file: Path | None = None
    tokens: TokenSettings | None = None
    allow_anonymous: bool = False
    trusted_proxies: tuple[Network, ...] = ()

    @property
    def is_required(self) -> bool:
        """Whether a request without a key or token is refused."""
        return (self.api_keys_file is not None or self.tokens is not None) and not self.allow_anonymous


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who sends a request. `name` may be logged; it is no secret, and no label of a metric either."""

    name: str
    kind: Literal["anonymous", "api_key", "token"]
    roles: tuple[str, ...] = ()

    def require_role(self, role: str) -> None:
        """PermissionDeniedError for a caller without that role."""
        if role not in self.roles:
            raise PermissionDeniedError("this caller may not do that", "ask the operator of the server for the role")


class Authenticator:
    """Decides by the header fields of a request; it keeps nothing of them and logs no secret."""

    def __init__(self, settings: AuthenticationSettings) -> None:
        """Reads the files; InvalidInputError lists what is wrong with them."""
        self._settings = settings
        self._addresses = ClientAddresses(settings.trusted_proxies)
        self._api_keys = ApiKeys(settings.api_keys_file) if settings.api_keys_file is not None else None
        self._api_keys_checked_at = time.monotonic()
        self._tokens = _TokenCheck(settings.tokens) if settings.tokens is not None else None

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]], peer: str | None) -> Caller:
        """Who sends a request with these raw header fields (as in an ASGI scope) from this address.

        UnauthenticatedError when it shows no key or token though one is needed, or one that is not valid: always with
        the same words, the log holds the reason. UnavailableError when the keys of the tokens' issuer are out of reach.
        """
        authorization: list[str] = []
        api_keys: list[str] = []
        forwarded: list[str] = []
        wanted = {b"authorization": authorization, b"x-api-key": api_keys, b"x-forwarded-for": forwarded}
        for name, raw in headers:
            if (values := wanted.get(name.lower())) is not None:
                values.append(raw.decode("latin-1").strip())
        address = self._addresses.name_of(peer, forwarded)
        if self._api_keys is None and self._tokens is None:
            return Caller(name=address, kind="anonymous")
        presented = [*api_keys]
        for value in authorization:
            scheme, _, credential = value.partition(" ")
            if scheme.lower() == "bearer":
                presented.append(credential.strip())
            elif not api_keys:
                raise _refusal(address, "an Authorization field that is not Bearer")
        if not presented:
            if self._settings.allow_anonymous:
                return Caller(name=address, kind="anonymous")
            raise _refusal(address, "no key or token", "no API key or token")
        if len(presented) > 1:
            raise _refusal(address, "several keys or tokens")
        return await self._caller_of(presented[0], address, is_key=bool(api_keys))

    async def close(self) -> None:
        """Ends what runs in the background."""
        if self._tokens is not None:
            await self._tokens.keys.close()

    async def _caller_of(self, presented: str, address: str, *, is_key: bool) -> Caller:
        # A key has no dot (token_urlsafe), a signed token has two.
        if self._tokens is not None and not is_key and presented.count(".") == 2:
            caller, reason = await self._tokens.check(presented)
            if caller is None:
                raise _refusal(address, reason)
            return caller
        if self._api_keys is not None:
            self._look_at_api_keys()
            entry = self._api_keys.find(presented)
            if entry is not None:
                return Caller(name=entry.name, kind="api_key", roles=entry.roles)
        raise _refusal(address, "an unknown key")

    def _look_at_api_keys(self) -> None:
        now = time.monotonic()
        if self._api_keys is None or now - self._api_keys_checked_at < _KEYS_CHECK_SECONDS:
            return
        self._api_keys_checked_at = now
        try:
            if self._api_keys.reload_if_changed():
                _log.info("the file of API keys was read again: %d keys", len(self._api_keys.entries))
        except InvalidInputError as error:
            _log.error("the API keys stay as they were: %s", error.message)


class _TokenCheck:
    """Decides on one kind of token."""

    def __init__(self, settings: TokenSettings) -> None:
        self._settings = settings
        self.keys = TokenKeys(
            settings.key_set,
            refresh_seconds=settings.refresh_seconds,
            min_refresh_seconds=settings.min_refresh_seconds,
            timeout_seconds=settings.timeout_seconds,
        )
        # Header fields that are not known are passed over, as RFC 7515 says; those that `crit` names are not.
        self._registry = JWSRegistry(algorithms=settings.algorithms, strict_check_header=False)
        self._claims = jwt.JWTClaimsRegistry(
            leeway=settings.leeway_seconds,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.audience},
            exp={"essential": True},
        )

    async def check(self, token: str) -> tuple[Caller | None, str]:
        """The caller, or None and the reason for the log."""
        if len(token) > MAX_TOKEN_BYTES:
            return None, "a token that is too long"
        try:
            header = jws.extract_compact(token.encode("ascii")).headers()
            key_id, algorithm = header.get("kid"), header.get("alg")
            if algorithm not in self._settings.algorithms or not isinstance(key_id, (str, type(None))):
                return None, "a token with another algorithm or a wrong key id"
            key = await self.keys.find(key_id)
            if key is None:
                return None, "a token of an unknown key"
            claims = jwt.decode(token, key, algorithms=self._settings.algorithms, registry=self._registry).claims
            self._claims.validate(claims)
            if not math.isfinite(float(claims["exp"])):  # NaN is never past, and JSON parsers let it through
                return None, "a token with a wrong time"
        except ExpiredTokenError:
            return None, "a token that has expired"
        except (JoseError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            return None, f"a token that is not valid: {type(error).__name__}"
        name = claims.get(self._settings.name_claim)
        # isprintable: it goes into logs, and half of a surrogate pair could not even be encoded there
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 256:
            return None, "a token without a name"
        return Caller(name=name, kind="token", roles=_roles(claims.get(self._settings.roles_claim))), ""


def _roles(claim: Any) -> tuple[str, ...]:
    if isinstance(claim, str):
        return tuple(claim.split())
    if isinstance(claim, list):
        return tuple(role for role in claim if isinstance(role, str))
    return ()


def _refusal(address: str, reason: str, message: str = "the API key or token is not valid") -> UnauthenticatedError:
    _log.info("refused %s from %s", reason, address)
    return UnauthenticatedError(message, "send `Authorization: Bearer <key or token>`, or `X-API-Key: <key>`")
