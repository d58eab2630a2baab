"""The layers hold, and importing the plugin stays cheap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_no_module_imports_against_the_layers() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_importing_the_plugin_loads_nothing_heavy() -> None:
    code = (
        "import sys; import hermes_apprentice.plugin; "
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("numpy", "onnxruntime", "pydantic", "aiohttp", "httpx", "typer", "torch"):
        assert f"'{heavy}'" not in done.stdout


def test_the_base_install_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; "
        "import hermes_apprentice.interfaces.cli.main, hermes_apprentice.router.server, "
        "hermes_apprentice.demo.story"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
