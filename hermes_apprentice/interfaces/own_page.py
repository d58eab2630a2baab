"""Fetches the sidecar's page for whoever may see it here: Hermes' dashboard, the doctor.

The operator's key, where the sidecar wants it, goes to the sidecar and nowhere else: no
proxy is used and no redirection followed. Knows nothing about who is asking.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPMessage
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from hermes_apprentice.settings import ADMIN_KEY_ENV, Settings

PATIENCE = 30.0
"""Seconds for the sidecar to answer."""

_LONGEST = 5_000_000


class Page(NamedTuple):
    """The page, or why there is none."""

    html: str = ""
    """The page."""

    problem: str = ""
    """Why there is none, and what to do; empty where there is one."""

    refused: bool = False
    """Whether the sidecar answered, and did not show it."""


def fetch_page(settings: Settings, patience: float = PATIENCE) -> Page:
    """Return the page, asked for with ``settings.admin_key`` where there is one."""
    url = sidecar_of(settings)
    key = settings.admin_key
    # Whatever proxy the environment names is not the way to this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
    request = urllib.request.Request(f"{url}/dashboard?embedded=on")
    if key is not None:
        request.add_unredirected_header("Authorization", f"Bearer {key.get_secret_value()}")
    try:
        with opener.open(request, timeout=patience) as answer:
            return Page(answer.read(_LONGEST).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        return Page(problem=_refusal(url, error.code, key is not None), refused=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Page(
            problem=f"The sidecar at {url} cannot be reached ({reason}). Start it with "
            "'apprentice serve', or 'systemctl --user start apprentice'."
        )


def sidecar_of(settings: Settings) -> str:
    """Return the sidecar's address, without a path.

    That is where the setup was told that Hermes reaches it, else what it noted itself when it
    started, else what the settings say.
    """
    told = urlsplit(settings.isolation.sidecar_url)
    if told.scheme in ("http", "https") and told.netloc:
        return f"{told.scheme}://{told.netloc}"
    try:
        noted = json.loads((settings.home / "sidecar.json").read_bytes())["url"]
        if urlsplit(noted).scheme == "http":
            # In a container it listens on every address.
            return str(noted).replace("//0.0.0.0", "//127.0.0.1")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    host, port = settings.server.host, settings.server.port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refusal(url: str, code: int, with_key: bool) -> str:
    if code != 401:
        return f"The sidecar at {url} refused to show its page ({code})."
    start = f"The sidecar at {url} shows its page only with the operator's key"
    if with_key:
        start += f", and {ADMIN_KEY_ENV} in Hermes' .env is not it, or not any more"
    return (
        f"{start}. Put {ADMIN_KEY_ENV}=ap-... into Hermes' .env and start this dashboard again; "
        "'apprentice tenants admin-key' makes a key, and ends an older one."
    )


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        return None
