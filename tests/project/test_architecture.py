"""The layers hold, and importing the plugin stays cheap."""

from __future__ import annotations

import ast
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


def test_what_is_private_to_hermes_is_only_asked_for_with_a_fallback() -> None:
    for path in sorted((ROOT / "hermes_apprentice" / "plugin").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
                continue
            ours = isinstance(node.value, ast.Name) and node.value.id == "self"
            named_tuple = node.attr == "_replace"
            assert ours or named_tuple or node.attr.endswith("__"), (
                f"{path.name}:{node.lineno} {node.attr}"
            )


def test_the_base_install_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; "
        "import hermes_apprentice.interfaces.cli.main, hermes_apprentice.router.server, "
        "hermes_apprentice.demo.story"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
