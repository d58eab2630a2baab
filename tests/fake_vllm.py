"""The part of vLLM's HTTP interface that Apprentice uses, without a model.

An "adapter" is a folder whose weights file holds JSON: what it answers to which request. Runs in a
thread of a test, or as a process of its own in place of vLLM. It has the real one's trap, too:
whoever is being answered while an adapter is loaded gets the newcomer's answer.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

try:
    from hermes_apprentice.domain.prompt import PromptTemplate
    from hermes_apprentice.inference.generator import (
        ADAPTER_CONFIG,
        ADAPTER_DIR,
        ADAPTER_WEIGHTS,
        GeneratorCard,
        write_card,
    )
except ImportError:  # as a process, in an environment that has nothing of ours
    pass

HOLD = "hold"
"""A request with this word is answered when `FakeVllm.go` is set."""


class FakeVllm:
    """What the server knows; every attribute may be changed while it runs."""

    def __init__(self, key: str = "", base: str = "base") -> None:
        self.key = key
        self.base = base
        self.adapters: dict[str, dict[str, str]] = {}
        self.events: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.log_probability: float | None = -0.01
        self.finish = "stop"
        self.lies = False
        self.hold = HOLD
        self.loads_adapters = True
        self.go = threading.Event()
        self.held = threading.Semaphore(0)
        self.running = 0
        self.lock = threading.Lock()
        self._latest = ""

    def start(self, port: int = 0) -> ThreadingHTTPServer:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_GET(self) -> None:
                self.reply(*fake.get(self.path, self.headers.get("Authorization", "")))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.reply(
                    *fake.post(self.path, self.headers.get("Authorization", ""), json.loads(body))
                )

            def reply(self, status: int, data: Any) -> None:
                payload = data.encode() if isinstance(data, str) else json.dumps(data).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(payload)))
                    self.end_headers()
                    self.wfile.write(payload)
                    self.wfile.flush()
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def get(self, path: str, token: str) -> tuple[int, Any]:
        if path == "/metrics":
            return 200, f'vllm:num_requests_running{{engine="0"}} {float(self.running)}\n'
        if self.key and token != f"Bearer {self.key}":
            return 401, {"error": "Unauthorized"}
        if path == "/v1/models":
            with self.lock:
                cards: list[dict[str, Any]] = [{"id": self.base, "parent": None}]
                cards += [{"id": name, "parent": self.base} for name in self.adapters]
            return 200, {"object": "list", "data": cards}
        return 404, {"detail": "Not Found"}

    def post(self, path: str, token: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.key and token != f"Bearer {self.key}":
            return 401, {"error": "Unauthorized"}
        if path == "/v1/chat/completions":
            return self.complete(body)
        if path == "/v1/load_lora_adapter" and self.loads_adapters:
            return self.load(body["lora_name"], Path(body["lora_path"]))
        if path == "/v1/unload_lora_adapter" and self.loads_adapters:
            return self.unload(body["lora_name"])
        return 404, {"detail": "Not Found"}

    def load(self, name: str, folder: Path) -> tuple[int, Any]:
        if self.lies:
            return 200, f"Success: LoRA adapter '{name}' added successfully."
        with self.lock:
            if name in self.adapters:
                return 400, _error(f"The lora adapter '{name}' has already been loaded.")
            try:
                self.adapters[name] = json.loads((folder / "adapter_model.safetensors").read_text())
            except (OSError, ValueError):
                return 404, _error(f"Loading lora {name} failed: No adapter found for {folder}")
            self._latest = name
            self.events.append(f"load {name}")
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> tuple[int, Any]:
        with self.lock:
            if self.adapters.pop(name, None) is None:
                return 404, _error(f"The lora adapter '{name}' cannot be found.")
            self.events.append(f"unload {name}")
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        name, request = body["model"], body["messages"][-1]["content"]
        with self.lock:
            if name not in self.adapters and name != self.base:
                return 404, _error(f"The model `{name}` does not exist.")
            self.running += 1
            latest = self._latest
            self.asked.append(body)
        if self.hold in request:
            self.held.release()
            self.go.wait(20)
        with self.lock:
            self.running -= 1
            # The trap: what was loaded meanwhile took the place of these weights.
            used = name if self._latest == latest else self._latest
            answers = self.adapters.get(used, {})
            text = answers.get(request, answers.get("", "unknown"))
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": self.finish,
        }
        if self.log_probability is not None and body.get("logprobs"):
            tokens = [*text.split(), "<|im_end|>"]
            choice["logprobs"] = {
                "content": [{"token": one, "logprob": self.log_probability} for one in tokens]
            }
        return 200, {"object": "chat.completion", "model": name, "choices": [choice]}


def write_generator(folder: Path, answers: dict[str, str], **changes: Any) -> Path:
    """Write the artefact of a generator that this fake can serve, and return its folder."""
    values: dict[str, Any] = {
        "base_model": "tiny",
        "base_digest": "0" * 64,
        "rank": 8,
        "prompt": PromptTemplate(user="Label: {request}"),
        "chat_template": "{{ messages }}",
        "max_new_tokens": 16,
        "canary_request": "canary",
        "canary_answer": answers["Label: canary"],
    }
    (folder / ADAPTER_DIR).mkdir(parents=True)
    (folder / ADAPTER_DIR / ADAPTER_WEIGHTS).write_text(json.dumps(answers))
    (folder / ADAPTER_DIR / ADAPTER_CONFIG).write_text("{}")
    write_card(folder, GeneratorCard(**{**values, **changes}))
    return folder


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    port = parser.parse_known_args()[0].port
    FakeVllm(key=os.environ.get("VLLM_API_KEY", "")).start(port)
    threading.Event().wait()


if __name__ == "__main__":
    main()
