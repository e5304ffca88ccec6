"""Bad input in the home: what is missing, damaged or newer there, references that mean nothing, ports, prompts."""

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from bad_input import EMPTY, OWN, BadInput

USED_PORT = 47_113
HELD: list[socket.socket] = []  # keeps the port in use


def _rewrite(pattern: str, change: Any) -> Any:
    """Replace the JSON of some files of the home by what `change` makes of it (bytes are written as they are)."""

    def prepare(folder: Path, home: Path) -> None:
        for path in home.glob(pattern):
            made = change(json.loads(path.read_bytes())) if callable(change) else change
            path.chmod(0o644)
            path.write_bytes(made if isinstance(made, bytes) else json.dumps(made).encode())

    return prepare


def add_run(name: str, data: bytes | None = None, **changes: Any) -> Any:
    """A run file beside that of the smoke run: its copy with changes, or bytes."""

    def prepare(folder: Path, home: Path) -> None:
        (path,) = home.glob("runs/smoke-*.json")
        copy = {**json.loads(path.read_bytes()), "run": name, **changes}
        (home / "runs" / f"{name}.json").write_bytes(data or json.dumps(copy).encode())

    return prepare


def _two_manifests(folder: Path, home: Path) -> None:
    for name in ("00ff0", "00ff1"):
        (home / "store" / "artifacts" / f"{name}.json").write_text("{}")


def use_port(folder: Path, home: Path) -> None:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with suppress(OSError):  # somebody else uses it: as good
        held.bind(("127.0.0.1", USED_PORT))
        held.listen()
    HELD.append(held)


