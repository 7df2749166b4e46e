"""Holds what an operator may choose for `mobile-mm serve`: frozen, checked when made, refusing unknown names."""

from __future__ import annotations

import ipaddress
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.serving.access.authentication import AuthenticationSettings
from mobile_multimodal.serving.access.rate_limits import RateLimitSettings
from mobile_multimodal.serving.access.request_origins import LOOPBACK_HOSTS, Host, RequestOriginSettings
from mobile_multimodal.serving.cache.response_cache import ResponseCacheSettings
from mobile_multimodal.serving.http.security_headers import Origin, SecurityHeadersSettings
from mobile_multimodal.serving.pictures.picture_fetch import PictureFetchSettings
from mobile_multimodal.serving.telemetry.logging import LoggingSettings
from mobile_multimodal.serving.telemetry.tracing import TracingSettings
from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.settings import MAX_DEADLINE_SECONDS, MAX_THREADS

ENVIRONMENT_PREFIX: Final = "MOBILE_MM_SERVE_"

Port = Annotated[int, Field(ge=0, le=65535)]


class SettingFields(BaseSettings):
    """Each setting, checked alone."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        env_ignore_empty=True,
        hide_input_in_errors=True,  # a value may be a secret
        protected_namespaces=(),  # pydantic keeps model_ for itself, and here a model is a model
    )

    # Where it listens.
    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 is all")
    port: Port = Field(default=8080, description="port of the API and the page; 0 takes a free one")
    metrics: bool = Field(default=True, description="expose metrics for Prometheus")
    metrics_host: str = Field(default="127.0.0.1", min_length=1, description="address of the metrics")
    metrics_port: Port = Field(default=8000, description="port of the metrics; 0 takes a free one")
    allowed_hosts: tuple[Host, ...] = Field(
        default=(),
        description="names that the server is reached by (the field Host), *.suffix for all below. By default those of "
        "this machine on loopback without keys, else any",
    )
    allowed_origins: tuple[Origin, ...] = Field(
        default=(), description="web pages of other hosts that may send requests and read answers, such as https://a.b"
    )
    is_behind_tls: bool = Field(default=False, description="all clients come through TLS; needed for hsts_seconds")
    hsts_seconds: int = Field(
        default=0, ge=0, le=2 * 365 * 86400, description="browsers shall come by TLS alone for so long"
    )

    # What it serves.
    model: str = Field(default=DEFAULT_MODEL, min_length=1, description="name of a model, or a .gguf file")
    index: Path | None = Field(default=None, description="index of a gallery, or its folder: turns /v1/search on")
    page: bool = Field(default=True, description="serve the page at /")
    docs: bool = Field(default=False, description="serve the API's reference at /docs")

    # Workers and their queue: the pool has chosen, and measured, the defaults.
    workers: int | None = Field(default=None, ge=1, le=256, description="processes that work; by default one a CPU")
    threads_per_worker: int = Field(
        default=PoolSettings.threads_per_worker, ge=1, le=MAX_THREADS, description="threads of each"
    )
    queue_length: int = Field(
        default=PoolSettings.queue_length, ge=1, le=100_000, description="requests that may wait; more are answered 503"
    )
    queue_bytes: int = Field(
        default=PoolSettings.queue_bytes,
        ge=1,
        le=1 << 40,
        description="bytes of pictures that may wait; more are answered 503",
    )
    max_batch: int = Field(
        default=PoolSettings.max_batch, ge=1, le=64, description="captions computed together at most"
    )
    batch_wait_milliseconds: float = Field(
        default=PoolSettings.batch_wait_milliseconds,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="how long the first of a batch waits for others",
    )
    max_wait_seconds: float | None = Field(
        default=PoolSettings.max_wait_seconds,
        ge=0.001,
        le=3600,
        allow_inf_nan=False,
        description="requests that would wait longer are answered 503",
    )
    stuck_grace_seconds: float = Field(
        default=PoolSettings.stuck_grace_seconds,
        ge=0.1,
        le=600,
        allow_inf_nan=False,
        description="a worker this long behind a deadline is replaced",
    )
    feature_cache_bytes: int = Field(
        default=PoolSettings.feature_cache_bytes,
        ge=0,
        le=1 << 34,
        description="encoded pictures that each worker keeps at hand",
    )
    picture_cache_bytes: int = Field(
        default=PoolSettings.picture_cache_bytes,
        ge=0,
        le=1 << 34,
        description="decoded pictures that each worker keeps at hand",
    )
    worker_memory_bytes: int | None = Field(default=None, ge=1 << 26, description="a worker above it is replaced")
    start_seconds: float = Field(
        default=PoolSettings.start_seconds,
        ge=0.1,
        le=3600,
        allow_inf_nan=False,
        description="time for a worker to become ready",
    )
    silent_seconds: float = Field(
        default=PoolSettings.silent_seconds,
        ge=0.1,
        le=3600,
        allow_inf_nan=False,
        description="a free worker that is silent so long is replaced",
    )
    retries: int = Field(
        default=PoolSettings.retries, ge=0, le=10, description="how often a request is tried again when its worker died"
    )

    # Bounds on a request.
    deadline_seconds: float = Field(
        default=10.0,
        gt=0,
        le=MAX_DEADLINE_SECONDS,
        allow_inf_nan=False,
        description="for a request that names none",
    )
    max_deadline_seconds: float = Field(
        default=60.0, gt=0, le=MAX_DEADLINE_SECONDS, allow_inf_nan=False, description="what a request may ask for"
    )
    max_body_bytes: int = Field(default=50_000_000, ge=1024, le=1 << 30, description="size of a request")
    max_buffered_bytes: int = Field(
        default=256_000_000,
        ge=1024,
        description="size of all requests that are there at one time",
    )
    body_timeout_seconds: float = Field(
        default=60.0, gt=0, le=3600, allow_inf_nan=False, description="time for a request's body to arrive"
    )
    header_timeout_seconds: float = Field(
        default=10.0, gt=0, le=600, allow_inf_nan=False, description="time for a request's header to arrive"
    )
    max_header_bytes: int = Field(default=32_768, ge=1024, le=1 << 20, description="size of a request's header")
    max_connections: int = Field(default=1000, ge=1, le=1_000_000, description="open connections; more are refused")
    # Proxies keep connections for 60 seconds or less: the side that sends requests must be the one that hangs up.
    keep_alive_seconds: int = Field(default=75, ge=1, le=3600, description="rest of a connection between requests")

    # Who may ask and how often, what is kept, fetched and told. The docstrings of these classes explain their settings.
    authentication: AuthenticationSettings = Field(default_factory=AuthenticationSettings)
    limits: RateLimitSettings = Field(default_factory=RateLimitSettings)
    cache: ResponseCacheSettings = Field(default_factory=ResponseCacheSettings)
    fetch: PictureFetchSettings = Field(default_factory=PictureFetchSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)

    # The end.
    drain_delay_seconds: float = Field(
        default=5.0,
        ge=0,
        le=600,
        allow_inf_nan=False,
        description="after SIGTERM: so long it is not ready and still answers, for load balancers to notice",
    )
    drain_timeout_seconds: float = Field(
        default=30.0, gt=0, le=3600, allow_inf_nan=False, description="after that: time for requests to be finished"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing but the arguments: an app made in code must not change with the environment around it."""
        return (init_settings,)

    @field_validator("host", "metrics_host")
    @classmethod
    def _is_host(cls, value: str) -> str:
        if any(character.isspace() or character in "/?#@" for character in value) or "://" in value:
            raise ValueError("expected a name or an address, for example 127.0.0.1")
        return value

    @property
    def needs_access(self) -> bool:
        """Whether requests need a key or a token."""
        return self.authentication.is_required

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the API."""
        return is_loopback(self.host)

    def pool_settings(self) -> PoolSettings:
        """What the pool of workers is made with."""
        return PoolSettings(**{field.name: getattr(self, field.name) for field in fields(PoolSettings)})

    def origin_settings(self) -> RequestOriginSettings:
        """Which names and pages requests may come by. Loopback without keys has no other protection from a web page
        whose own name points at 127.0.0.1."""
        hosts = self.allowed_hosts
        if not hosts and self.is_loopback and not self.needs_access:
            hosts = LOOPBACK_HOSTS
        return RequestOriginSettings(allowed_hosts=hosts, allowed_origins=self.allowed_origins)

    def security_settings(self) -> SecurityHeadersSettings:
        """What the header fields of every answer say."""
        return SecurityHeadersSettings(
            is_behind_tls=self.is_behind_tls, hsts_seconds=self.hsts_seconds, allowed_origins=self.allowed_origins
        )

    def conflicts(self) -> list[tuple[tuple[str, ...], str]]:
        """Settings that are right alone and wrong together: (their names, what is wrong and what to do)."""
        found: list[tuple[tuple[str, ...], str]] = []
        if self.deadline_seconds > self.max_deadline_seconds:
            found.append(
                (
                    ("deadline_seconds", "max_deadline_seconds"),
                    f"deadline_seconds is {self.deadline_seconds:g} and max_deadline_seconds "
                    f"{self.max_deadline_seconds:g}, expected the first to be the smaller; raise the second",
                )
            )
        if self.max_buffered_bytes < self.max_body_bytes:
            found.append(
                (
                    ("max_buffered_bytes", "max_body_bytes"),
                    f"max_buffered_bytes is {self.max_buffered_bytes} and max_body_bytes {self.max_body_bytes}, "
                    "expected room for one request at least; raise the first",
                )
            )
        if not self.is_loopback and not self.needs_access and not self.authentication.allow_anonymous:
            found.append(
                (
                    ("host", "authentication"),
                    f"host is {self.host!r}, which others can reach, and callers need no key or token; "
                    "name --api-keys-file or --tokens-key-set, or say --allow-anonymous",
                )
            )
        if self.hsts_seconds and not self.is_behind_tls:
            found.append(
                (
                    ("hsts_seconds", "is_behind_tls"),
                    f"hsts_seconds is {self.hsts_seconds} without is_behind_tls, expected TLS before the server: "
                    "browsers would be locked out; set is_behind_tls where it is so",
                )
            )
        if self.metrics and self.port == self.metrics_port != 0 and self.host == self.metrics_host:
            found.append(
                (
                    ("port", "metrics_port"),
                    f"port and metrics_port are both {self.port}, expected two ports; change one",
                )
            )
        return found


class ServeSettings(SettingFields):
    """What a server is started with. Made in code it reads no file and no environment: `load_settings` does."""

    @model_validator(mode="after")
    def _agree(self) -> ServeSettings:
        problems = self.conflicts()
        if problems:
            raise ValueError("; ".join(text for _, text in problems))
        return self


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone; a name counts only when it is localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
