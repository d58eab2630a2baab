"""Find keys, tokens and passwords in a text.

An exchange with a secret is dropped, not redacted: a secret has no place in a
dataset, not even as a placeholder. Knows nothing about personal data. A hit
says what was found and where, and never carries the secret itself.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretHit:
    """Where a secret stands in a text."""

    kind: str
    """What it is, such as ``aws_access_key`` or ``password_assignment``."""

    start: int
    """Index of its first character."""

    end: int
    """Index after its last character."""


_EDGE = r"(?<![A-Za-z0-9_\-])"
_END = r"(?![A-Za-z0-9_\-])"

_KEYS: tuple[tuple[str, str], ...] = (
    ("anthropic_key", r"sk-ant-[A-Za-z0-9_\-]{20,}"),
    ("openrouter_key", r"sk-or-(?:v1-)?[A-Za-z0-9]{32,}"),
    ("openai_key", r"sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_\-]{20,}"),
    (
        "openai_key",
        r"sk-(?=[A-Za-z0-9]*\d)(?=[A-Za-z0-9]*[A-Z])(?=[A-Za-z0-9]*[a-z])[A-Za-z0-9]{32,}",
    ),
    ("aws_access_key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"),
    ("github_token", r"gh[pousr]_[A-Za-z0-9]{36,}"),
    ("github_token", r"github_pat_[A-Za-z0-9_]{50,}"),
    ("gitlab_token", r"gl(?:pat|dt|rt|cbt|ptt|soat|ft|imt|agent)-[A-Za-z0-9_\-.]{20,}"),
    ("slack_token", r"xox[abeoprs]-[A-Za-z0-9\-]{10,}"),
    ("slack_token", r"xapp-\d-[A-Za-z0-9\-]{20,}"),
    ("google_key", r"AIza[A-Za-z0-9_\-]{35}"),
    ("google_key", r"ya29\.[A-Za-z0-9_\-]{20,}"),
    ("google_key", r"GOCSPX-[A-Za-z0-9_\-]{20,}"),
    ("stripe_key", r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("stripe_key", r"whsec_[A-Za-z0-9]{24,}"),
    ("telegram_bot_token", r"(?:bot)?\d{8,10}:AA[A-Za-z0-9_\-]{32,34}"),
    ("huggingface_token", r"(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    ("npm_token", r"npm_[A-Za-z0-9]{36}"),
    ("pypi_token", r"pypi-AgEI[A-Za-z0-9_\-]{40,}"),
    ("sendgrid_key", r"SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}"),
    ("twilio_key", r"SK[0-9a-f]{32}"),
    ("digitalocean_token", r"do[opr]_v1_[0-9a-f]{64}"),
    ("groq_key", r"gsk_[A-Za-z0-9]{40,}"),
    ("replicate_token", r"r8_[A-Za-z0-9]{30,}"),
    ("xai_key", r"xai-[A-Za-z0-9]{40,}"),
    ("fireworks_key", r"fw_[A-Za-z0-9]{22,}"),
    ("runpod_key", r"rpa_[A-Z0-9]{30,}"),
    ("apprentice_key", r"ap-[0-9a-f]{10}-[0-9a-f]{64}"),
    ("age_key", r"AGE-SECRET-KEY-1[A-Z0-9]{50,}"),
)
_KEY = re.compile(
    "|".join(f"(?P<k{i}>{_EDGE}(?:{form}){_END})" for i, (_, form) in enumerate(_KEYS))
)
# Something that every form above contains, so that most texts need only one quick search.
_KEY_HINT = re.compile(
    r"sk-|sk_|rk_|AKIA|ASIA|ABIA|ACCA|gh[pousr]_|github_pat_|gl[a-z]{2,5}-|xox|xapp-|AIza|ya29"
    r"|GOCSPX|whsec_|:AA|hf_|api_org_|npm_|pypi-|SG\.|SK[0-9a-f]|do\w_v1_|r8_|xai-|fw_|rpa_|AGE-|ap-"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:(?!-----BEGIN )[\s\S])*?-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
)
_JWT = re.compile(rf"{_EDGE}eyJ[A-Za-z0-9_\-]{{8,}}\.[A-Za-z0-9_\-]{{2,}}\.[A-Za-z0-9_\-]*")
_URL_PASSWORD = re.compile(
    r"[a-z][a-z0-9+.\-]{1,20}://[^\s/@:?#\"'<>]*:(?P<value>[^\s/@\"'<>]{1,200})@[^\s@]",
    re.IGNORECASE,
)
_BEARER = re.compile(
    r"\b(?:authorization[\"']?\s*[:=]\s*[\"']?(?:bearer|basic|token)|bearer)\s+"
    r"(?P<value>[A-Za-z0-9_\-.~+/]{16,}=*)",
    re.IGNORECASE,
)
_NAME_START = r"(?-i:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
_PASSWORD_NAME = (
    r"(?:passwords?|passwd|passphrases?|pass[_\-]?code|pwd|kennwort|passwort|mot[ ]de[ ]passe"
    r"|contrase\u00f1a|wachtwoord)"
)
_SECRET_NAME = (
    r"(?:(?:api|access|secret|private|auth|client|signing|encryption|account|service|bot|app|master"
    r"|session|refresh|id)[_\- ]?(?:keys?|tokens?|secrets?)|secrets?|tokens?|credentials?"
    r"|connection[_\- ]?string)"
)
_NAME_END = (
    r"(?:[_\-](?:value|text|plain|old|new|confirm(?:ation)?|prod|dev|test|live|main"
    r"|default|\d{1,2}))?"
)
_ASSIGNED = (
    r"[\"'`]?\]?\s{0,3}(?P<sign>=>|:=|==?|:|\bis\b)\s{0,3}"
    r"(?:\"(?P<double>[^\"\n]{1,200})\"|'(?P<single>[^'\n]{1,200})'|`(?P<tick>[^`\n]{1,200})`"
    r"|(?P<bare>[^\s\"'`,;}\])<>|]{1,200}))"
)
_PASSWORD = re.compile(_NAME_START + _PASSWORD_NAME + _NAME_END + _ASSIGNED, re.IGNORECASE)
_SECRET = re.compile(_NAME_START + _SECRET_NAME + _NAME_END + _ASSIGNED, re.IGNORECASE)
_NAME_HINT = re.compile(
    r"pass|pwd|kennwort|contrase|wachtwoord|secret|token|key|credential|connection", re.IGNORECASE
)
_CODE_VALUE = re.compile(
    r"[$%]?[{(<\[]|\$\w|%\w+%|(?:os|process|self|config|settings|env|secrets|vault)\.\w"
    r"|getenv|input\(",
    re.IGNORECASE,
)
_MASK = re.compile(
    r"[*x\u2022\u25cf.\-_#?]+|<.*|\[?redacted\]?"
    r"|(?:your|my|the|enter|insert|change|example|dummy|fake|placeholder|sample)"
    r"(?:[_\- ][a-z_\- ]*)?",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][a-z]+)?[.!?]?")
_NO_VALUE = frozenset(
    (
        "required optional reset resets forgotten forgot none null true false wrong incorrect "
        "invalid expired missing empty blank changed change hidden secret password token "
        "string text number str bytes int bool object field input see the a an your my it is "
        "was not and or for to in on same strong weak medium protected encrypted hashed "
        "unknown default please enter both new old yes no minimum maximum at must should can "
        "any set unset correct valid accepted rejected"
    ).split()
)
_ENDS_ITEM = re.compile(r"[.!]?\s*(?:[\n,;)\]}|]|\Z)")
_SHORTEST_PASSWORD = 4
_SHORTEST_SECRET = 12
_RANDOM_BITS = 3.0


def find_secrets(text: str) -> tuple[SecretHit, ...]:
    """Return the secrets in ``text``, by place; hits never overlap.

    Known forms of keys count wherever they stand. A value without a known form
    counts only when it is assigned to a name such as ``password`` or
    ``api_key`` and does not read like a word, a variable or a mask.
    """
    hits: list[SecretHit] = []
    if _KEY_HINT.search(text):
        for match in _KEY.finditer(text):
            kind = _KEYS[int((match.lastgroup or "k0")[1:])][0]
            hits.append(SecretHit(kind=kind, start=match.start(), end=match.end()))
    if "PRIVATE KEY" in text:
        hits += _hits("private_key", _PRIVATE_KEY, text)
    if "eyJ" in text:
        hits += [
            SecretHit(kind="jwt", start=m.start(), end=m.end())
            for m in _JWT.finditer(text)
            if _is_json_header(m.group().partition(".")[0])
        ]
    if "://" in text:
        hits += [
            SecretHit(kind="url_password", start=m.start("value"), end=m.end("value"))
            for m in _URL_PASSWORD.finditer(text)
            if not _is_harmless(m.group("value"))
        ]
    if _NAME_HINT.search(text):
        hits += _assigned("password_assignment", _PASSWORD, text)
        hits += _assigned("secret_assignment", _SECRET, text)
    hits += [
        SecretHit(kind="bearer_token", start=m.start("value"), end=m.end("value"))
        for m in _BEARER.finditer(text)
        if _looks_random(m.group("value"))
    ]
    return _without_overlaps(hits)


def _hits(kind: str, pattern: re.Pattern[str], text: str) -> list[SecretHit]:
    return [SecretHit(kind=kind, start=m.start(), end=m.end()) for m in pattern.finditer(text)]


def _assigned(kind: str, pattern: re.Pattern[str], text: str) -> list[SecretHit]:
    hits = []
    for match in pattern.finditer(text):
        group = next(g for g in ("double", "single", "tick", "bare") if match.group(g) is not None)
        value = match.group(group)
        if group == "bare":
            value = value.rstrip(".!?:*)")
        start = match.start(group)
        if _is_harmless(value):
            continue
        if kind == "secret_assignment":
            is_secret = len(value) >= _SHORTEST_SECRET and _looks_random(value)
        else:
            stated = group != "bare" or (
                match.group("sign") != "is" and _ENDS_ITEM.match(text, start + len(value))
            )
            is_secret = _is_password(value, stated=bool(stated))
        if is_secret:
            hits.append(SecretHit(kind=kind, start=start, end=start + len(value)))
    return hits


def _is_password(value: str, *, stated: bool) -> bool:
    """Judge what follows the word password; an ordinary word counts only if it is ``stated``.

    Stated means quoted, or alone after a colon or an equals sign.
    """
    if len(value) < _SHORTEST_PASSWORD:
        return False
    parts = value.split()
    if all(_WORD.fullmatch(part) for part in parts):
        return stated and len(parts) == 1 and parts[0].lower() not in _NO_VALUE
    return True


def _is_harmless(value: str) -> bool:
    return (
        _MASK.fullmatch(value) is not None
        or _CODE_VALUE.match(value) is not None
        or value.lower() in _NO_VALUE
        or value.endswith((")", "(", "}"))
    )


def _looks_random(value: str) -> bool:
    """Say whether ``value`` mixes digits and letters without order (Shannon entropy)."""
    if not (any(c.isdigit() for c in value) and any(c.isalpha() for c in value)) or " " in value:
        return False
    counts = Counter(value)
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())
    return entropy >= _RANDOM_BITS


def _is_json_header(part: str) -> bool:
    """Say whether the first part of a JSON web token decodes to an object, as it must."""
    try:
        header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error):
        return False
    return isinstance(header, dict)


def _without_overlaps(hits: list[SecretHit]) -> tuple[SecretHit, ...]:
    kept: list[SecretHit] = []
    # A known form says more than an assignment, so it wins over one at the same place.
    order = {"secret_assignment": 2, "password_assignment": 1, "bearer_token": 3}
    for hit in sorted(hits, key=lambda h: (order.get(h.kind, 0), h.start, -h.end)):
        if all(hit.end <= other.start or other.end <= hit.start for other in kept):
            kept.append(hit)
    return tuple(sorted(kept, key=lambda h: h.start))