def _file_for_home(folder: Path, home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    home.write_text("I am no folder.")


def _file_above_home(folder: Path, home: Path) -> None:
    home.parent.parent.mkdir(parents=True, exist_ok=True)
    home.parent.write_text("I am no folder.")


def _newer(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "format": 99}


FAILED_FILTER = [{"stage": "collect", "outcome": "built"}, {"stage": "filter", "outcome": "failed"}]
TO_COLLECT = "run smoke --plain --to collect"
NOT_WRITABLE = ("cannot be written", "LLMILL_HOME")
NEWER = ("newer llmill", "format 99", "Update llmill")

HOMES = (
    BadInput("file for the home", "run smoke --plain", NOT_WRITABLE, prepare=_file_for_home, home=EMPTY),
    BadInput("file above the home", "run smoke --plain", NOT_WRITABLE, prepare=_file_above_home, home=EMPTY),
    BadInput("file for the home, only read", "plan smoke", ("never built",), {}, _file_for_home, EMPTY, status=0),
    BadInput(
        "home whose name is not UTF-8",
        "run smoke --plain",
        ("is not UTF-8", "LLMILL_HOME"),
        environment={"LLMILL_HOME": "caf\udce9"},
    ),
    BadInput(
        "home of an unknown user",
        "run smoke --plain",
        ("LLMILL_HOME=~nobody-here/x", "write the path out"),
        environment={"LLMILL_HOME": "~nobody-here/x"},
    ),
    BadInput("no run to generate from", "generate x", ("no completed run yet", "llmill run"), home=EMPTY),
    BadInput("build records of a newer version", TO_COLLECT, NEWER, {}, _rewrite("builds/*/*.json", _newer), OWN),
    BadInput(
        "manifests of a newer version",
        "inspect latest/collect",
        NEWER,
        {},
        _rewrite("store/artifacts/*.json", _newer),
        OWN,
    ),
)

DAMAGES = (
    BadInput(
        "damaged build records", TO_COLLECT, ("never built",), {}, _rewrite("builds/*/*.json", b'{"form'), OWN, status=0
    ),
    BadInput(
        "build records that hold something else",
        TO_COLLECT,
        ("never built",),
        {},
        _rewrite("builds/*/*.json", lambda record: {**record, "identity": [], "finished": 5}),
        OWN,
        status=0,
    ),
    BadInput(
        "damaged job records",
        f"{TO_COLLECT} --set collect.max_bad_fraction=0.5",
        ("built",),
        {},
        _rewrite("store/jobs/*.json", lambda record: {**record, "files": [{"name": 5}]}),
        OWN,
        status=0,
    ),
    BadInput(
        "damaged manifests",
        "inspect latest/collect",
        ("latest/collect", "is gone or damaged", "run its recipe again"),
        {},
        _rewrite("store/artifacts/*.json", b"[]"),
        OWN,
    ),
    BadInput(
        "damaged manifests in a run",
        TO_COLLECT,
        ("artifact manifest missing or damaged", "built"),
        {},
        _rewrite("store/artifacts/*.json", b"[]"),
        OWN,
        status=0,
    ),
    BadInput(
        "damaged release",
        "generate x",
        ("latest/release", "part damaged: release/config.json", "run the recipe again"),
        {},
        _rewrite("store/parts/release/release/*/config.json", b"{}"),
        OWN,
    ),
    BadInput(
        "damaged run file",
        "runs",
        ("bad.json", "skipped", "completed"),
        {},
        add_run("bad", b"\0\xff{"),
        OWN,
        status=0,
    ),
    BadInput(
        "run file that holds something else",
        "runs",
        ("bad.json", "skipped", "completed"),
        {},
        add_run("bad", started=5, stages="none"),
        OWN,
        status=0,
    ),
)

REFERENCES = (
    BadInput("unknown digest", "inspect 123456789", ("123456789: no artifact or part begins so", "RUN/STAGE")),
    BadInput(
        "ambiguous digest", "inspect 00ff", ("2 artifacts begin so", "more of the digest"), {}, _two_manifests, OWN
    ),
    BadInput("unknown run", "inspect books-1/filter", ("books-1/filter", "neither a run nor a digest")),
    BadInput(
        "ambiguous run",
        "inspect smoke-/filter",
        ("smoke-: 2 runs have this name", "smoke-2"),
        {},
        add_run("smoke-2"),
        OWN,
    ),
    BadInput(
        "unknown stage of a run",
        "inspect latest/tokenzier",
        ("no artifact of 'tokenzier' (did you mean 'tokenizer'?)", "It has: collect, deduplicate, filter"),
    ),
    BadInput(
        "unknown stage to explain up to",
        "explain latest/fliter 12",
        ("no artifact of 'fliter' (did you mean 'filter'?)", "It has: collect"),
    ),
    BadInput(
        "unknown part",
        "inspect latest/filter/ledgr",
        (
            "filter has no part 'ledgr' (did you mean 'ledger'?)",
            "Parts: documents, labels, ledger, pairs, preferences, redactions, signals",
        ),
    ),
    BadInput(
        "unknown file of a part",
        "cat latest/pretrain/model/confg.json",
        ("no file 'confg.json' (did you mean 'config.json'?)", "Files: config.json, model.safetensors"),
    ),
    BadInput(
        "stage that failed",
        "inspect bad/filter",
        ("run bad has no artifact of 'filter'",),
        {},
        add_run("bad", status="failed", stages=FAILED_FILTER),
        OWN,
    ),
    BadInput(
        "artifact that is not a release", "generate x --release latest/collect", ("has no part 'release'", "documents")
    ),
)

REQUESTS = (
    BadInput("prompt beyond the context", f"generate --raw '{'word ' * 400}'", ("the prompt has", "takes 1 to 63")),
    BadInput("temperature near 0", "generate x --temperature 1e-310 --max-new-tokens 2", (), slow=True, status=0),
    BadInput("no classifier", "classify x", ("no artifact of 'classify'", "It has: collect")),
    BadInput("classifier that is none", "classify x --model latest/finetune", ("language model and no classifier",)),
    BadInput("text to classify that is not UTF-8", "classify 'caf\udce9' --model latest/finetune", ("UTF-8",)),
    BadInput("prompt that is not UTF-8", "generate 'caf\udce9'", ("prompt", "UTF-8")),
    BadInput(
        "port in use",
        f"ui --prefect-port {USED_PORT}",
        (f"port {USED_PORT} is in use", "--prefect-port"),
        {},
        use_port,
    ),
    BadInput("one port for both UIs", "ui --prefect-port 4999 --mlflow-port 4999", ("both 4999", "--mlflow-port")),
    BadInput(
        "UI of a server elsewhere",
        "ui",
        ("MLFLOW_TRACKING_URI", "Unset it"),
        environment={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
    ),
)

TASK = """
task: mine
dataset_path: json
dataset_kwargs: {data_files: {test: a.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: [yes, no]
doc_to_target: answer
"""
TASKS = "'evaluate.tasks=[{path: tasks}]'"

BENCHMARKS = (
    BadInput(
        "task file that is not a task",
        f"plan smoke --set {TASKS}",
        ("evaluate.tasks[0]", "a.yaml", "a task file of lm-eval is a mapping"),
        {"tasks/a.yaml": "Just a text.\n"},
    ),
    BadInput(
        "benchmark with missing fields",
        f"run smoke --plain --set {TASKS}",
        ("a.jsonl, line 1", "no field 'question'", "'mine'"),
        {"tasks/a.yaml": TASK, "tasks/a.jsonl": '{"query": "Is it?", "answer": 0}\n'},
        slow=True,
    ),
)

# Each is two seconds of imports, some a server of Prefect's besides.
NOBODY = "http://127.0.0.1:9"
RUN = f"{TO_COLLECT} --set collect.max_bad_fraction=0.25".replace(" --plain", "")
ADDRESSES = (
    BadInput(
        "Prefect address that is not one",
        RUN,
        ("PREFECT_API_URL=nonsense: this is not an address", "http://127.0.0.1:4200/api"),
        environment={"PREFECT_API_URL": "nonsense"},
    ),
    BadInput(
        "Prefect server that does not answer",
        RUN,
        ("PREFECT_API_URL", f"nobody answers at {NOBODY}/api", "--plain"),
        environment={"PREFECT_API_URL": f"{NOBODY}/api"},
        slow=True,
    ),
    BadInput(
        "MLflow address that is not one",
        RUN,
        ("MLFLOW_TRACKING_URI=http://[x: this is not an address",),
        environment={"MLFLOW_TRACKING_URI": "http://me:secret@[x"},
    ),
    BadInput(
        "MLflow address of an unknown kind",
        RUN,
        ("MLFLOW_TRACKING_URI=nonsense://x", "MLflow cannot use it"),
        environment={"MLFLOW_TRACKING_URI": "nonsense://x"},
        slow=True,
    ),
    BadInput(
        "MLflow server that does not answer",
        RUN,
        (f"nobody answers at {NOBODY}", "not everything was recorded", "collect     built"),
        environment={"MLFLOW_TRACKING_URI": NOBODY},
        home=OWN,
        slow=True,
        status=0,
    ),
)

ROWS = (*HOMES, *DAMAGES, *REFERENCES, *REQUESTS, *BENCHMARKS, *ADDRESSES)
