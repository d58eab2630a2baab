"""The product's settings: read once, passed down, never imported as a global.

One long module on purpose: a line per setting, in one place, in the order of the reference page.
The only module that reads the environment. Order: defaults, then
``settings.toml`` in Apprentice's home, then the environment. Derived paths are
properties, so there are few knobs.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from hermes_apprentice.errors import ConfigError

ADMIN_KEY_ENV = "APPRENTICE_ADMIN_KEY"
"""Variable with the operator's key; Hermes' dashboard finds it in Hermes' ``.env``."""

HOST_ENV = "APPRENTICE_HOST"
"""Variable that a container gets: by which name the machine that it runs on is reached."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0"})
"""Hosts by which a machine means itself."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DetectorSettings(_Section):
    """When requests count as a pattern."""

    min_exchanges: int = Field(default=14, ge=4)
    """Exchanges a cluster needs before it is proposed."""

    min_tightness: float = Field(default=0.5, ge=0, le=1)
    """Mean cosine of a cluster's members to their centre."""

    min_agreement: float = Field(default=0.8, ge=0, le=1)
    """Share of answers that must fit the cluster's shape."""

    min_runs_stable: int = Field(default=2, ge=1)
    """Detection runs in a row that must find a pattern again."""

    coverage_assumed: float = Field(default=0.8, gt=0, le=1)
    """Share of a pattern's requests assumed to be answered, for forecasts."""


class DatasetSettings(_Section):
    """How training data is prepared."""

    redact: bool = True
    """Replace personal data by typed placeholders, when training and when serving."""

    max_chars: int = Field(default=8_000, ge=100)
    """Longest request or answer that is used."""

    min_examples: int = Field(default=40, ge=10)
    """Examples a dataset needs before training starts."""


class TrainerSettings(_Section):
    """How specialists are trained."""

    method: str = Field(default="auto", pattern="^(auto|crf|finetuned)$")
    """How extractors are trained: the better by cross-validation, or one of the two."""

    train_python: str = ""
    """Interpreter of the training environment; empty looks beside Apprentice's own."""

    timeout_seconds: float = Field(default=1_800, gt=0)
    """Longest training run; it is stopped after that."""

    budget_seconds: float = Field(default=150, ge=10)
    """Work that the training of a classifier or an extractor is planned for, in seconds of an idle
    machine with two cores; what does not fit is left out, and the model card says what."""

    seed: int = 7
    """For everything random in training."""

    drop_doubtful: bool = True
    """Do not let a classifier learn from answers that others of the kind say are wrong."""

    base_model: str = "Qwen/Qwen2.5-1.5B-Instruct"
    """Model that generators start from; classifiers and extractors do not use it."""


class GeneratorSettings(_Section):
    """How generators are trained, and run where no server of their own is set."""

    recipe: str = "auto"
    """Name of a recipe; ``auto`` takes the largest that the free GPU memory is enough for."""

    fallback: bool = True
    """Whether a generator is tried where the gate rejects a classifier or an extractor."""

    on_cpu: bool = False
    """Train and run generators without a GPU; hours of work for bases above a few hundred MB."""

    system_text: str = "Answer exactly as in the examples. Write the answer only."
    """What the bare base model is told beside examples, when it is the gate's baseline."""

    keep_system_text: bool = False
    """Put that text before every request of a trained generator; costs its tokens each time."""

    shots: int = Field(default=4, ge=0, le=32)
    """Examples that the bare base model is shown, when it is the gate's baseline."""

    timeout_seconds: float = Field(default=14_400, gt=0)
    """Longest training run of a generator; it is stopped after that, and can be resumed."""

    answer_seconds: float = Field(default=120, gt=0)
    """Longest wait for a batch of answers when the gate asks, and for the base to be loaded."""

    gguf_converter: str = ""
    """Folder of llama.cpp's sources, or path of its ``convert_hf_to_gguf.py``; empty looks for that
    on PATH."""


class GateSettings(_Section):
    """What a specialist must prove before it is registered."""

    min_gain: float = Field(default=0.10, ge=0, le=1)
    """Least gain in F1 over the baseline."""

    agreement_floor: float = Field(default=0.80, ge=0, le=1)
    """Least agreement with the upstream among the answers it gives."""

    min_coverage: float = Field(default=0.30, ge=0, le=1)
    """Least share of requests that it must be sure about."""

    max_invalid: float = Field(default=0.02, ge=0, le=1)
    """Most answers that may be of the wrong shape."""

    target_agreement: float = Field(default=0.95, ge=0, le=1)
    """Agreement that the confidence threshold is chosen for."""

    regression_margin: float = Field(default=0.10, gt=0, lt=1)
    """Share of a parent's requests that a merged specialist may at most leave unanswered more
    than it; half of that it may answer wrongly more."""

    judge_model: str = ""
    """Model of the upstream that tells, for texts in different words, whether they say the same;
    paid for from the budget. Empty asks none, and leaves it to the rule."""

    timeout_seconds: float = Field(default=1_800, gt=0)
    """Longest time the gate may take; its process is ended after that."""


