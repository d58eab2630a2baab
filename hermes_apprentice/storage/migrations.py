"""The schema of Apprentice's database, as an append-only list of migrations.

A migration that has shipped is never edited; a change is a new entry at the end. All stand in
one module, however long, because their order is what counts.
Times are Unix seconds, money is integer micro-dollars, structured values are JSON.
"""

from __future__ import annotations

_LEARNING = """
CREATE TABLE exchanges (
    exchange_id     TEXT PRIMARY KEY,
    profile         TEXT NOT NULL,
    session_id      TEXT NOT NULL,
    source          TEXT NOT NULL,
    turn_index      INTEGER NOT NULL,
    request         TEXT NOT NULL,
    answer          TEXT NOT NULL,
    model           TEXT NOT NULL,
    asked_at        REAL NOT NULL,
    answered_at     REAL NOT NULL,
    context_chars   INTEGER NOT NULL,
    input_tokens    INTEGER NOT NULL,
    output_tokens   INTEGER NOT NULL,
    corrected       INTEGER NOT NULL DEFAULT 0,
    ineligible      TEXT,
    user_row        INTEGER NOT NULL,
    answer_row      INTEGER,
    observed_at     REAL NOT NULL
);
CREATE INDEX exchanges_by_session ON exchanges (profile, session_id);
CREATE INDEX exchanges_by_time ON exchanges (asked_at);

CREATE TABLE observer_cursors (
    profile         TEXT PRIMARY KEY,
    state_db        TEXT NOT NULL,
    last_row        INTEGER NOT NULL,
    details         TEXT NOT NULL DEFAULT '{}',
    updated_at      REAL NOT NULL
);

CREATE TABLE embeddings (
    exchange_id     TEXT NOT NULL REFERENCES exchanges ON DELETE CASCADE,
    embedder        TEXT NOT NULL,
    vector          BLOB NOT NULL,
    PRIMARY KEY (exchange_id, embedder)
) WITHOUT ROWID;

CREATE TABLE patterns (
    pattern_id      TEXT PRIMARY KEY,
    slug            TEXT NOT NULL UNIQUE,
    record          TEXT NOT NULL,
    embedder        TEXT NOT NULL,
    centre          BLOB NOT NULL,
    radius          REAL NOT NULL,
    updated_at      REAL NOT NULL
);

CREATE TABLE pattern_members (
    exchange_id     TEXT PRIMARY KEY REFERENCES exchanges ON DELETE CASCADE,
    pattern_id      TEXT NOT NULL REFERENCES patterns ON DELETE CASCADE,
    cosine          REAL NOT NULL
);
CREATE INDEX pattern_members_by_pattern ON pattern_members (pattern_id);

CREATE TABLE candidates (
    candidate_id    TEXT PRIMARY KEY,
    pattern_id      TEXT NOT NULL UNIQUE REFERENCES patterns,
    state           TEXT NOT NULL,
    evidence        TEXT NOT NULL,
    created_at      REAL NOT NULL
);

CREATE TABLE proposals (
    proposal_id     TEXT PRIMARY KEY,
    subject         TEXT NOT NULL,
    nonce           TEXT NOT NULL UNIQUE,
    shown           TEXT NOT NULL,
    deciders        TEXT NOT NULL,
    state           TEXT NOT NULL,
    created_at      REAL NOT NULL,
    expires_at      REAL NOT NULL,
    decided_at      REAL,
    decided_by      TEXT
);

CREATE TABLE outbox (
    message_id      INTEGER PRIMARY KEY AUTOINCREMENT,
    topic           TEXT NOT NULL,
    key             TEXT NOT NULL UNIQUE,
    text            TEXT NOT NULL,
    created_at      REAL NOT NULL,
    delivered_at    REAL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    last_error      TEXT
);
CREATE INDEX outbox_waiting ON outbox (message_id) WHERE delivered_at IS NULL;

CREATE TABLE specialists (
    slug            TEXT PRIMARY KEY,
    pattern_id      TEXT NOT NULL UNIQUE REFERENCES patterns,
    candidate_id    TEXT NOT NULL,
    kind            TEXT NOT NULL,
    step            TEXT NOT NULL,
    reason          TEXT NOT NULL,
    run_id          TEXT NOT NULL,
    version         INTEGER,
    updated_at      REAL NOT NULL
);

CREATE TABLE jobs (
    run_id          TEXT PRIMARY KEY,
    slug            TEXT NOT NULL,
    state           TEXT NOT NULL,
    pid             INTEGER,
    progress        REAL NOT NULL DEFAULT 0,
    note            TEXT NOT NULL DEFAULT '',
    started_at      REAL NOT NULL,
    finished_at     REAL
);
"""

