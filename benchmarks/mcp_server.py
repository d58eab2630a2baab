"""What the MCP server costs: tokens in every prompt, time to start, what sessions leave behind.

`tokens_*` is the list of tools as the server sends it: by four characters to a
token, and with every word and punctuation mark as one (no tokenizer is worse).
`start_s` is the median time from spawning the process to its answer to
`initialize`; `python_mcp_s` is what an interpreter that imports the SDK and
nothing of ours needs, `python_s` one that imports nothing. The soak runs whole
client sessions over HTTP (initialize, list, one call) and compares the server's
memory, threads and open files after the first fifth and at the end.

`one_shot` runs the real `hermes -z`, where it is installed, with Hermes' default
time for finding tools (1.5 s), and counts the runs whose model was offered them.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SERVER = [sys.executable, "-m", "hermes_apprentice.interfaces.mcp_tools"]
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "benchmark", "version": "1"},
    },
}
AT_ONCE = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="not used")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--starts", type=int, default=9, help="how often to start")
    parser.add_argument("--sessions", type=int, default=500, help="length of the soak")
    parser.add_argument("--server-python", help="an interpreter with another MCP SDK")
    parser.add_argument("--one-shots", type=int, default=5, help="runs of Hermes")
    options = parser.parse_args()
    SERVER[0] = options.server_python or sys.executable
    with tempfile.TemporaryDirectory() as home:
        root = str(Path(__file__).resolve().parents[1])
        environment = {**os.environ, "APPRENTICE_HOME": home, "PYTHONPATH": root}
        figures = {
            "sdk": _sdk(),
            **tool_list(environment),
            **starts(environment, options.starts),
            "soak": soak(environment, options.sessions),
            "one_shot": one_shot(Path(home), environment, options.one_shots),
        }
    if not options.json:
        for name, value in figures.items():
            print(name, value, file=sys.stderr)
    print(json.dumps(figures))


def _sdk() -> str:
    code = "from importlib.metadata import version; print(version('mcp'))"
    return subprocess.run(
        [SERVER[0], "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def tool_list(environment: dict[str, str]) -> dict[str, int]:
    """Return how much the list of tools weighs, all of them and the reading ones."""
    figures = {}
    for name, arguments in (("all", []), ("read_only", ["--read-only"])):
        listed = _ask(
            environment,
            arguments,
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
        )
        text = json.dumps(listed["result"], separators=(",", ":"))
        figures |= {
            f"tools_{name}": len(listed["result"]["tools"]),
            f"tokens_{name}_by_characters": -(-len(text) // 4),
            f"tokens_{name}_at_most": len(re.findall(r"\w+|[^\w\s]", text)),
        }
    return figures


def _ask(
    environment: dict[str, str], arguments: list[str], *messages: dict[str, Any]
) -> dict[str, Any]:
    """Start a server, send messages and return the answer to the last one."""
    process = subprocess.Popen(
        SERVER + arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None and process.stdout is not None
    answer: dict[str, Any] = {}
    for message in (HELLO, *messages):
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
        if "id" in message:
            answer = json.loads(process.stdout.readline())
    process.kill()
    process.communicate(timeout=60)
    return answer


def starts(environment: dict[str, str], times: int) -> dict[str, float]:
    """Return the median seconds to start, and those of the interpreter and the SDK alone."""

    def median(once: Any) -> float:
        once()
        seconds = []
        for _ in range(times):
            began = time.perf_counter()
            once()
            seconds.append(time.perf_counter() - began)
        return round(statistics.median(seconds), 3)

    def python(code: str) -> None:
        subprocess.run([SERVER[0], "-c", code], check=True, env=environment)

    return {
        "start_s": median(lambda: _ask(environment, [])),
        "python_mcp_s": median(lambda: python("import mcp.server.lowlevel, mcp.server.stdio")),
        "python_s": median(lambda: python("pass")),
    }


def soak(environment: dict[str, str], sessions: int) -> dict[str, Any]:
    """Return what a server holds after a fifth of the sessions and after all of them."""
    process = subprocess.Popen(
        [*SERVER, "--http", "0"], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split()[-1]
        began = time.perf_counter()
        asyncio.run(_sessions(url, sessions // 5))
        early = _held(process.pid)
        asyncio.run(_sessions(url, sessions - sessions // 5))
        late = _held(process.pid)
        seconds = time.perf_counter() - began
    finally:
        process.terminate()
        process.communicate(timeout=60)
    return {
        "sessions": sessions,
        "sessions_per_s": round(sessions / seconds, 1),
        "after_a_fifth": early,
        "at_the_end": late,
    }


def one_shot(home: Path, environment: dict[str, str], runs: int) -> dict[str, int] | None:
    """Return in how many one-shot runs of Hermes the model was offered our tools."""
    hermes = Path(sys.executable).with_name("hermes")
    if not hermes.exists():
        return None
    seen: list[bool] = []

    class Upstream(BaseHTTPRequestHandler):
        """A model that says one word."""

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if not self.path.endswith("/chat/completions"):
                self.send_error(404)
                return
            names = [tool["function"]["name"] for tool in body.get("tools", ())]
            seen.append(any(name.startswith("mcp__apprentice__") for name in names))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            delta = {"role": "assistant", "content": "Yes."}
            choice = {"index": 0, "delta": delta, "finish_reason": "stop"}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            line = json.dumps({**chunk, "choices": [choice]})
            self.wfile.write(f"data: {line}\n\ndata: [DONE]\n\n".encode())

    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=upstream.serve_forever)
    thread.start()
    try:
        config = {
            "model": {
                "provider": "custom",
                "default": "m",
                "base_url": f"http://127.0.0.1:{upstream.server_port}/v1",
                "api_key": "unused",
                "context_length": 131_072,
            },
            "mcp_servers": {
                "apprentice": {"command": SERVER[0], "args": SERVER[1:], "enabled": True}
            },
        }
        folder = home / "hermes"
        folder.mkdir()
        (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
        for _ in range(runs):
            subprocess.run(
                [hermes, "-z", "Hello."],
                env={**environment, "HERMES_HOME": str(folder), "HOME": str(home)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=180,
                check=True,
            )
    finally:
        upstream.shutdown()
        thread.join()
        upstream.server_close()
    return {"runs": runs, "with_tools": sum(seen)}


async def _sessions(url: str, number: int) -> None:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def one() -> None:
        async with (
            streamable_http_client(url) as (reading, writing, _),
            ClientSession(reading, writing) as client,
        ):
            await client.initialize()
            await client.list_tools()
            answer = await client.call_tool("budget_status", {})
            assert not answer.isError

    for _ in range(number // AT_ONCE):
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))


def _held(pid: int) -> dict[str, float]:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    memory, threads = (
        int(line.split()[1])
        for line in status.splitlines()
        if line.startswith(("VmRSS", "Threads"))
    )
    return {
        "memory_mb": round(memory / 1024, 1),
        "threads": threads,
        "files": len(os.listdir(f"/proc/{pid}/fd")),
    }


if __name__ == "__main__":
    main()
