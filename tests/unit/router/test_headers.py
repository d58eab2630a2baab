from __future__ import annotations

from multidict import CIMultiDict, CIMultiDictProxy

from hermes_apprentice.router.headers import for_client, for_upstream, uncompressed


def test_neither_our_headers_nor_the_clients_key_reach_the_upstream() -> None:
    sent = for_upstream(
        [
            (b"authorization", b"Bearer sk-client"),
            (b"x-api-key", b"sk-client"),
            (b"api-key", b"sk-client"),
            (b"x-goog-api-key", b"sk-client"),
            (b"ocp-apim-subscription-key", b"sk-client"),
            (b"x-auth-token", b"sk-client"),
            (b"cookie", b"session=sk-client"),
            (b"proxy-authorization", b"Basic sk-client"),
            (b"x-apprentice-tenant", b"ann"),
            (b"x-hermes-session-id", b"20260901"),
            (b"x-stainless-lang", b"python"),
            (b"content-type", b"application/json"),
        ],
        "sk-configured",
    )
    assert dict(sent) == {
        "x-stainless-lang": "python",
        "content-type": "application/json",
        "authorization": "Bearer sk-configured",
    }


def test_without_a_configured_key_none_is_sent() -> None:
    assert "authorization" not in for_upstream([(b"authorization", b"Bearer sk-client")], None)


def test_what_belongs_to_one_connection_stays_there() -> None:
    sent = for_upstream(
        [
            (b"host", b"127.0.0.1"),
            (b"connection", b"keep-alive, X-Custom"),
            (b"connection", b"X-Other"),
            (b"x-custom", b"1"),
            (b"x-other", b"1"),
            (b"te", b"trailers"),
            (b"transfer-encoding", b"chunked"),
            (b"content-length", b"12"),
            (b"expect", b"100-continue"),
            (b"accept", b"*/*"),
        ],
        None,
    )
    assert dict(sent) == {"accept": "*/*"}


def test_only_encodings_that_can_be_read_along_are_asked_for() -> None:
    def asked(value: bytes) -> str:
        return for_upstream([(b"accept-encoding", value)], None)["accept-encoding"]

    assert asked(b"gzip, deflate, br, zstd") == "gzip, deflate"
    assert asked(b"br;q=1.0, gzip;q=0.5") == "gzip;q=0.5"
    assert asked(b"br") == "identity"


def test_repeated_headers_are_kept_apart() -> None:
    sent = for_upstream([(b"x-tag", b"a"), (b"x-tag", b"b")], None)
    assert sent.getall("x-tag") == ["a", "b"]


def test_the_upstreams_headers_pass_but_for_the_connections_own() -> None:
    received = CIMultiDictProxy(
        CIMultiDict(
            [
                ("Content-Type", "application/json"),
                ("Content-Encoding", "gzip"),
                ("Content-Length", "9"),
                ("Transfer-Encoding", "chunked"),
                ("Connection", "close, X-Hop"),
                ("X-Hop", "1"),
                ("Keep-Alive", "timeout=5"),
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
                ("Retry-After", "7"),
                ("x-apprentice-route", "forged"),
            ]
        )
    )
    assert for_client(received) == [
        (b"content-type", b"application/json"),
        (b"content-encoding", b"gzip"),
        (b"content-length", b"9"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"retry-after", b"7"),
    ]


def test_an_answer_can_be_asked_for_uncompressed() -> None:
    asked = uncompressed([(b"accept-encoding", b"gzip, br"), (b"accept", b"*/*")])
    assert asked == [(b"accept", b"*/*"), (b"accept-encoding", b"identity")]
    assert uncompressed([]) == [(b"accept-encoding", b"identity")]
