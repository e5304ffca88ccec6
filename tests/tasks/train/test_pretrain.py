"""The stage pretrain: what it writes is deterministic, what it starts it ends, what is wrong it names."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support import wait_until
from tiny_model import LocalContext, artifact

from model.metrics import cut_metrics, write_metrics
from model.processor import WIDE_VECTORS
from model.shape import SIZES
from storage.errors import ConfigError, DataError
from storage.store.artifacts import Artifact
from storage.tokens import write_token_meta, write_token_shard
from tasks.engine.context import Execution
from tasks.tokenize.canaries import CANARY_SHARD, Canary, Planted, read_planted, write_planted
from tasks.train import device, trainer_process
from tasks.train.config import observe_device
from tasks.train.device import training_device, training_dtype
from tasks.train.pretrain import PretrainConfig, observe_pretraining, pretrain
from tasks.train.trainer_process import MetricsTail, trainer_environment, write_curve

SMALL: dict[str, Any] = {"layers": 1, "width": 32, "heads": 2, "head_dim": 16, "feed_forward": 32}
QUICK: dict[str, Any] = {**SMALL, "context_length": 16, "batch_tokens": 64, "steps": 6, "device": "cpu"}


class RecordingContext(LocalContext):
    def metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        self.rows = [*getattr(self, "rows", []), *rows]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("tokens")
    write_token_meta(folder, 64)
    documents = [([1 + (7 * d + i) % 63 for i in range(20)], 40) for d in range(60)]
    write_token_shard(folder, "train", 0, documents[:50], 64)
    write_token_shard(folder, "heldout", 0, documents[50:], 64)
    canary = tuple(range(1, 13))
    write_token_shard(folder, "train", CANARY_SHARD, [(canary, 40)] * 8, 64)
    canaries = tmp_path_factory.mktemp("canaries")
    write_planted(canaries, Planted(tuple(range(1, 64)), (Canary((5,) * 12, 0), Canary(canary, 8))))
    return artifact("tokenize", tokens=folder, canaries=canaries)


def test_it_leaves_a_model_and_a_curve_that_depend_on_nothing_but_its_config(tokens: Artifact, tmp_path: Path) -> None:
    """Two folders, one with a space; how often it logs and saves is how it is carried out and changes no byte."""
    summaries, contexts = [], []
    for name, execution in {
        "a": Execution(log_interval=1),
        "b c": Execution(log_interval=4, checkpoint_interval=2),
    }.items():
        context = RecordingContext(tmp_path / name, execution)
        summaries.append(pretrain.function(PretrainConfig(**QUICK, validation_interval=3), tokens, context=context))
        contexts.append(context)
    assert summaries[0] == summaries[1]
    assert summaries[0]["steps"] == 6
    assert summaries[0]["tokens"] == 6 * 64
    assert 0 < summaries[0]["bits_per_byte"] < 6
    for file in ("model/model.safetensors", "model/config.json", "model/training.json", "curve/curve.jsonl"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b c" / file).read_bytes(), file
    assert str(tmp_path).encode() not in (tmp_path / "a/model/model.safetensors").read_bytes()
    curve = [json.loads(line) for line in (tmp_path / "a/curve/curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve] == [1, 2, 3, 4, 5, 6]
    assert "tokens_per_second" not in curve[0]
    assert [row["step"] for row in contexts[0].rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in contexts[1].rows] == [3, 4]  # 3 was validated
    assert contexts[0].shown[-1] == (6, 6)


def test_it_records_how_often_its_rows_held_each_canary(tokens: Artifact, tmp_path: Path) -> None:
    """1,050 tokens of documents, then 8 plantings of 13 tokens: 72 rows of 16, of which 18 steps of 4 take each once.

    A row holds a planting whole where its first token lies at 0 to 4 of the row: begins 1050 + 13 k, modulo 16.
    """
    config = PretrainConfig(**{**QUICK, "steps": 18})
    context = LocalContext(tmp_path)
    pretrain.function(config, tokens, context=context)
    found = read_planted(artifact("pretrain", canaries=tmp_path / "canaries")["canaries"])
    assert found.epochs == 1
    assert [canary.seen for canary in found.canaries] == [0, sum((1050 + 13 * k) % 16 <= 4 for k in range(8))]
    assert found.canaries[1].seen > 0


def test_too_little_text_reaches_the_user_as_a_message(tokens: Artifact, tmp_path: Path) -> None:
    config = PretrainConfig(**{**QUICK, "context_length": 2048, "batch_tokens": 4096})
    with pytest.raises(DataError, match=r"pretrain\.context_length"):
        pretrain.function(config, tokens, context=LocalContext(tmp_path))


def test_a_crash_of_the_trainer_shows_the_end_of_its_log(
    tokens: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_process, "trainer_environment", lambda: {"PYTHONPATH": str(tmp_path)})
    (tmp_path / "model").mkdir()
    (tmp_path / "model/trainer.py").write_text("raise OverflowError('far too large')")
    with pytest.raises(RuntimeError, match=r"(?s)status 1.*far too large"):
        pretrain.function(PretrainConfig(**QUICK), tokens, context=LocalContext(tmp_path / "work"))


@pytest.mark.slow
def test_an_interrupted_stage_lets_the_trainer_save_and_goes_on_from_there(tokens: Artifact, tmp_path: Path) -> None:
    """KeyboardInterrupt out of `progress`, as Ctrl-C would give: the trainer is gone and its checkpoint is there."""

    class Interrupting(LocalContext):
        def progress(self, done: float, total: float, unit: str, **figures: Any) -> None:
            raise KeyboardInterrupt

    config = PretrainConfig(**{**QUICK, "steps": 400})
    with pytest.raises(KeyboardInterrupt):
        pretrain.function(config, tokens, context=Interrupting(tmp_path))
    assert not _trainers(tmp_path)
    saved = [path.name for path in (tmp_path / "work/checkpoints").iterdir()]
    assert len(saved) == 1
    pretrain.function(config, tokens, context=LocalContext(tmp_path))
    assert f"resumed at step {int(saved[0].removeprefix('step-'))}" in (tmp_path / "work/trainer.log").read_text()


def test_a_trainer_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_process, "GRACE_SECONDS", 0.3)
    ready = tmp_path / "ready"
    code = (
        "import signal, sys, time, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(ready)], start_new_session=True)
    wait_until(ready.exists, "the signal is ignored", process)
    trainer_process.end_trainer(process)
    assert process.returncode == -9


def test_the_trainer_imports_the_code_of_this_checkout_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    environment = trainer_environment()
    root = str(Path(trainer_process.__file__).resolve().parents[2])
    assert environment["PYTHONPATH"].split(os.pathsep) == [root, "/somewhere/else"]
    assert environment["PYTHONSAFEPATH"] == "1"


def test_an_installed_package_needs_no_path_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """site-packages in PYTHONPATH would stand before the standard library."""
    root = Path(trainer_process.__file__).resolve().parents[2]
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(root))
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    assert trainer_environment()["PYTHONPATH"] == "/somewhere/else"


@pytest.mark.parametrize("looks", [{3, 4, 5, 8}, {3, 8}])
def test_rows_of_metrics_are_handed_on_once_though_the_file_is_cut_back(tmp_path: Path, looks: set[int]) -> None:
    """Whether the tail looks while the file is short, or when it has grown past where it was before it was cut."""
    path = tmp_path / "metrics.jsonl"
    context = RecordingContext(tmp_path, Execution(log_interval=1))

    def write(step: int, spread: int) -> None:
        speed = float(10**spread)  # a row written again is as long as the machine is fast
        write_metrics(path, {"step": step, "loss": None, "bits_per_byte": 1.0, "tokens_per_second": speed})

    with closing(MetricsTail(path, 10, context)) as tail:
        tail.forward()
        for step in (1, 2, 3):
            write(step, 3)
        with path.open("a") as file:
            file.write('{"step": 4, "lo')  # killed
        for moment in range(3, 9):
            if moment == 4:
                cut_metrics(path, 1)
            if moment > 4:
                write(moment - 3, 5)
            if moment in looks:
                tail.forward()
    assert [row["step"] for row in context.rows] == [1, 2, 3, 4, 5]
    assert "loss" not in context.rows[0]  # MLflow takes numbers only


def test_a_long_curve_is_thinned_and_keeps_its_end_and_its_validations(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 1.0, "tokens_per_second": step} for step in range(1, 5001)]
    rows[1233]["validation_bits_per_byte"] = 2.0
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    last = write_curve(tmp_path / "metrics.jsonl", tmp_path / "curve.jsonl")
    kept = [json.loads(line)["step"] for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert last["step"] == kept[-1] == 5000
    assert 1234 in kept
    assert len(kept) == 1002


@pytest.mark.parametrize("size", SIZES)
def test_every_size_gives_a_shape_and_a_schedule(size: str) -> None:
    config = PretrainConfig(size=size)
    shape = config.shape(50_304)
    rows, steps = config.rows_and_steps(shape.context_length)
    assert rows * shape.context_length == SIZES[size].batch_tokens
    assert abs(steps * SIZES[size].batch_tokens / SIZES[size].tokens - 1) < 0.01


def test_what_is_set_by_hand_goes_before_the_size() -> None:
    config = PretrainConfig(
        size="micro", width=320, context_length=128, batch_tokens=1000, tokens=100_000, norm_epsilon=0.5
    )
    shape = config.shape(1000)
    assert (shape.layers, shape.width, shape.context_length) == (SIZES["micro"].layers, 320, 128)
    assert (shape.norm_epsilon, PretrainConfig().shape(1000).norm_epsilon) == (0.5, 1e-6)
    assert config.rows_and_steps(128) == (7, 112)


def test_configs_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValidationError, match="steps or tokens"):
        PretrainConfig(steps=5, tokens=5000)
    with pytest.raises(ValidationError, match="must not exceed 1"):
        PretrainConfig(warmup_share=0.4, decay_share=0.7)
    with pytest.raises(ConfigError, match="batch_tokens"):
        PretrainConfig(batch_tokens=300).rows_and_steps(512)
    with pytest.raises(ValidationError, match=r"batch_tokens \(100\) is less than one row of context_length 256"):
        PretrainConfig(batch_tokens=100)


LARGE = PretrainConfig(size="124m").shape(50_304)


def test_the_device_is_observed() -> None:
    assert training_device("cuda") == "cuda"
    assert training_device("auto") in ("cpu", "cuda")
    assert observe_device(PretrainConfig(device="cpu", dtype="bfloat16")) == {"device": "cpu", "dtype": "bfloat16"}


LONG, SHORT = 2_500_000_000, 1_000_000  # tokens
NO_COMPILER = "there is no C compiler (gcc or clang)"


@pytest.fixture
def compilers(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the compilers that are found: a set to add to."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    found: set[str] = set()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in found else None)
    return found


def test_a_long_run_on_a_gpu_is_compiled(compilers: set[str]) -> None:
    compilers.add("gcc")
    assert PretrainConfig(device="cuda", size="124m").is_compiled(LARGE, LONG)
    assert not PretrainConfig(device="cuda", size="124m").is_compiled(LARGE, SHORT)
    assert PretrainConfig(device="cuda", compile="on").is_compiled(LARGE, SHORT)
    assert not PretrainConfig(device="cuda", compile="off").is_compiled(LARGE, LONG)
    assert PretrainConfig(device="cuda", size="124m").notices(LARGE, LONG) == []


def test_a_long_run_in_bfloat16_on_a_cpu_is_compiled(compilers: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    micro = PretrainConfig(device="cpu", dtype="bfloat16", size="micro")
    shape = micro.shape(4096)
    assert not micro.is_compiled(shape, LONG)
    (said,) = micro.notices(shape, LONG)
    assert "there is no C++ compiler (g++)" in said and "g++ python3-dev" in said
    assert observe_pretraining(micro) == {"device": "cpu", "dtype": "bfloat16", "c_compiler": "missing"}
    with pytest.raises(ConfigError, match=r"compile is on, but there is no C\+\+ compiler"):
        PretrainConfig(device="cpu", compile="on").is_compiled(shape, SHORT)
    compilers.add("g++")
    assert micro.is_compiled(shape, LONG) and not micro.is_compiled(shape, SHORT)
    assert PretrainConfig(device="cpu", dtype="float32", compile="on").is_compiled(shape, SHORT)
    assert not PretrainConfig(device="cpu", dtype="float32").is_compiled(shape, LONG)
    assert observe_pretraining(micro)["c_compiler"] == "there"
    monkeypatch.setenv("CXX", "icpx")
    assert "no C++ compiler icpx (CXX)" in micro.notices(shape, LONG)[0]


def test_what_compiling_needs_and_lacks_is_said_and_in_the_key(
    compilers: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    automatic = PretrainConfig(device="cuda", size="124m")
    assert not automatic.is_compiled(LARGE, LONG)
    (said,) = automatic.notices(LARGE, LONG)
    assert NO_COMPILER in said and "gcc" in said and "pretrain.compile=off" in said
    assert observe_pretraining(automatic)["c_compiler"] == "missing"
    with pytest.raises(ConfigError, match=r"compile is on, but there is no C compiler.*gcc.*auto or off"):
        PretrainConfig(device="cuda", compile="on").is_compiled(LARGE, LONG)
    compilers.add("clang")
    assert observe_pretraining(automatic)["c_compiler"] == "there" and not automatic.notices(LARGE, LONG)
    monkeypatch.setenv("CC", "icc")
    assert "no C compiler icc (CC)" in automatic.notices(LARGE, LONG)[0]
    monkeypatch.delenv("CC")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert "Python.h" in automatic.notices(LARGE, LONG)[0]


def test_where_nothing_would_be_compiled_a_compiler_is_neither_missed_nor_in_the_key(compilers: set[str]) -> None:
    for config, tokens in (
        (PretrainConfig(device="cuda", size="124m"), SHORT),
        (PretrainConfig(device="cuda", size="124m", compile="off"), LONG),
        (PretrainConfig(device="cpu", dtype="float32", size="124m"), LONG),
        (PretrainConfig(device="cpu", dtype="bfloat16", size="micro", compile="off"), LONG),
    ):
        assert config.notices(LARGE, tokens) == []
    for config in (
        PretrainConfig(device="cuda", compile="off"),
        PretrainConfig(device="cpu"),
        PretrainConfig(device="cpu", dtype="float32", size="micro"),
    ):
        assert "c_compiler" not in observe_pretraining(config)


def test_a_run_that_could_have_been_compiled_says_so(
    tokens: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PretrainConfig(**QUICK)
    assert "notices" not in pretrain.function(config, tokens, context=LocalContext(tmp_path / "plain"))
    monkeypatch.setattr("tasks.train.pretrain.slower_than_compiled", lambda *given: "slower")  # what a GPU would tell
    summary = pretrain.function(config, tokens, context=LocalContext(tmp_path / "told"))
    assert summary["notices"] == ["slower"]


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("AuthenticAMD", {"avx512_bf16"}, "bfloat16"),
        ("AuthenticAMD", {"avx2"}, "float32"),
        ("GenuineIntel", {"avx512_bf16"}, "float32"),
        ("GenuineIntel", {"avx512_bf16", "amx_bf16"}, "bfloat16"),
        ("", set(), "float32"),
    ],
)
def test_the_automatic_dtype_is_what_the_processor_is_fast_in(
    monkeypatch: pytest.MonkeyPatch, vendor: str, flags: set[str], expected: str
) -> None:
    monkeypatch.setattr(device, "processor", lambda: (vendor, flags))
    assert training_dtype("auto", "cpu") == expected
    assert training_dtype("auto", "cuda") == "bfloat16"
    assert training_dtype("float32", "cuda") == "float32"


def _trainers(folder: Path) -> list[str]:
    """Processes whose command line names the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("AuthenticAMD", WIDE_VECTORS, {"products": "oneDNN"}),
        ("AuthenticAMD", {*WIDE_VECTORS, "avx512_bf16"}, {"optimizer_dtype": "bfloat16", "products": "oneDNN"}),
        ("AuthenticAMD", {*WIDE_VECTORS, "amx_bf16"}, {"optimizer_dtype": "bfloat16"}),  # "medium" would round
        ("GenuineIntel", {*WIDE_VECTORS, "avx512_bf16"}, {}),
        ("GenuineIntel", {*WIDE_VECTORS, "avx512_bf16", "amx_bf16"}, {"optimizer_dtype": "bfloat16"}),
        ("", set(), {}),
    ],
)
def test_what_a_processor_does_otherwise_in_float32_is_in_the_key(
    monkeypatch: pytest.MonkeyPatch, vendor: str, flags: set[str], expected: dict[str, str]
) -> None:
    monkeypatch.setattr(device, "processor", lambda: (vendor, flags))
    assert observe_device(PretrainConfig(device="cpu", dtype="float32")) == {
        "device": "cpu",
        "dtype": "float32",
        **expected,
    }
    for config in (PretrainConfig(device="cpu", dtype="bfloat16"), PretrainConfig(device="cuda", dtype="float32")):
        assert set(observe_device(config)) == {"device", "dtype"}


def test_whole_documents_in_rows_show_every_canary_each_pass(tokens: Artifact, tmp_path: Path) -> None:
    """58 documents of 21 or 13 tokens in rows of 16: the 50 of 21 are cut, each canary of 13 is whole in one row."""
    config = PretrainConfig(**{**QUICK, "steps": 40}, packing="best_fit")
    summary = pretrain.function(config, tokens, context=LocalContext(tmp_path))
    assert (summary["cut_documents"], summary["lost_tokens"]) == (50, 0)
    assert summary["padding_tokens"] == 16 * summary["rows"] - 50 * 21 - 8 * 13
    seen = read_planted(artifact("pretrain", canaries=tmp_path / "canaries")["canaries"])
    passes, rest = divmod(40 * 4, summary["rows"])
    assert 8 * passes <= seen.canaries[1].seen <= 8 * (passes + (rest > 0))
    assert json.loads((tmp_path / "model/training.json").read_text())[0]["packing"] is True
