"""Measure recall and precision of the redaction per kind of personal data.

    python benchmarks/redaction_quality.py --data DIR --json

`DIR/pii/synth_dataset_v2.json` is the public set of microsoft/presidio-research
(MIT). Methods, all in one run: `ours`; `presidio`, its own default recognisers
without a language model and without network; `regex`, the two patterns for
e-mail and phone that most projects start with.

A labelled value counts as recalled only if every letter and digit of it lies
inside findings of its kind. A finding counts as right if it overlaps a value
labelled with its kind. `order_identifiers` are invented order texts without
personal data: every finding there is wrong. `json_record` and `table_row` hold
the labelled values of the kinds we cover, under a plain key. `clinc150` are everyday requests;
their authors labelled no personal data. `latency` is per text of about 32 tokens.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import string
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from hermes_apprentice.privacy.analyzer import Analyzer, installed_model
from hermes_apprentice.privacy.redaction import Redactor

KINDS = {
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "CREDIT_CARD": "CREDIT_CARD",
    "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP",
    "DOMAIN_NAME": "URL",
    "URL": "URL",
    "MAC_ADDRESS": "MAC",
    "CRYPTO": "CRYPTO",
    "US_SSN": "SSN",
    "US_PASSPORT": "PASSPORT",
    "US_DRIVER_LICENSE": "DRIVER_LICENCE",
    "STREET_ADDRESS": "ADDRESS",
    "PERSON": "PERSON",
    "GPE": "PLACE",
    "LOCATION": "PLACE",
    "ORGANIZATION": "ORGANISATION",
    "NRP": "GROUP",
    "DATE_TIME": "DATE_TIME",
    "TITLE": "TITLE",
    "AGE": "AGE",
    "ZIP_CODE": "ZIP_CODE",
}
"""Our name for each kind of the public set and of Presidio."""


class Span(NamedTuple):
    """A part of a text and the kind it was labelled or found as."""

    kind: str
    start: int
    end: int


Finder = Callable[[str], list[Span]]


def ours() -> Finder:
    analyzer = Analyzer(model=installed_model())
    analyzer.load()
    return lambda text: [Span(str(f.kind), f.start, f.end) for f in analyzer.find(text)]


def presidio() -> Finder:
    import logging

    import spacy
    import tldextract.tldextract
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    logging.getLogger("presidio-analyzer").setLevel(logging.CRITICAL)
    # Its default would fetch the public suffix list; the bundled snapshot is what it falls back to.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(
        cache_dir=None, suffix_list_urls=(), fallback_to_snapshot=True
    )
    blank = SpacyNlpEngine()
    blank.nlp = {"en": spacy.blank("en")}
    engine = AnalyzerEngine(nlp_engine=blank)

    def find(text: str) -> list[Span]:
        results = engine.analyze(text, language="en")
        return [Span(KINDS.get(r.entity_type, r.entity_type), r.start, r.end) for r in results]

    return find


def regex() -> Finder:
    patterns = {
        "EMAIL": re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"),
        "PHONE": re.compile(r"\+?\(?\d[\d\s().-]{7,}\d"),
    }
    return lambda text: [
        Span(kind, m.start(), m.end()) for kind, p in patterns.items() for m in p.finditer(text)
    ]


Figures = dict[str, float | None]
Rows = Sequence[tuple[str, list[Span]]]


def score(rows: Rows, find: Finder) -> dict[str, Figures]:
    """Return recall, precision and counts by kind."""
    gold: dict[str, int] = {}
    recalled: dict[str, int] = {}
    found: dict[str, int] = {}
    right: dict[str, int] = {}
    stray: dict[str, int] = {}
    for text, labelled in rows:
        spans = find(text)
        for label in labelled:
            gold[label.kind] = gold.get(label.kind, 0) + 1
            open_places = {i for i in range(label.start, label.end) if text[i].isalnum()}
            for span in spans:
                if span.kind == label.kind:
                    open_places -= set(range(span.start, span.end))
            recalled[label.kind] = recalled.get(label.kind, 0) + (not open_places)
        for span in spans:
            found[span.kind] = found.get(span.kind, 0) + 1
            touched = [s for s in labelled if s.start < span.end and span.start < s.end]
            kinds = {s.kind for s in touched}
            # The public set labels every date alike.
            is_right = span.kind in kinds or (span.kind == "BIRTH_DATE" and "DATE_TIME" in kinds)
            right[span.kind] = right.get(span.kind, 0) + is_right
            stray[span.kind] = stray.get(span.kind, 0) + (not touched)
    return {
        kind: {
            "recall": round(recalled.get(kind, 0) / gold[kind], 3) if kind in gold else None,
            "precision": round(right[kind] / found[kind], 3) if found.get(kind) else None,
            "labelled": gold.get(kind, 0),
            "found": found.get(kind, 0),
            "stray": stray.get(kind, 0),
        }
        for kind in sorted({*gold, *found})
    }


def order_texts(count: int, seed: int) -> list[str]:
    """Invent order texts full of identifiers, amounts and dates, without personal data."""
    rng = random.Random(seed)

    def digits(n: int) -> str:
        return "".join(rng.choices(string.digits, k=n))

    def letters(n: int) -> str:
        return "".join(rng.choices(string.ascii_uppercase, k=n))

    shapes: list[Callable[[], str]] = [
        lambda: f"{letters(2)}-{digits(4)}-{letters(1)}",
        lambda: f"{letters(3)}{digits(6)}",
        lambda: f"{digits(4)}-{digits(3)}-{digits(2)}",
        lambda: f"{digits(3)}.{digits(3)}.{digits(2)}",
        lambda: f"{letters(1)}{digits(2)}-{digits(3)}/{digits(2)}",
        lambda: digits(8),
        lambda: digits(10),
        lambda: f"{digits(3)}-{digits(3)}-{digits(4)}",
        lambda: "4" + digits(12),
        lambda: f"{letters(2)}{digits(2)} {digits(4)} {digits(4)}",
        lambda: f"{digits(2)}-{digits(5)}",
    ]
    labels = ["order", "PO", "SKU", "item", "article", "ref", "invoice", "part no.", "EAN", "lot"]
    texts = []
    for _ in range(count):
        item, other, label = rng.choice(shapes)(), rng.choice(shapes)(), rng.choice(labels)
        some, more = rng.randint(1, 999), rng.randint(2, 60)
        day = f"{rng.randint(2024, 2027)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        price = f"{rng.randint(1, 99)}.{digits(2)}"
        texts.append(
            rng.choice(
                [
                    f"Please send {some} x {item} and {more} of {other} by {day}.",
                    f"{label} {digits(rng.randint(6, 12))}: {item}, qty {some}, 1,{digits(3)} USD",
                    f"sku;qty;price\n{item};{some};{price}\n{other};{more};{price}",
                    json.dumps({"order_id": digits(10), "sku": item, "quantity": some}),
                    f"Where is {label} {item}? Tracking {letters(2)}{digits(9)}{letters(2)}.",
                    f"Call me when {label} {item} ships, it was due on {day}.",
                    f"The card said {label} {other}, {more} pieces at {price} each.",
                ]
            )
        )
    return texts


def structured(rows: Rows) -> dict[str, list[tuple[str, list[Span]]]]:
    """Put the labelled values into JSON records and table rows, under a plain key."""
    keys = {
        "EMAIL": "mail",
        "PHONE": "customer_phone",
        "CREDIT_CARD": "card_number",
        "IBAN": "iban",
        "IP": "client_ip",
        "SSN": "ssn",
        "URL": "website",
        "DRIVER_LICENCE": "driving licence",
    }
    cases: dict[str, list[tuple[str, list[Span]]]] = {"json_record": [], "table_row": []}
    for text, labelled in rows:
        for span in labelled:
            key, value = keys.get(span.kind), text[span.start : span.end]
            if key is None:
                continue
            record = f'{{"id": 48213, "{key}": {json.dumps(value)}, "qty": 3}}'
            table = f"| id | {key} | qty |\n|---|---|---|\n| 48213 | {value} | 3 |"
            for case, whole in (("json_record", record), ("table_row", table)):
                start = whole.index(value)
                cases[case].append((whole, [Span(span.kind, start, start + len(value))]))
    return cases


def overall(by_kind: dict[str, Figures]) -> Figures:
    """Sum the figures of all kinds."""
    labelled = sum(f["labelled"] or 0 for f in by_kind.values())
    found = sum(f["found"] or 0 for f in by_kind.values())
    recalled = sum((f["recall"] or 0) * (f["labelled"] or 0) for f in by_kind.values())
    right = sum((f["precision"] or 0) * (f["found"] or 0) for f in by_kind.values())
    return {
        "recall": round(recalled / labelled, 3) if labelled else None,
        "precision": round(right / found, 3) if found else None,
        "labelled": labelled,
        "found": found,
    }


def stray_rate(texts: Sequence[str], find: Finder) -> Figures:
    """Return how many of 1,000 texts have a finding; all are wrong."""
    hit = sum(1 for text in texts if find(text))
    return {"texts": len(texts), "texts_with_findings_per_1000": round(1000 * hit / len(texts), 2)}


def latency(texts: Sequence[str], run: Callable[[str], object]) -> Figures:
    """Return milliseconds per text."""
    for text in texts[:20]:
        run(text)
    taken = []
    for text in texts:
        start = time.perf_counter()
        run(text)
        taken.append((time.perf_counter() - start) * 1e3)
    cuts = statistics.quantiles(taken, n=100)
    return {"p50_ms": round(statistics.median(taken), 4), "p99_ms": round(cuts[98], 4)}


def latency_texts(count: int, *, personal: bool) -> list[str]:
    """Invent requests of about 32 tokens; each is new, so that nothing is cached."""
    texts = order_texts(count, seed=5)
    ask = "Hello, could you please turn this into our usual form and confirm it: "
    if not personal:
        return [ask + text for text in texts]
    return [
        f"{ask}{text} Mail buyer{i}@acme-{i}.test or call +49 30 9{i:07}."
        for i, text in enumerate(texts)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with the public data")
    parser.add_argument("--json", action="store_true", help="leave out the table")
    options = parser.parse_args()
    rows: list[tuple[str, list[Span]]] = []
    requests: list[str] = []
    if options.data is None:
        print("without --data only the invented texts are measured")
    else:
        source = options.data / "pii" / "synth_dataset_v2.json"
        if not source.is_file():
            parser.error(f"{source} is missing: give the folder that holds pii/ with --data")
        rows = [
            (
                row["full_text"],
                [
                    Span(KINDS[s["entity_type"]], s["start_position"], s["end_position"])
                    for s in row["spans"]
                ],
            )
            for row in json.loads(source.read_text(encoding="utf-8"))
        ]
        clinc = options.data / "clinc150" / "data_full.json"
        if clinc.is_file():
            requests = [text for text, _ in json.loads(clinc.read_text(encoding="utf-8"))["test"]]
    methods = {"ours": ours(), "presidio": presidio(), "regex": regex()}
    cases: dict[str, dict[str, Figures]] = {}
    for name, find in methods.items():
        if rows:
            for kind, figures in score(rows, find).items():
                cases.setdefault(kind, {})[name] = figures
            for case, made in structured(rows).items():
                cases.setdefault(case, {})[name] = overall(score(made, find))
        if requests:
            cases.setdefault("clinc150", {})[name] = stray_rate(requests, find)
        cases.setdefault("order_identifiers", {})[name] = stray_rate(order_texts(2000, 3), find)
    redactor = Redactor()
    redactor.load()
    for case, personal in (("latency_plain", False), ("latency_personal", True)):
        texts = latency_texts(400, personal=personal)
        cases[case] = {
            "ours": latency(texts, redactor.redact),
            "presidio": latency(texts[:100], methods["presidio"]),
        }
    not_covered = redactor.policy.not_covered
    if not options.json:
        for case, by_method in sorted(cases.items()):
            for name, figures in by_method.items():
                print(f"{case:18} {name:9} {figures}")
    print(f"not covered: {', '.join(not_covered) or 'nothing'} (needs a spaCy model)")
    print("never looked for: ages, titles, post codes, dates other than birth dates")
    print(json.dumps(cases))


if __name__ == "__main__":
    main()