class MatcherSettings(_Section):
    """When a request counts as one of a pattern's."""

    false_route_rate: float = Field(default=0.005, gt=0, lt=1)
    """Bound on the share of other requests that are routed to a pattern."""


class RolloutSettings(_Section):
    """How a specialist earns its traffic."""

    target_agreement: float = Field(default=0.80, gt=0, lt=1)
    """Agreement with the upstream that must be shown before each step."""

    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Chance of promoting a specialist that is below the target."""

    steps: tuple[float, ...] = (0.05, 0.15, 0.25, 0.50, 1.0)
    """Shares of the canary; with the share 1 it is live."""

    min_step_comparisons: int = Field(default=10, ge=1)
    """New comparisons needed at each share."""

    min_step_seconds: float = Field(default=3_600, ge=0)
    """Least time at each share, in seconds."""

    audit_share: float = Field(default=0.02, ge=0, le=1)
    """Share of a live specialist's answers that the upstream is asked about as well."""

    keep_audited: bool = True
    """Keep what the upstream said in audits, so that the next training learns from it."""

    alert_audit_share: float = Field(default=0.2, ge=0, le=1)
    """The audit share while there is evidence that a live specialist's agreement fell; it is
    never less than ``audit_share``, and audits that are switched off stay off."""

    self_agreement_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the compared requests that the upstream is asked twice, and paid twice, to see how
    often it agrees with itself; 0 asks nothing twice."""
    proving_share: float = Field(default=0.2, ge=0, le=1)
    """Share of answers that is audited while a merged specialist proves itself."""

    idle_days: float = Field(default=30, gt=0)
    """Days without a matching request after which a specialist's retirement is proposed."""

    deadline_seconds: float = Field(default=2.0, gt=0)
    """Time a specialist has before the upstream is asked instead."""

    max_failures: float = Field(default=0.05, gt=0, lt=1)
    """Share of a specialist's runs that may fail, time out or give an invalid answer."""

    max_slow: float = Field(default=0.05, gt=0, lt=1)
    """Share of a specialist's runs that may take longer than ``slow_after`` of the deadline."""

    slow_after: float = Field(default=0.5, gt=0, le=1)
    """Part of the deadline after which a run counts as slow."""

    auto_advance: bool = True
    """Whether steps are taken without the operator."""


PROVIDERS: dict[str, tuple[str, str]] = {
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "fireworks": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "minimax": ("https://api.minimax.io/v1", "MINIMAX_API_KEY"),
    "together": ("https://api.together.ai/v1", "TOGETHER_API_KEY"),
}
"""Address and key's variable of providers that are known by name."""


class TierSettings(_Section):
    """One more model endpoint, asked while those before it cannot answer."""

    provider: Literal["", "openrouter", "fireworks", "minimax", "together"] = ""
    """A provider whose address and key's variable are known; empty for any other."""

    base_url: str = Field(default="", pattern=r"^https?://[^\s?#]+$")
    """OpenAI-compatible endpoint; by default the provider's."""

    name: str = Field(default="", pattern=r"^[a-z0-9._-]{0,40}$")
    """Its name in headers, metrics and the ledger; by default the provider, or the host."""

    model: str = ""
    """Name to send upstream; empty keeps what Hermes sends."""

    models: dict[str, str] = {}
    """Names to send upstream by what Hermes sends; goes before ``model``."""

    api_key_env: str = ""
    """Environment variable that holds the key; by default the provider's, empty sends none."""

    api_key_file: Path | None = None
    """File that holds the key, and nothing else; goes before ``api_key_env``."""

    connect_timeout: float = Field(default=10, gt=0)
    """Seconds to reach it."""

    first_byte_timeout: float = Field(default=300, gt=0)
    """Seconds until its answer begins."""

    idle_timeout: float = Field(default=120, gt=0)
    """Seconds between two pieces of an answer."""

    @model_validator(mode="before")
    @classmethod
    def _known_provider(cls, values: Any) -> Any:
        """Fill in what is known of a provider; a key's variable only for its own address."""
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        default = cls.model_fields["base_url"].default
        url, variable = PROVIDERS.get(str(filled.get("provider", "")), (default, ""))
        filled.setdefault("base_url", url)
        if not filled["base_url"]:
            raise ValueError("name a provider, or give base_url")
        place = str(filled["base_url"]).rstrip("/")
        known = next((key for url, key in PROVIDERS.values() if url == place), variable)
        filled.setdefault("api_key_env", "" if filled.get("api_key_file") else known)
        return filled

    @property
    def label(self) -> str:
        """What it is called."""
        known = next((name for name, (url, _) in PROVIDERS.items() if self._is(url)), "")
        return self.name or self.provider or known or self.base_url.split("/")[2].rpartition("@")[2]

    def _is(self, url: str) -> bool:
        return self.base_url.rstrip("/") == url