_SERVING = """
CREATE TABLE rollouts (
    slug            TEXT PRIMARY KEY,
    version         INTEGER NOT NULL,
    stage           TEXT NOT NULL,
    share           REAL NOT NULL,
    held            INTEGER NOT NULL DEFAULT 0,
    step_started_at REAL NOT NULL,
    reason          TEXT NOT NULL,
    updated_at      REAL NOT NULL
);

CREATE TABLE comparisons (
    comparison_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    slug            TEXT NOT NULL,
    version         INTEGER NOT NULL,
    at              REAL NOT NULL,
    origin          TEXT NOT NULL,
    agreed          INTEGER,
    answered        INTEGER NOT NULL,
    reason          TEXT NOT NULL DEFAULT ''
);
CREATE INDEX comparisons_by_version ON comparisons (slug, version, comparison_id);

CREATE TABLE ledger (
    entry_id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at                REAL NOT NULL,
    request_id        TEXT NOT NULL,
    tenant            TEXT NOT NULL DEFAULT '',
    session           TEXT NOT NULL DEFAULT '',
    call_kind         TEXT NOT NULL,
    route             TEXT NOT NULL,
    slug              TEXT,
    version           INTEGER,
    reason            TEXT NOT NULL DEFAULT '',
    model             TEXT NOT NULL,
    status            INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL DEFAULT 0,
    cached_tokens     INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    estimated         INTEGER NOT NULL DEFAULT 0,
    cost              INTEGER,
    saved             INTEGER,
    overhead_ms       REAL NOT NULL DEFAULT 0,
    latency_ms        REAL NOT NULL DEFAULT 0
);
CREATE INDEX ledger_by_time ON ledger (at);
CREATE INDEX ledger_by_specialist ON ledger (slug, at);

CREATE TABLE spending (
    spending_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at              REAL NOT NULL,
    slug            TEXT,
    purpose         TEXT NOT NULL,
    amount          INTEGER NOT NULL,
    note            TEXT NOT NULL DEFAULT ''
);
"""

_COURIERS = """
ALTER TABLE outbox ADD COLUMN holder TEXT;
ALTER TABLE outbox ADD COLUMN held_until REAL NOT NULL DEFAULT 0;
CREATE TABLE couriers (
    name            TEXT PRIMARY KEY,
    seen_at         REAL NOT NULL
) WITHOUT ROWID;
"""

_RAISES = """
CREATE TABLE budget_raises (
    raise_id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at              REAL NOT NULL,
    amount          INTEGER NOT NULL CHECK (amount > 0),
    who             TEXT NOT NULL
);
CREATE INDEX spending_by_time ON spending (at);
"""

