from __future__ import annotations

import base64
import json
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.privacy.secrets import find_secrets

RNG = random.Random(11)


def _random(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """Make up a key; written out, it would trip every scanner that reads this file."""
    return "aB3" + "".join(RNG.choices(alphabet, k=length - 3))


def _jwt() -> str:
    header, body = ({"alg": "HS256", "typ": "JWT"}, {"sub": "nobody"})
    parts = [
        base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode()
        for p in (header, body)
    ]
    return ".".join([*parts, _random(43)])


KNOWN = [
    ("openai_key", "sk-" + "proj-" + _random(60)),
    ("openai_key", "sk-" + _random(48)),
    ("anthropic_key", "sk-" + "ant-api03-" + _random(80)),
    ("openrouter_key", "sk-" + "or-v1-" + _random(64)),
    ("aws_access_key", "AK" + "IA" + "Q7XYZ2ABCDEFGH3K"),
    ("github_token", "gh" + "p_" + _random(36)),
    ("github_token", "github" + "_pat_" + _random(70)),
    ("gitlab_token", "gl" + "pat-" + _random(20)),
    ("slack_token", "xo" + "xb-" + "123456789012-" + _random(24)),
    ("google_key", "AI" + "za" + _random(35)),
    ("stripe_key", "sk" + "_live_" + _random(24)),
    ("telegram_bot_token", "1234567890:" + "AA" + _random(33)),
    ("huggingface_token", "hf" + "_" + _random(34)),
    ("jwt", _jwt()),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "secret"), KNOWN, ids=[k for k, _ in KNOWN])
@pytest.mark.parametrize(
    "around", ["{}", "use {} please.", 'key="{}"', '{{"value":"{}"}}', "a,{},b"]
)
def test_known_keys_are_found_wherever_they_stand(kind: str, secret: str, around: str) -> None:
    text = around.format(secret)
    (hit,) = find_secrets(text)
    assert (hit.kind, text[hit.start : hit.end]) == (kind, secret)


def test_a_bot_token_inside_its_address_is_found() -> None:
    text = "https://chat.example.test/bot1234567890:" + "AA" + _random(33) + "/getMe"
    assert [h.kind for h in find_secrets(text)] == ["telegram_bot_token"]


@pytest.mark.parametrize("name", ["RSA ", "OPENSSH ", "EC ", "", "PGP "])
def test_private_key_blocks_are_found_even_when_cut_off(name: str) -> None:
    block = " BLOCK" if name == "PGP " else ""
    begin = f"-----BEGIN {name}PRIVATE KEY{block}-----"
    whole = f"{begin}\nMIIB\n-----END {name}PRIVATE KEY{block}-----"
    (hit,) = find_secrets(f"see:\n{whole}\nbye")
    assert (hit.kind, hit.end - hit.start) == ("private_key", len(whole))
    assert [h.kind for h in find_secrets(f"{begin}\nMIIB")] == ["private_key"]


ASSIGNED = [
    "password: Tiger2024!",
    "password=swordfish",
    "Password: swordfish\nthanks",
    'DB_PASSWORD="correct horse 9 battery"',
    '{"password": "swordfish"}',
    "{'userPassword': 'x9-lamp'}",
    "my password is Tr0ub4dor&3",
    "pwd: hunter2",
    "Passwort: Sommer2024",
    "export API_KEY=9f8a7c6b5d4e3f2a1b0c",
    "api_key: 'q8Zt-44kLm-0aPx'",
    '"client_secret": "Q7xk92mmLpo3Ztr"',
    "auth token = 3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "aws_secret_access_key = wJ4lrXUtnFEMIK7MDENGbPxRfiCYzz81aa",
    "postgres://app:s3cr3t-pw@db.internal:5432/shop",
    "Authorization: Bearer 9f8a7c6b5d4e3f2a1b0c9d8e",
]


@pytest.mark.parametrize("text", ASSIGNED)
def test_values_assigned_to_secret_names_are_found(text: str) -> None:
    assert len(find_secrets(text)) == 1


HARMLESS = [
    "please send 12 x KX-4821-B, SKU A9X2-4471-QQ81, order 4500012345",
    "id 3fa85f64-5717-4562-b3fc-2c963f66afa6 and commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "I forgot my password, it is wrong. Password: required. The password is expired",
    "how do I reset my password? password reset; passwords are hashed",
    "password = os.environ['DB_PASSWORD']",
    "api_key = get_key()",
    "API_KEY=${API_KEY} and token: <your token here>",
    "password: ********, secret: xxxxxxxxxxxxxxxx",
    "api_key: your_api_key_here",
    '{"password": null, "token_count": 4096, "label": "password_reset"}',
    "max tokens: 4096, tokens: 128000, key: KX-4821-B",
    "the secret is out; our secret: more butter and 12 eggs",
    "task-force, risk-averse, sk-learn, desk-lamp-with-dimmer-and-usb-port-white",
    "https://example.test:8080/@pia and mailto:pia@laden.test",
    "ssh://git@code.example.test/repo.git",
    "eyJust.a.word and eyJhbGc.not.base64!",
    "bearer of bad news; the token economy",
    "tracking 1Z999AA10123456784, IBAN DE89370400440532013000",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_talk_and_identifiers_are_no_secrets(text: str) -> None:
    assert [(h.kind, text[h.start : h.end]) for h in find_secrets(text)] == []


def test_a_known_form_names_the_hit_and_overlaps_are_one() -> None:
    text = f'openai_api_key = "{KNOWN[0][1]}"'
    assert [h.kind for h in find_secrets(text)] == ["openai_key"]


def test_a_hit_never_shows_the_secret() -> None:
    (hit,) = find_secrets("password=swordfish")
    assert "swordfish" not in repr(hit)


@given(st.text(max_size=300))
def test_hits_are_in_order_inside_the_text_and_never_overlap(text: str) -> None:
    end = 0
    for hit in find_secrets(text):
        assert end <= hit.start < hit.end <= len(text)
        end = hit.end