class UpstreamSettings(TierSettings):
    """The model endpoint that answers everything no specialist is sure of."""

    base_url: str = Field(
        default=PROVIDERS["openrouter"][0], pattern=r"^https?://[^\s?#]+$", validate_default=True
    )
    """OpenAI-compatible endpoint; by default the provider's."""

    api_key_env: str = PROVIDERS["openrouter"][1]
    """Environment variable that holds the key; by default the provider's, empty sends none."""

    context_length: int = Field(default=131_072, ge=64_000)
    """Advertised to Hermes, which refuses less than 64,000."""

    total_timeout: float = Field(default=1_800, gt=0)
    """Seconds for a whole answer, all endpoints together."""

    fallbacks: tuple[TierSettings, ...] = ()
    """Endpoints to ask while this one cannot answer, in this order."""


class VllmSettings(_Section):
    """The model server that answers for generators."""

    server: Literal["off", "child", "service", "url"] = "off"
    """No server, a vLLM of the sidecar's, one that `apprentice vllm` runs, or any at `url`."""

    url: str = ""
    """OpenAI-compatible endpoint that ends in `/v1`: another vLLM, Ollama, llama.cpp."""

    api_key_env: str = ""
    """Environment variable that holds the key for `url`; empty sends none."""

    served_names: dict[str, str] = {}
    """Model name per specialist, for a server that loads no adapters (Ollama, llama.cpp)."""

    python: str = ""
    """Interpreter that has vLLM; empty looks for `.venv-vllm` beside Apprentice's own."""

    base_model: str = ""
    """Base model for vLLM: a folder, or a name that it can fetch."""

    port: int = Field(default=0, ge=0, le=65_535)
    """Port of our vLLM, on loopback only; 0 takes a free one."""

    max_loras: int = Field(default=4, ge=1, le=64)
    """Adapters that are loaded at the same time; the least recently used makes room."""

    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = 16
    """Highest rank of an adapter."""

    max_context: int = Field(default=4_096, ge=128)
    """Longest request and answer together, in tokens."""

    memory_share: float = Field(default=0.9, gt=0, le=1)
    """Share of the GPU's memory that our vLLM takes; without meaning on a CPU."""

    extra_args: tuple[str, ...] = ()
    """Further arguments for our vLLM."""

    pinned: tuple[str, ...] = ()
    """Specialists whose adapters are loaded first and never make room."""

    deadline_seconds: float = Field(default=20, gt=0)
    """Time a generator has before the upstream is asked instead."""

    drain_seconds: float = Field(default=30, gt=0)
    """Longest wait for running answers before an adapter is loaded or unloaded."""

    start_seconds: float = Field(default=900, gt=0)
    """Longest start of our vLLM; it is ended and started again after that."""


class ServerSettings(_Section):
    """Where the sidecar listens."""

    host: str = "127.0.0.1"
    """Address; anything but loopback needs tenants."""

    allowed_hosts: tuple[str, ...] = ("host.docker.internal", "host.containers.internal")
    """Names, beside this machine's own and plain addresses, under which tenants may ask."""

    port: int = Field(default=8765, ge=0, le=65_535)
    """Port; 0 takes a free one."""

    max_body_bytes: int = Field(default=20_000_000, ge=1_000_000)
    """Longest request body."""


class ApprovalSettings(_Section):
    """Who decides, and for how long a question stands."""

    deciders: tuple[str, ...] = ()
    """Platform user ids; empty leaves decisions to the CLI on this machine."""

    expiry_days: float = Field(default=14, gt=0)
    """Days until a proposal expires."""