_TENANTS = """
CREATE TABLE tenants (
    name             TEXT PRIMARY KEY,
    per_minute       INTEGER CHECK (per_minute > 0),
    burst            INTEGER CHECK (burst > 0),
    daily_requests   INTEGER CHECK (daily_requests >= 0),
    monthly_requests INTEGER CHECK (monthly_requests >= 0),
    daily_tokens     INTEGER CHECK (daily_tokens >= 0),
    monthly_tokens   INTEGER CHECK (monthly_tokens >= 0),
    monthly_budget   INTEGER CHECK (monthly_budget >= 0),
    created_at       REAL NOT NULL,
    revoked_at       REAL
);
CREATE TABLE tenant_keys (
    key_id          TEXT PRIMARY KEY,
    tenant          TEXT REFERENCES tenants,
    digest          BLOB NOT NULL,
    created_at      REAL NOT NULL,
    ends_at         REAL
);
CREATE TABLE pattern_owners (
    slug            TEXT PRIMARY KEY,
    tenant          TEXT NOT NULL REFERENCES tenants
);
CREATE TABLE tenant_profiles (
    profile         TEXT PRIMARY KEY,
    tenant          TEXT NOT NULL REFERENCES tenants
);
CREATE TABLE tenant_usage (
    tenant          TEXT NOT NULL,
    period          TEXT NOT NULL,
    requests        INTEGER NOT NULL,
    tokens          INTEGER NOT NULL,
    cost            INTEGER NOT NULL,
    PRIMARY KEY (tenant, period)
);
CREATE INDEX tenant_usage_by_period ON tenant_usage (period);
CREATE INDEX ledger_by_tenant ON ledger (tenant, at);
"""

_CONDUCT = """
ALTER TABLE rollouts ADD COLUMN judged_from REAL NOT NULL DEFAULT 0;
CREATE TABLE attempts (
    attempt_id      INTEGER PRIMARY KEY AUTOINCREMENT,
    slug            TEXT NOT NULL,
    version         INTEGER NOT NULL,
    at              REAL NOT NULL,
    outcome         TEXT NOT NULL,
    took_ms         REAL NOT NULL
);
CREATE INDEX attempts_by_version ON attempts (slug, version, attempt_id);
CREATE TABLE repeats (
    repeat_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    slug            TEXT NOT NULL,
    at              REAL NOT NULL,
    model           TEXT NOT NULL,
    agreed          INTEGER,
    reason          TEXT NOT NULL DEFAULT ''
);
CREATE INDEX repeats_by_slug ON repeats (slug, repeat_id);
CREATE INDEX exchanges_by_session_time ON exchanges (session_id, asked_at);
"""

_MERGES = """
CREATE TABLE merges (
    merge_id        TEXT PRIMARY KEY,
    slug            TEXT NOT NULL,
    state           TEXT NOT NULL,
    record          TEXT NOT NULL,
    updated_at      REAL NOT NULL
);
CREATE TABLE merged_patterns (
    pattern_id      TEXT PRIMARY KEY REFERENCES patterns,
    merged_into     TEXT NOT NULL REFERENCES patterns
);
"""

_CORRECTIONS = """
CREATE TABLE corrections (
    correction_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id      TEXT NOT NULL,
    asked_at        REAL NOT NULL,
    kind            TEXT NOT NULL,
    at              REAL NOT NULL,
    request_digest  TEXT NOT NULL,
    slug            TEXT,
    version         INTEGER,
    UNIQUE (session_id, asked_at, kind)
);
CREATE INDEX corrections_by_time ON corrections (at);
CREATE INDEX ledger_by_session ON ledger (session, at);
"""

_TIERS = """
ALTER TABLE ledger ADD COLUMN tier TEXT NOT NULL DEFAULT '';
"""

_DIGESTS = "ALTER TABLE ledger ADD COLUMN digest TEXT NOT NULL DEFAULT '';"

_TRANSFERS = """
CREATE TABLE imported_members (
    pattern_id      TEXT PRIMARY KEY REFERENCES patterns ON DELETE CASCADE,
    embedder        TEXT NOT NULL,
    dimension       INTEGER NOT NULL,
    vectors         BLOB NOT NULL
);
CREATE TABLE registry_numbers (
    name            TEXT PRIMARY KEY,
    highest         INTEGER NOT NULL
) WITHOUT ROWID;
"""

_CHOSEN_KINDS = """
CREATE TABLE chosen_kinds (
    pattern_id      TEXT PRIMARY KEY REFERENCES patterns ON DELETE CASCADE,
    kind            TEXT NOT NULL
) WITHOUT ROWID;
"""

_JUDGEMENTS = """
CREATE TABLE judgements (
    digest          TEXT PRIMARY KEY,
    answer          TEXT NOT NULL,
    at              REAL NOT NULL
) WITHOUT ROWID;
"""

