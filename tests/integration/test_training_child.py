"""Training in child processes, with the real embedder."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.evaluation import agrees
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.shape_inference import infer_shape
from hermes_apprentice.domain.training import Method, TrainingJob
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.errors import ArtefactError, MissingExtraError, TrainingError
from hermes_apprentice.inference.artefact import load_model
from hermes_apprentice.trainer.child import Stop
from hermes_apprentice.trainer.environment import find_train_python
from hermes_apprentice.trainer.examples import read_training_data, write_dataset
from hermes_apprentice.trainer.jobs import run_training

MODELS = platformdirs.user_cache_path("hermes-apprentice") / "models"
DEADLINE = 120.0

FLOWERS = ("tulips", "roses", "lilies", "asters", "irises", "peonies", "daisies", "violets")
PEOPLE = ("Marta Lindqvist", "Tom Adeyemi", "Élodie Roux", "Jun Sato", "Pia Novák", "Amir Haddad")
ORDERS = (
    "{n} {f} for {p}, please",
    "Could you deliver {n} {f}? They are for {p}.",
    "{p} would like {n} {f}",
    "Order from {p}: {f}, {n} of them",
)

Rows = list[tuple[str, str]]


def orders(count: int, seed: int) -> Rows:
    """Orders for flowers with their JSON."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        number, flower, person = rng.randint(2, 60), rng.choice(FLOWERS), rng.choice(PEOPLE)
        text = rng.choice(ORDERS).format(n=number, f=flower, p=person)
        gift = rng.random() < 0.4
        if gift:
            text += rng.choice((" It is a present.", " Wrap them as a gift."))
        answer = {"flower": flower, "number": number, "person": person, "gift": gift}
        rows.append((text, json.dumps(answer, ensure_ascii=False)))
    return rows


def moods(count: int, seed: int) -> Rows:
    """Remarks with one of two labels."""
    rng = random.Random(seed)
    remarks = {
        "complaint": ("The parcel was damaged", "Nobody answers my calls", "This is too slow"),
        "praise": ("What a lovely shop", "Quick and friendly, thanks", "I am very happy"),
    }
    labels = rng.choices(list(remarks), k=count)
    return [(f"{rng.choice(remarks[label])} ({rng.randint(1, 99)})", label) for label in labels]


@pytest.fixture
def job(tmp_path: Path, embedder: Embedder) -> Callable[..., TrainingJob]:
    """A factory of jobs on their own dataset."""

    def make(rows: Rows, kind: Kind, **changes: str | Method) -> TrainingJob:
        shape = infer_shape([text for text, _ in rows], [answer for _, answer in rows])
        examples = [
            Example(
                example_id=f"ex-{place}",
                group=f"g{place}",
                split=Split.TRAIN if place % 10 else Split.TEST,
                request=text,
                answer=answer,
                asked_at=float(place),
            )
            for place, (text, answer) in enumerate(rows)
        ]
        write_dataset(tmp_path / "dataset", shape, examples)
        values = {
            "run_id": "run-1",
            "kind": kind,
            "method": Method.AUTO,
            "dataset_dir": str(tmp_path / "dataset"),
            "output_dir": str(tmp_path / "output"),
            "models_dir": str(MODELS),
            "embedder": embedder.name,
            "train_python": "",
            "seed": 7,
        }
        return TrainingJob(**{**values, **changes})  # type: ignore[arg-type]

    return make


def left_behind(job: TrainingJob) -> set[str]:
    return {path.name for path in Path(job.output_dir).iterdir()}


@pytest.mark.parametrize(
    ("make_rows", "kind", "method"),
    [(orders, Kind.EXTRACTOR, Method.CRF), (moods, Kind.CLASSIFIER, Method.HEAD)],
)
def test_a_job_leaves_an_artefact_that_answers_new_requests(
    make_rows: Callable[[int, int], Rows],
    kind: Kind,
    method: Method,
    job: Callable[..., TrainingJob],
    embedder: Embedder,
) -> None:
    task = job(make_rows(90, 1), kind)
    seen: list[float] = []
    result = run_training(task, lambda share, doing: seen.append(share), DEADLINE)
    assert (result.kind, result.method, result.run_id) == (kind, method, "run-1")
    assert (result.embedder, result.base) == (embedder.digest, embedder.name)
    assert list(result.recipe) == sorted(result.recipe) and dict(result.recipe)["seed"] == "7"
    assert seen == sorted(seen) and seen[-1] == 1.0

    output = Path(task.output_dir)
    data = read_training_data(Path(task.dataset_dir))
    lines = (output / "out_of_fold.jsonl").read_text(encoding="utf-8").splitlines()
    held_out = [json.loads(line) for line in lines]
    assert [row["example_id"] for row in held_out] == [one.example_id for one in data.examples]
    assert all(set(row) == {"example_id", "text", "confidence"} for row in held_out)

    model = load_model(output / "artefact", embedder)
    fresh = make_rows(60, 2)
    answers = model.predict(
        [text for text, _ in fresh], embedder.encode([text for text, _ in fresh])
    )
    right = [
        agrees(data.shape, answer.text, wanted)
        for answer, (_, wanted) in zip(answers, fresh, strict=True)
    ]
    assert sum(right) / len(right) >= 0.9


