"""Export a registered generator for servers that are not ours."""

from __future__ import annotations

from pathlib import Path

from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.errors import ConfigError, MissingExtraError, UnknownVersionError
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.trainer.environment import find_train_python
from hermes_apprentice.trainer.exporting import export_gguf, export_merged
from hermes_apprentice.trainer.generator import EXTRA


def export(shop: Workshop, slug: str, target: Path, *, gguf: bool = False) -> str:
    """Write the present version of a generator with its base, and return what to tell.

    Args:
        shop: Registry and settings.
        slug: The specialist.
        target: A folder for 16-bit weights, or a GGUF file; must not be there yet.
        gguf: Which of the two.

    Raises:
        UnknownVersionError: There is no such specialist.
        SignatureError: Its files are not as they were signed.
        ConfigError: It is no generator, something is at ``target``, or a tool is missing.
        MissingExtraError: There is no training environment.
        TrainingError: It failed, and why.
    """
    number = shop.registry.alias(slug)
    if number is None:
        raise UnknownVersionError(f"'{slug}' has no registered version.")
    version = shop.registry.open_version(slug, number)
    if version.manifest.kind is not Kind.GENERATOR:
        raise ConfigError(f"'{slug}' is a {version.manifest.kind}; only generators have a base")
    python = find_train_python(shop.settings.trainer.train_python)
    if python is None:
        raise MissingExtraError("exporting a generator", EXTRA)
    with version.checkout() as folder:
        if gguf:
            export_gguf(python, folder, target, shop.settings.generator.gguf_converter)
        else:
            export_merged(python, folder, target)
    return f"'{slug}' version {version.manifest.version} with its base is in {target}."