_FORGOTTEN = """
CREATE TABLE forgotten_sessions (
    session_id      TEXT PRIMARY KEY,
    at              REAL NOT NULL,
    finished        INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE forgotten_turns (
    digest          TEXT PRIMARY KEY
) WITHOUT ROWID;
CREATE TABLE forgetting (
    exchange_id     TEXT PRIMARY KEY,
    pattern_id      TEXT,
    asked_at        REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE reduced_datasets (
    digest          TEXT PRIMARY KEY,
    reduced         TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE tainted_versions (
    slug            TEXT NOT NULL,
    version         INTEGER NOT NULL,
    examples        INTEGER NOT NULL,
    at              REAL NOT NULL,
    PRIMARY KEY (slug, version)
) WITHOUT ROWID;
"""

_AUDITS = """
CREATE TABLE audited_answers (
    request_id      TEXT PRIMARY KEY,
    session_id      TEXT NOT NULL,
    at              REAL NOT NULL,
    model           TEXT NOT NULL,
    answer          TEXT NOT NULL
);
CREATE INDEX audited_answers_by_session ON audited_answers (session_id);
CREATE INDEX ledger_by_request ON ledger (request_id);
"""

_SPOOLS = """
CREATE TABLE spools (
    name            TEXT PRIMARY KEY,
    written         INTEGER NOT NULL
) WITHOUT ROWID;
"""

_RETENTION = """
CREATE TABLE ledger_days (
    at                REAL NOT NULL,
    until             REAL NOT NULL,
    tenant            TEXT NOT NULL,
    call_kind         TEXT NOT NULL,
    route             TEXT NOT NULL,
    slug              TEXT,
    model             TEXT NOT NULL,
    calls             INTEGER NOT NULL,
    failed            INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    cached_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    estimated         INTEGER NOT NULL,
    cost              INTEGER NOT NULL,
    saved             INTEGER NOT NULL,
    unpriced          INTEGER NOT NULL,
    unsaved           INTEGER NOT NULL
);
CREATE INDEX ledger_days_by_time ON ledger_days (at);
CREATE INDEX ledger_days_by_specialist ON ledger_days (slug, until);
CREATE VIEW ledger_sums AS
SELECT at, tenant, call_kind, route, slug, model, 1 AS calls, status >= 400 AS failed,
       prompt_tokens, cached_tokens, completion_tokens, estimated <> 0 AS estimated,
       COALESCE(cost, 0) AS cost, COALESCE(saved, 0) AS saved,
       cost IS NULL AS unpriced, saved IS NULL AS unsaved
FROM ledger
UNION ALL
SELECT at, tenant, call_kind, route, slug, model, calls, failed, prompt_tokens, cached_tokens,
       completion_tokens, estimated, cost, saved, unpriced, unsaved
FROM ledger_days;
CREATE TABLE comparison_sums (
    slug            TEXT NOT NULL,
    version         INTEGER NOT NULL,
    compared        INTEGER NOT NULL,
    agreed          INTEGER NOT NULL,
    abstained       INTEGER NOT NULL,
    everything      INTEGER NOT NULL,
    last_at         REAL NOT NULL,
    PRIMARY KEY (slug, version)
) WITHOUT ROWID;
CREATE TABLE attempt_sums (
    slug            TEXT NOT NULL,
    version         INTEGER NOT NULL,
    runs            INTEGER NOT NULL,
    failed          INTEGER NOT NULL,
    PRIMARY KEY (slug, version)
) WITHOUT ROWID;
"""

MIGRATIONS: tuple[str, ...] = (
    _LEARNING,
    _SERVING,
    _COURIERS,
    _RAISES,
    _TENANTS,
    _CONDUCT,
    _MERGES,
    _CORRECTIONS,
    _TIERS,
    _DIGESTS,
    _TRANSFERS,
    _CHOSEN_KINDS,
    _JUDGEMENTS,
    _FORGOTTEN,
    _AUDITS,
    _SPOOLS,
    _RETENTION,
)
"""One script per version; ``PRAGMA user_version`` counts the applied ones."""