class BudgetSettings(_Section):
    """What may be spent."""

    monthly_dollars: float = Field(default=0, ge=0, allow_inf_nan=False)
    """Ceiling for paid training in a month; 0 means none is paid for."""


class LedgerSettings(_Section):
    """How long single calls are kept."""

    keep_days: float = Field(default=400, ge=62)
    """Days until calls are added up per day, and old evidence to counts; sums stay for ever."""


class McpSettings(_Section):
    """What the MCP server offers to Hermes' agent."""

    read_only: bool = False
    """Offer only the tools that read."""

    allow_actions: tuple[
        Literal["dispatch_training", "propose_merge", "demote", "rollback"], ...
    ] = ()
    """Tools that act at once instead of asking the operator first."""


class IsolationSettings(_Section):
    """Where Apprentice runs, seen from Hermes; written by ``apprentice setup``."""

    profile: Literal["none", "docker", "firecracker"] = "none"
    """Beside Hermes, in a container, or in a microVM."""

    sidecar_url: str = ""
    """Where Hermes reaches the sidecar; empty goes by the profile and ``server.port``."""

    container: str = Field(default="hermes-apprentice", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the container."""

    docker_host: str = ""
    """Where Docker listens, if not at its usual place; Hermes passes no DOCKER_HOST on."""

    guest: str = Field(
        default="apprentice@172.31.80.2", pattern=r"^[A-Za-z0-9_.-]+@[A-Za-z0-9.:-]+$"
    )
    """User and address of the microVM, for ssh."""


class ModelSettings(_Section):
    """The embedder."""

    embedder: str = "auto"
    """A name from ``apprentice models list``, or ``auto``."""

    folder: Path | None = None
    """The model store; by default ``models`` in Apprentice's home."""


KEYS = {"upstream_api_key", "fallback_api_keys", "vllm_api_key", "admin_key"}
"""Fields of `Settings` that are never written to a file."""


class Settings(_Section):
    """Everything that can be set."""

    home: Path
    """Apprentice's own folder: database, registry, models, datasets, keys."""

    hermes_home: Path
    """Hermes' folder: ``state.db``, config, profiles."""

    detector: DetectorSettings = DetectorSettings()
    dataset: DatasetSettings = DatasetSettings()
    trainer: TrainerSettings = TrainerSettings()
    generator: GeneratorSettings = GeneratorSettings()
    gate: GateSettings = GateSettings()
    matcher: MatcherSettings = MatcherSettings()
    rollout: RolloutSettings = RolloutSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    server: ServerSettings = ServerSettings()
    vllm: VllmSettings = VllmSettings()
    approvals: ApprovalSettings = ApprovalSettings()
    budget: BudgetSettings = BudgetSettings()
    ledger: LedgerSettings = LedgerSettings()
    mcp: McpSettings = McpSettings()
    models: ModelSettings = ModelSettings()
    isolation: IsolationSettings = IsolationSettings()

    upstream_api_key: SecretStr | None = None
    """Read from where ``upstream.api_key_env`` or ``upstream.api_key_file`` says."""

    fallback_api_keys: tuple[SecretStr | None, ...] = ()
    """The keys of ``upstream.fallbacks``, in their order."""

    vllm_api_key: SecretStr | None = None
    """Read from the variable that ``vllm.api_key_env`` names."""

    admin_key: SecretStr | None = None
    """The operator's key for the sidecar's own pages, read from ``APPRENTICE_ADMIN_KEY``."""

    @property
    def database_path(self) -> Path:
        """Apprentice's own database."""
        return self.home / "apprentice.db"

    @property
    def registry_dir(self) -> Path:
        """Signed specialists."""
        return self.home / "registry"

    @property
    def runs_dir(self) -> Path:
        """Datasets, artefacts and logs of training runs."""
        return self.home / "runs"

    @property
    def spool_dir(self) -> Path:
        """Calls that are answered and not yet in the ledger."""
        return self.home / "spool"

    @property
    def models_dir(self) -> Path:
        """The model store."""
        return self.models.folder or self.home / "models"

    @property
    def keys_dir(self) -> Path:
        """The signing key; readable by its owner only."""
        return self.home / "keys"

    @property
    def skills_dir(self) -> Path:
        """Generated skills, one folder per live specialist; Hermes reads it."""
        return self.home / "skills"

    @property
    def vllm_note(self) -> Path:
        """Where our vLLM listens, and its key; readable by its owner only."""
        return self.home / "vllm.json"

    @property
    def resident_dir(self) -> Path:
        """Verified private copies of the adapters that a model server has loaded."""
        return self.home / "resident"

    @property
    def vllm_log(self) -> Path:
        """What our vLLM writes."""
        return self.home / "vllm.log"

    @property
    def prices_path(self) -> Path:
        """The operator's own prices, if there are any."""
        return self.home / "prices.toml"

    @property
    def bases_path(self) -> Path:
        """The operator's own list of base models, if there is one."""
        return self.home / "supported_models.yaml"

    @property
    def recipes_path(self) -> Path:
        """The operator's own recipes for generators, if there are any."""
        return self.home / "recipes.toml"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        environment: Variables to read instead of the process' own.

    Raises:
        ConfigError: The file cannot be parsed, or a value is out of range.
    """
    variables = os.environ if environment is None else environment
    home = Path(
        variables.get("APPRENTICE_HOME") or platformdirs.user_data_path("hermes-apprentice")
    ).expanduser()
    hermes_home = Path(variables.get("HERMES_HOME") or Path.home() / ".hermes").expanduser()
    path = home / "settings.toml"
    values = _read(path)
    values.setdefault("home", home)
    values.setdefault("hermes_home", hermes_home)
    if variables.get("HERMES_HOME"):
        values["hermes_home"] = hermes_home
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {_wrong(item['type'], item['msg'])}"
            for item in error.errors()
        )
        raise ConfigError(f"{path}: {problems}") from error
    return _as_reached(with_keys(settings, variables), variables.get(HOST_ENV, ""))


def _as_reached(settings: Settings, host: str) -> Settings:
    """Return the settings with the machine's own loopback as a container on it reaches it.

    The same file is read on both sides, and what listens on 127.0.0.1 outside is not there inside.
    """
    if not host:
        return settings
    upstream = settings.upstream
    tiers = tuple(
        one.model_copy(update={"base_url": _moved(one.base_url, host)})
        for one in upstream.fallbacks
    )
    moved = {"base_url": _moved(upstream.base_url, host), "fallbacks": tiers}
    return settings.model_copy(
        update={
            "upstream": upstream.model_copy(update=moved),
            "vllm": settings.vllm.model_copy(update={"url": _moved(settings.vllm.url, host)}),
        }
    )


def _moved(url: str, host: str) -> str:
    parts = urlsplit(url)
    if parts.hostname not in LOOPBACK:
        return url
    user, at, _ = parts.netloc.rpartition("@")
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}{port}"))


def with_keys(settings: Settings, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings with the keys that their own variables and files hold.

    Args:
        settings: Without keys, such as those that a child process was handed.
        environment: Variables to read instead of the process' own.
    """
    variables = os.environ if environment is None else environment
    upstream = settings.upstream
    vllm_key = variables.get(settings.vllm.api_key_env) if settings.vllm.api_key_env else None
    admin_key = variables.get(ADMIN_KEY_ENV, "").strip()
    keys = {
        "admin_key": SecretStr(admin_key) if admin_key else None,
        "upstream_api_key": _key(upstream, variables, settings),
        "fallback_api_keys": tuple(_key(tier, variables, settings) for tier in upstream.fallbacks),
        "vllm_api_key": SecretStr(vllm_key) if vllm_key else None,
    }
    return settings.model_copy(update=keys)


def _wrong(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such setting; correct or remove it, docs/settings.md lists them all"
    return message


def _key(tier: TierSettings, variables: Mapping[str, str], settings: Settings) -> SecretStr | None:
    """Return an endpoint's key; a file that cannot be read is no key, and the sidecar says so."""
    if tier.api_key_file is None:
        name = tier.api_key_env
        key = (variables.get(name) or key_from_files(name, settings)) if name else ""
    else:
        try:
            key = tier.api_key_file.expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            key = ""
    return SecretStr(key.strip()) if key.strip() else None


def key_from_files(name: str, settings: Settings) -> str:
    """Return a key from the files that the sidecar's service reads; nothing where they lack it."""
    for path in (settings.home / "upstream.env", settings.hermes_home / ".env"):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            found, _, value = line.strip().removeprefix("export ").partition("=")
            if found.strip() == name and value.strip("\"' "):
                return value.strip("\"' ")
    return ""


def without_telemetry() -> None:
    """Call before importing onnxruntime, which else makes a device id and tells its maker of it.

    Somebody who has set the variable keeps the value.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Correct or move it.") from error


def child_environment(**changes: str) -> dict[str, str]:
    """Return the environment for a child process: ours, with ``changes`` on top."""
    return {**os.environ, **changes}