def test_an_artefact_is_loaded_without_torch_or_training_code(
    job: Callable[..., TrainingJob], embedder: Embedder
) -> None:
    task = job(orders(60, 1), Kind.EXTRACTOR)
    run_training(task, lambda share, doing: None, DEADLINE)
    script = (
        "import sys; from pathlib import Path\n"
        "from hermes_apprentice.embedding.onnx_embedder import open_embedder\n"
        "from hermes_apprentice.embedding.store import ModelStore\n"
        "from hermes_apprentice.inference.artefact import load_model\n"
        "embedder = open_embedder(ModelStore(Path(sys.argv[1])), sys.argv[2])\n"
        "model = load_model(Path(sys.argv[3]), embedder)\n"
        "text = '12 roses for Jun Sato, please'\n"
        "print(model.predict([text], embedder.encode([text]))[0].text)\n"
        "heavy = {'torch', 'sklearn', 'scipy', 'hermes_apprentice.trainer'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            task.models_dir,
            task.embedder,
            f"{task.output_dir}/artefact",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["person"] == "Jun Sato"


def test_a_killed_child_leaves_nothing_half_written(job: Callable[..., TrainingJob]) -> None:
    task = job(orders(90, 1), Kind.EXTRACTOR)
    killed: list[int] = []

    def kill(share: float, doing: str) -> None:
        if not killed and share > 0:
            killed.extend(children_of(os.getpid()))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(TrainingError, match="killed by signal 9"):
        run_training(task, kill, DEADLINE)
    assert killed and left_behind(task) == {"job.json", "training.log"}


def test_a_job_that_takes_too_long_is_ended(job: Callable[..., TrainingJob]) -> None:
    task = job(orders(90, 1), Kind.EXTRACTOR)
    with pytest.raises(TrainingError, match="longer than allowed"):
        run_training(task, lambda share, doing: None, timeout=0.5)
    assert left_behind(task) == {"job.json", "training.log"}
    assert children_of(os.getpid()) == []


def test_a_job_can_be_stopped(job: Callable[..., TrainingJob]) -> None:
    task = job(orders(90, 1), Kind.EXTRACTOR)
    stop = Stop()
    with pytest.raises(TrainingError, match="asked to"):
        run_training(task, lambda share, doing: stop.ask(), DEADLINE, stop)
    assert left_behind(task) == {"job.json", "training.log"}


def test_a_child_does_not_outlive_its_parent(job: Callable[..., TrainingJob]) -> None:
    task = job(orders(90, 1), Kind.EXTRACTOR)
    Path(task.output_dir).mkdir()
    request = Path(task.output_dir) / "request.json"
    from hermes_apprentice.trainer.worker import JOB

    request.write_bytes(JOB.dump_json(task))
    script = (
        "import sys; from pathlib import Path\n"
        "from hermes_apprentice.trainer.worker import JOB\n"
        "from hermes_apprentice.trainer.jobs import run_training\n"
        "job = JOB.validate_json(Path(sys.argv[1]).read_bytes())\n"
        "run_training(job, lambda share, doing: print(share, flush=True), 100)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(request)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None and parent.stdout.readline()
        (child,) = children_of(parent.pid)
        parent.kill()
    deadline = time.monotonic() + 20
    while alive(child) and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    assert not alive(child)


def test_an_old_artefact_does_not_survive_a_failed_run(job: Callable[..., TrainingJob]) -> None:
    task = job(moods(60, 1), Kind.CLASSIFIER)
    run_training(task, lambda share, doing: None, DEADLINE)
    (Path(task.dataset_dir) / "examples.jsonl").unlink()
    with pytest.raises(TrainingError, match="Build it again"):
        run_training(task, lambda share, doing: None, DEADLINE)
    assert "artefact" not in left_behind(task) and "result.json" not in left_behind(task)


def test_a_job_that_cannot_be_done_says_why(job: Callable[..., TrainingJob]) -> None:
    rows = [(f"remark {number}", "praise") for number in range(30)]
    with pytest.raises(TrainingError, match="two labels"):
        run_training(job(rows, Kind.CLASSIFIER), lambda share, doing: None, DEADLINE)


def test_a_full_disk_is_named_and_leaves_nothing_behind(job: Callable[..., TrainingJob]) -> None:
    task = job(orders(60, 1), Kind.EXTRACTOR)
    Path(task.output_dir).mkdir()
    request = Path(task.output_dir).parent / "request.json"
    from hermes_apprentice.trainer.worker import JOB

    request.write_bytes(JOB.dump_json(task))
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from hermes_apprentice.errors import TrainingError\n"
        "from hermes_apprentice.trainer.worker import JOB\n"
        "from hermes_apprentice.trainer.jobs import run_training\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "job = JOB.validate_json(Path(sys.argv[1]).read_bytes())\n"
        "try:\n"
        "    run_training(job, lambda share, doing: None, 100)\n"
        "except TrainingError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(request)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert "no room" in done.stdout, done.stderr
    assert left_behind(task) == {"job.json", "training.log"}


def test_fine_tuning_without_its_environment_names_the_extra(
    job: Callable[..., TrainingJob],
) -> None:
    task = job(orders(30, 1), Kind.EXTRACTOR, method=Method.FINETUNED)
    with pytest.raises(MissingExtraError, match=r"hermes-apprentice\[train\]"):
        run_training(task, lambda share, doing: None, DEADLINE)


def test_a_training_environment_that_fails_is_reported(
    job: Callable[..., TrainingJob], tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n", encoding="utf-8")
    broken.chmod(0o755)
    task = job(orders(30, 1), Kind.EXTRACTOR, method=Method.FINETUNED, train_python=str(broken))
    with pytest.raises(TrainingError, match="status 3: out of luck"):
        run_training(task, lambda share, doing: None, DEADLINE)


@pytest.mark.train_env
@pytest.mark.slow
def test_a_fine_tuned_encoder_is_served_without_torch(
    job: Callable[..., TrainingJob], embedder: Embedder
) -> None:
    python = find_train_python("")
    if python is None:
        pytest.skip("there is no training environment; `make env` makes it")
    task = job(orders(40, 1), Kind.EXTRACTOR, method=Method.FINETUNED, train_python=python)
    result = run_training(task, lambda share, doing: None, 280)
    assert result.method is Method.FINETUNED
    assert dict(result.recipe)["finetuned.precision"].startswith(("int8", "float32"))
    model = load_model(Path(task.output_dir) / "artefact", embedder)
    fresh = orders(40, 2)
    answers = model.predict(
        [text for text, _ in fresh], embedder.encode([text for text, _ in fresh])
    )
    right = sum(
        json.loads(answer.text) == json.loads(wanted)
        for answer, (_, wanted) in zip(answers, fresh, strict=True)
    )
    assert right >= 32
    assert "torch" not in sys.modules


def children_of(parent: int) -> list[int]:
    """Return the processes whose parent this is, from the process table."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == parent and after_name[0] != "Z":
            found.append(int(folder.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.mark.train_env
@pytest.mark.slow
def test_a_classifier_with_a_fine_tuned_encoder_is_served_without_torch(
    job: Callable[..., TrainingJob], embedder: Embedder
) -> None:
    python = find_train_python("")
    if python is None:
        pytest.skip("there is no training environment; `make env` makes it")
    task = job(moods(40, 1), Kind.CLASSIFIER, method=Method.FINETUNED, train_python=python)
    result = run_training(task, lambda share, doing: None, 280)
    assert result.method is Method.FINETUNED
    assert dict(result.recipe)["finetuned.precision"].startswith(("int8", "float32"))
    model = load_model(Path(task.output_dir) / "artefact", embedder)
    fresh = moods(40, 2)
    answers = model.predict(
        [text for text, _ in fresh], embedder.encode([text for text, _ in fresh])
    )
    right = [given.text == wanted for given, (_, wanted) in zip(answers, fresh, strict=True)]
    assert sum(right) >= 0.9 * len(right)
    assert "torch" not in sys.modules
    (unknown,) = model.predict(["zxq 17 vvk"], embedder.encode(["zxq 17 vvk"]))
    assert unknown.confidence < min(one.confidence for one in answers)
    (Path(task.output_dir) / "artefact" / "mix.json").write_text("{}")
    with pytest.raises(ArtefactError):
        load_model(Path(task.output_dir) / "artefact", embedder)
