"""Every setting: its environment variable, type, unit, default, and why it exists. The README's table is made of it."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .lightning_kind import LightningKind

_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_PUBLIC_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?/?", re.ASCII
)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,*]+")


class Environment(StrEnum):
    """The environment of the server. Production refuses stubs."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


StoreLoss = Literal["everysec", "no", "rewrite", "unknown"]
"""The losses that an operator may allow a store; see `Loss`."""


class TierTokens(msgspec.Struct, frozen=True):
    """The token estimates of a job of one size."""

    input_tokens: int
    output_tokens: int
    max_tokens: int


TierName: TypeAlias = Literal["small", "medium", "large"]

DEFAULT_TIERS: dict[TierName, TierTokens] = {
    "small": TierTokens(input_tokens=300, output_tokens=500, max_tokens=1_000),
    "medium": TierTokens(input_tokens=800, output_tokens=1_500, max_tokens=3_000),
    "large": TierTokens(input_tokens=2_000, output_tokens=4_000, max_tokens=8_000),
}


def _var(name: str, default: Any, description: str, **bounds: Any) -> Any:
    return Field(default, validation_alias=name, description=description, **bounds)


class Settings(BaseSettings):
    """The whole configuration. Read once at the start of a process; raises `pydantic.ValidationError`."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, extra="ignore", env_ignore_empty=True)

    env: Environment = _var(
        "SATMETER_ENV", Environment.DEVELOPMENT, "`development` or `production`, which has no stubs."
    )
    host: str = _var("SATMETER_HOST", "127.0.0.1", "Address to listen on (`--host`).")
    port: int = _var("SATMETER_PORT", 8402, "Port to listen on (`--port`).", ge=0, le=65_535)
    workers: int = _var("SATMETER_WORKERS", 1, "Front processes on the port (`--workers`).", ge=1, le=64)
    data_dir: Path = _var(
        "SATMETER_DATA_DIR", Path(".satmeter"), "Where the embedded store and keys live (`--data-dir`)."
    )
    log_level: Literal["debug", "info", "warning", "error"] = _var(
        "SATMETER_LOG_LEVEL", "info", "Least level that is logged."
    )
    log_requests: Literal["errors", "all", "steps"] = _var(
        "SATMETER_LOG_REQUESTS",
        "errors",
        "Requests in the log: `errors`, `all`, or `steps`, with each write and outside call of them that went well.",
    )

    redis_url: str | None = _var(
        "REDIS_URL",
        None,
        "Your own Redis or Valkey, 7.0 on: `redis://`, `rediss://` (TLS) or `unix://`; behind Sentinel"
        " `redis+sentinel://[user:password@]host:26379,…/master[/db]`; a cluster"
        " `redis+cluster://[user:password@]host:6379,…` (`rediss+…` likewise). Without it an embedded one is run.",
        repr=False,
    )
    archive_file: Path | None = _var(
        "SATMETER_ARCHIVE_FILE", None, "Where `satmeter archive` puts what is done, and `satmeter audit` finds it."
    )
    retention_days: int | None = _var(
        "SATMETER_RETENTION_DAYS",
        None,
        "Days, at least 3, until `satmeter archive` takes what is done out of the store; else all is kept for good.",
        ge=3,
        le=36_500,
    )
    ray_address: str | None = _var("RAY_ADDRESS", None, "An existing Ray cluster; without it one is run on 127.0.0.1.")
    ray_node_ip: str | None = _var(
        "SATMETER_RAY_NODE_IP", None, "Address of this server's Ray node, where the machine has several nodes."
    )
    hosts: int | None = _var(
        "SATMETER_HOSTS",
        None,
        "Actor host processes of this server's node; without it one for each CPU. See `satmeter scale`.",
        ge=1,
        le=256,
    )
    placement: Literal["shared", "dedicated"] = _var(
        "SATMETER_PLACEMENT",
        "shared",
        "`shared` runs thousands of sessions and jobs in each host; `dedicated` gives each a process of its own.",
    )
    dedicated_max: int = _var(
        "SATMETER_DEDICATED_MAX",
        32,
        "Processes of `dedicated` sessions and jobs at once, for each host.",
        ge=1,
        le=1_000,
    )
    passivate_after_s: float = _var(
        "SATMETER_PASSIVATE_AFTER_S", 60.0, "Idle seconds after which an actor leaves memory.", gt=0
    )

    lightning: LightningKind | None = _var(
        "SATMETER_LIGHTNING",
        None,
        "`lnbits`, `lnd`, `phoenixd`, `nwc` or `stub`; without it the one whose settings are there, else a stub node. "
        "See [Lightning](docs/lightning.md).",
    )
    lnbits_url: str | None = _var("LNBITS_URL", None, "The LNbits server.")
    lnbits_invoice_key: SecretStr | None = _var("LNBITS_INVOICE_KEY", None, "The wallet's invoice key.")
    lnbits_admin_key: SecretStr | None = _var(
        "LNBITS_ADMIN_KEY",
        None,
        "The same wallet's admin key, only to pay refunds. Keep the wallet while refunds are pending.",
    )
    lnd_rest_url: str | None = _var("LND_REST_URL", None, "The REST address of LND, such as `https://127.0.0.1:8080`.")
    lnd_macaroon: SecretStr | None = _var(
        "LND_MACAROON",
        None,
        "A macaroon in hex, with the rights that [LND](docs/lightning.md#lnd) says; `LND_MACAROON_FILE` may be binary.",
    )
    lnd_tls_cert_file: Path | None = _var(
        "LND_TLS_CERT_FILE", None, "LND's `tls.cert`, where no authority known to this machine signed it."
    )
    phoenixd_url: str | None = _var("PHOENIXD_URL", None, "The address of phoenixd, such as `http://127.0.0.1:9740`.")
    phoenixd_password: SecretStr | None = _var("PHOENIXD_PASSWORD", None, "Its `http-password`.")
    nwc_url: SecretStr | None = _var(
        "NWC_URL", None, "The wallet's connection for this server, `nostr+walletconnect://…`: it holds the secret."
    )
    lightning_timeout_s: float = _var(
        "SATMETER_LIGHTNING_TIMEOUT_S", 10.0, "Longest wait for one call to the node.", gt=0
    )
    lightning_concurrency: int = _var(
        "SATMETER_LIGHTNING_CONCURRENCY",
        16,
        "Calls to the node at once, per process: a quarter for questions, which so never wait behind invoices that are "
        "made. Payouts come on top, with at most six.",
        ge=2,
    )
    invoices_ahead: int = _var(
        "SATMETER_INVOICES_AHEAD",
        32,
        "Invoices for evaluations that each actor host may make ahead under load; `0` makes none.",
        ge=0,
        le=10_000,
    )
    routing_base_sats: int | None = _var(
        "SATMETER_ROUTING_BASE_SATS",
        None,
        "Sats in place of those in the node's rule for the reserve of a refund's route: 2 of LNbits and LND and 10 of "
        "NWC, which is the least reserve; 4 of phoenixd, which are added.",
        ge=0,
        le=100,
    )
    routing_per_million: int | None = _var(
        "SATMETER_ROUTING_PER_MILLION",
        None,
        "Millionths of a refund in place of those in that rule: 10000 (1 %), but 4000 of phoenixd. What a "
        "node takes beyond the reserve is your loss: set less only for LND, which keeps to it.",
        ge=0,
        le=100_000,
    )
    sweep_interval_s: float = _var(
        "SATMETER_SWEEP_INTERVAL_S", 1.0, "Seconds between looks for payments that no push reported.", gt=0
    )
    invoice_expiry_s: int = _var("SATMETER_INVOICE_EXPIRY_S", 3_600, "Life of an invoice in seconds.", ge=1, le=86_400)
    job_expiry_s: int = _var(
        "SATMETER_JOB_EXPIRY_S",
        420,
        "Life of a job's first invoice in seconds, if that of others is not shorter. A minute after it, the text of a "
        "job that was not paid for is dropped.",
        ge=1,
        le=86_400,
    )

    anthropic_api_key: SecretStr | None = _var(
        "ANTHROPIC_API_KEY", None, "The model provider's key; without it a stub model."
    )
    anthropic_base_url: str | None = _var("ANTHROPIC_BASE_URL", None, "Another address of the Messages API.")
    eval_model: str = _var("EVAL_MODEL", "claude-haiku-5-5", "The model that evaluates requests.")
    work_model: str = _var("WORK_MODEL", "claude-sonnet-5-5", "The model that does the work.")
    model_timeout_s: float = _var(
        "SATMETER_MODEL_TIMEOUT_S",
        300.0,
        "Longest silence of the model provider in seconds: an answer may take longer, as long as parts of it come. A "
        "call that ends by it is not sent again.",
        gt=0,
    )
    model_attempts: int = _var(
        "SATMETER_MODEL_ATTEMPTS",
        5,
        "Model calls for one step of a job before it fails; while the model is away, none is counted.",
        ge=1,
        le=20,
    )
    stub_model_latency_s: float = _var(
        "SATMETER_STUB_MODEL_LATENCY_S",
        0.0,
        "How long the stub model takes for each call; a request makes two.",
        ge=0,
        le=60,
    )

    btc_price_url: str = _var(
        "BTC_PRICE_URL",
        "https://api.coingecko.com/api/v3/simple/price?ids=bitcoin&vs_currencies=usd",
        "Where the BTC price is fetched (CoinGecko's simple-price shape).",
    )
    # Beyond these bounds a price is a slip, and no invoice could be made.
    btc_price_usd_fallback: Decimal = _var(
        "BTC_PRICE_USD_FALLBACK",
        Decimal(100_000),
        "USD for one bitcoin when no fetched price is fresh enough.",
        ge=Decimal("0.01"),
        le=10**12,
    )

    margin_pct: Decimal = _var(
        "SATMETER_MARGIN_PCT", Decimal(40), "Percent on top of cost.", ge=0, le=10_000, decimal_places=6
    )
    infra_usd_per_month: Decimal = _var(
        "SATMETER_INFRA_USD_PER_MONTH", Decimal(50), "Infrastructure cost of a month.", ge=0, le=10**9
    )
    requests_per_month: int = _var(
        "SATMETER_REQUESTS_PER_MONTH", 100_000, "Requests that a month's cost is spread over.", ge=1
    )
    eval_fee_sats: int = _var("SATMETER_EVAL_FEE_SATS", 10, "Price of evaluating a job's request.", ge=1, le=1_000_000)
    models_file: Path | None = _var(
        "SATMETER_MODELS_FILE",
        None,
        "A TOML file of your upstreams and models, instead of Anthropic's (`config/models.toml`); see "
        "[Models and upstreams](docs/operating.md#models-and-upstreams).",
    )
    rates_file: Path | None = _var(
        "SATMETER_RATES_FILE",
        None,
        "A TOML file of the former format: prices of Anthropic's models, instead of those of `config/models.toml`.",
    )
    rates: dict[str, dict[str, Any]] = _var("SATMETER_RATES", {}, "JSON: rates per model, laid over the file's.")
    tiers: dict[TierName, TierTokens] = _var("SATMETER_TIERS", DEFAULT_TIERS, "JSON: token estimates by size tier.")

    session_min_sats: int = _var("SATMETER_SESSION_MIN_SATS", 100, "Smallest deposit or top-up.", ge=1)
    session_max_sats: int = _var("SATMETER_SESSION_MAX_SATS", 100_000, "Largest deposit or top-up.", ge=1)
    session_life_s: int = _var(
        "SATMETER_SESSION_LIFE_S", 86_400, "Life of a session in seconds; each payment renews it.", ge=60
    )
    session_tokens: int = _var(
        "SATMETER_SESSION_TOKENS",
        4_096,
        "Longest answer in tokens when a session's request names no `maxTokens`.",
        ge=1,
    )
    session_tokens_max: int = _var("SATMETER_SESSION_TOKENS_MAX", 32_000, "Longest answer that it can name.", ge=1)
    session_invoices_max: int = _var("SATMETER_SESSION_INVOICES_MAX", 20, "Unpaid invoices of one session.", ge=1)

    demo_per_hour: int = _var("SATMETER_DEMO_PER_HOUR", 5, "Free demo requests an hour for one IP.", ge=0)
    unpaid_per_ip: int = _var("SATMETER_UNPAID_PER_IP", 100, "Unpaid invoices that one IP may have open.", ge=1)
    unpaid_bytes_per_ip: int = _var(
        "SATMETER_UNPAID_BYTES_PER_IP",
        1_048_576,
        "Bytes that the store keeps for one IP's unpaid jobs and sessions: 2 KiB of each for two days, and a job's "
        "text for some minutes; a /48 has four times as much. Paying gives them back.",
        ge=524_288,
    )
    unpaid_max_bytes: int = _var(
        "SATMETER_UNPAID_MAX_BYTES",
        33_554_432,
        "Bytes that the store keeps for all unpaid jobs and sessions; those of less than 8 KiB may take eight times as "
        "much.",
        ge=1_048_576,
    )
    requests_per_ip: int = _var(
        "SATMETER_REQUESTS_PER_IP",
        50,
        "Requests a second that one IP may make of one front, before they are read, and ten seconds' worth at once; a "
        "POST counts as five, and more with a long body. A /48 may make four times and all together six times as "
        "many. Credentials that have paid are not counted.",
        ge=1,
    )
    connections_per_ip: int = _var(
        "SATMETER_CONNECTIONS_PER_IP",
        256,
        "Connections that one IP may have to one front; a /48 may have four times as many.",
        ge=1,
    )
    connections_max: int = _var(
        "SATMETER_CONNECTIONS_MAX",
        16_384,
        "Connections of one front; fewer where the system does not allow as many open files.",
        ge=16,
    )
    streams_per_ip: int = _var(
        "SATMETER_STREAMS_PER_IP", 64, "Event streams of jobs that one IP may have open at one front.", ge=1
    )
    rate_limits: bool = _var("SATMETER_RATE_LIMITS", True, "`off` for load tests; refused in production.")
    body_limit_bytes: int = _var("SATMETER_BODY_LIMIT_BYTES", 1_048_576, "Largest request body.", ge=1_024)
    llm_body_limit_bytes: int = _var(
        "SATMETER_LLM_BODY_LIMIT_BYTES",
        33_554_432,
        "Largest request body under `/v1/` with the credential of a session that is paid for.",
        ge=1_024,
        le=134_217_728,
    )
    bodies_max_bytes: int = _var(
        "SATMETER_BODIES_MAX_BYTES",
        268_435_456,
        "Bytes of request bodies that one front holds at once, until their calls are answered; a quarter of it is for "
        "one client address. Memory takes about three times as much. Bodies of up to 64 KiB are not counted.",
        ge=1_048_576,
        le=536_870_912,
    )
    ping_s: float = _var(
        "SATMETER_PING_S",
        10.0,
        "Seconds after which an answer under way that has nothing to send sends a ping, comment or line break: proxies "
        "close what is silent.",
        gt=0,
        le=15,
    )
    keep_alive_s: int = _var(
        "SATMETER_KEEP_ALIVE_S",
        75,
        "Seconds for which an idle connection stays open: longer than a proxy pools it (nginx 60 s), which would send "
        "a request into one that is being closed.",
        ge=1,
        le=3_600,
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = _var(
        "SATMETER_CORS_ORIGINS",
        ("*",),
        "Origins, by comma, whose pages may call the API from a browser: `*` is all of them, `off` none. The "
        "operator's paths are never among them.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = _var(
        "SATMETER_TRUSTED_PROXIES", (), "Addresses or networks, by comma, whose X-Forwarded-For is believed."
    )

    allow_store_loss: Annotated[tuple[StoreLoss, ...], NoDecode] = _var(
        "SATMETER_ALLOW_STORE_LOSS",
        (),
        "What a store of your own may lose in production, by comma: `everysec` (`appendfsync everysec`: about the last "
        "second, with the machine), `no` (`appendfsync no`), `rewrite` (`no-appendfsync-on-rewrite yes`), `unknown` "
        "(it does not show its configuration). Debits and refunds that it loses are forgotten.",
    )
    webhook_allow: Annotated[tuple[str, ...], NoDecode] = _var(
        "SATMETER_WEBHOOK_ALLOW",
        (),
        "Hosts, addresses or networks, by comma, that webhooks may go to, and refunds' destinations be asked at, "
        "although they are not public, by any port and also by http.",
    )
    public_url: str | None = _var(
        "SATMETER_PUBLIC_URL",
        None,
        "Where clients reach this server, as `https://example.org`: LNURL-withdraw links, by which a phone fetches a "
        "refund, need it.",
    )
    plain_http_allow: Annotated[tuple[str, ...], NoDecode] = _var(
        "SATMETER_PLAIN_HTTP_ALLOW",
        (),
        "Hosts in a network of yours, by comma, that keys may be sent to by `http://`, and in production the store be "
        "reached at by `redis://`; else only this machine may be.",
    )
    macaroon_root_key: SecretStr | None = _var(
        "MACAROON_ROOT_KEY", None, "32 bytes in hex; all credentials derive from it."
    )
    macaroon_root_key_previous: SecretStr | None = _var(
        "MACAROON_ROOT_KEY_PREVIOUS",
        None,
        "Another root key whose credentials are valid: see [Keys and secrets](docs/operating.md#keys-and-secrets).",
    )
    operator_token: SecretStr | None = _var(
        "OPERATOR_TOKEN", None, "Opens the operator's pages, and `/metrics` as a bearer token."
    )
    metrics_port: int | None = _var(
        "SATMETER_METRICS_PORT",
        None,
        "A port of its own, at the same address, for `/metrics` without the token. Keep it from strangers.",
        ge=1,
        le=65_535,
    )
    otlp_endpoint: str | None = _var(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        None,
        "Address of a collector of traces (OTLP over HTTP), with `pip install 'satmeter[traces]'`: see "
        "[Traces](docs/operating.md#traces).",
    )

    @field_validator(
        "cors_origins", "trusted_proxies", "webhook_allow", "plain_http_allow", "allow_store_loss", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value == ("off",):
            return ()
        for origin in value:
            # A browser compares whole texts: one with a path or a slash at its end would never fit.
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"`{origin}` must be `*`, or an origin as browsers send it, such as https://app.example"
                )
        return value

    @field_validator("public_url")
    @classmethod
    def _public_url_is_one(cls, value: str | None) -> str | None:
        if value is None:
            return None
        found = _PUBLIC_URL.fullmatch(value)
        if found is None or (found["scheme"] == "http" and not _is_this_machine(found["host"])):
            raise ValueError("must be as `https://example.org`, without a path; `http://` only for this machine")
        return value.rstrip("/")

    @field_validator("tiers", mode="before")
    @classmethod
    def _read_tiers(cls, value: Any) -> Any:
        tiers = msgspec.convert(
            value, dict[TierName, TierTokens]
        )  # pydantic can't build these; msgspec raises a ValueError
        for size, tier in tiers.items():
            if min(msgspec.structs.astuple(tier)) < 1 or tier.output_tokens > tier.max_tokens:
                raise ValueError(f"{size}: tokens must be at least 1, and output_tokens at most max_tokens")
        return tiers

    @field_validator("lnd_macaroon")
    @classmethod
    def _macaroon_is_hex(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _HEX.fullmatch(value.get_secret_value()):
            raise ValueError("must be the macaroon in hex: for LND's own file, set LND_MACAROON_FILE")
        return value

    @field_validator("macaroon_root_key", "macaroon_root_key_previous")
    @classmethod
    def _root_key_is_32_bytes(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_hex_of(value.get_secret_value(), 32):
            raise ValueError("must be 32 bytes in hex: 64 characters of 0-9 and a-f")
        return value

    @property
    def production(self) -> bool:
        """True in production, where stubs are refused."""
        return self.env is Environment.PRODUCTION

    @property
    def eval_expiry_s(self) -> int:
        """Life of the invoice for a job's evaluation, in seconds."""
        return min(self.job_expiry_s, self.invoice_expiry_s)


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_hex_of(text: str, length_bytes: int) -> bool:
    try:
        return len(text) == 2 * length_bytes and len(bytes.fromhex(text)) == length_bytes
    except ValueError:
        return False
