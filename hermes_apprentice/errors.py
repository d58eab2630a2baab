"""Every exception of the product, on one page.

The docstring of a class is its default message, so it is written for the
operator. A rejection by the gate, an operator's "no", an empty poll and a
request that matches no pattern are values, not errors.

    ApprenticeError
    ├── ConfigError
    ├── MissingExtraError
    ├── ModelStoreError
    ├── StorageError
    │   └── LeaseHeldError
    ├── TenantError
    ├── SessionDBError
    ├── DatasetError
    │   ├── NotEnoughExamplesError
    │   └── RedactionError
    ├── TrainingError
    │   ├── ProviderError
    │   └── BudgetExceededError
    ├── EvaluationError
    │   └── SplitMismatchError
    ├── RegistryError
    │   ├── SignatureError
    │   └── UnknownVersionError
    ├── ArtefactError
    ├── ServingError
    │   ├── NotReadyError
    │   ├── UnknownModelError
    │   └── AdapterError
    ├── UpstreamError
    │   ├── UpstreamTimeoutError
    │   └── UpstreamStatusError
    ├── ReplyError
    │   └── KindError
    └── DeliveryError
"""

from __future__ import annotations

import inspect
import os


class ApprenticeError(Exception):
    """Something in Apprentice failed."""

    def __init__(self, message: str | None = None) -> None:
        """Use ``message``, or the first paragraph of the class docstring."""
        super().__init__(message or (inspect.getdoc(type(self)) or "").split("\n\n")[0])


class ConfigError(ApprenticeError):
    """A setting is missing or wrong; correct it and run the command again."""


class MissingExtraError(ApprenticeError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        """Name the ``feature`` that was asked for and the ``extra`` that provides it."""
        super().__init__(
            f"{feature} needs the extra '{extra}': pip install 'hermes-apprentice[{extra}]'"
        )


class ModelStoreError(ApprenticeError):
    """A model file is missing, could not be fetched, or has the wrong sha256."""


class StorageError(ApprenticeError):
    """Apprentice's own database could not be read or written."""


class LeaseHeldError(StorageError):
    """Another process is doing this work right now; try again when it has finished."""


class TenantError(ApprenticeError):
    """There is no such tenant, or what was asked for it cannot be done."""


class SessionDBError(ApprenticeError):
    """Hermes' session database is missing, locked, or has an unknown schema."""


class DatasetError(ApprenticeError):
    """A dataset could not be built."""


class NotEnoughExamplesError(DatasetError):
    """Too few examples remain after filtering."""


class RedactionError(DatasetError):
    """A text could not be redacted with certainty; nothing was written."""


class TrainingError(ApprenticeError):
    """A training run failed; its log says why."""


class ProviderError(TrainingError):
    """The cloud provider failed."""


class BudgetExceededError(TrainingError):
    """The run would pass the spending ceiling."""


class EvaluationError(ApprenticeError):
    """A specialist could not be evaluated."""


class SplitMismatchError(EvaluationError):
    """The scores come from different test splits and cannot be compared."""


class RegistryError(ApprenticeError):
    """The registry of specialists could not be read or written."""


class SignatureError(RegistryError):
    """A signed entry does not match its signature or its files.

    The version is never served. Train it again, or remove it.
    """


class UnknownVersionError(RegistryError):
    """The registry has no such specialist or version."""


class ArtefactError(ApprenticeError):
    """The files of a specialist are incomplete or of another format; train it again."""


class ServingError(ApprenticeError):
    """The server that runs generators failed."""


class NotReadyError(ServingError):
    """The server that runs generators is not up; the upstream answers meanwhile."""


class UnknownModelError(ServingError):
    """The server that runs generators does not have the adapter any more."""


class AdapterError(ServingError):
    """An adapter is not served: its files, its room or its canary are not in order."""


class UpstreamError(ApprenticeError):
    """The upstream model's endpoint failed."""


class UpstreamTimeoutError(UpstreamError):
    """The upstream model's endpoint did not answer in time."""


class UpstreamStatusError(UpstreamError):
    """The upstream answered with an error status, which is passed on unchanged."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Carry the upstream's ``status``, those of its ``headers`` that may pass, and ``body``."""
        super().__init__(f"the upstream answered with status {status}")
        self.status = status
        self.headers = headers
        self.body = body


class ReplyError(ApprenticeError):
    """The reply was not understood, or no open proposal fits it."""


class KindError(ReplyError):
    """Such answers can never come from this kind of specialist."""


class DeliveryError(ApprenticeError):
    """A message to the operator could not be delivered."""


def place_of(error: BaseException) -> str:
    """Return type and place of an error, for a log, without its message.

    Messages of foreign errors may quote what a user wrote, or a key.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    file = os.path.basename(code.co_filename)
    return f"{type(error).__name__} in {code.co_name} ({file}, line {trace.tb_lineno})"
