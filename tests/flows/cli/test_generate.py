"""`llmill generate` and `llmill chat` as a user meets them, on the release of the smoke recipe."""

import io
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from open_models import write_adapter
from support import PATIENCE_SECONDS, Command, llmill_command, unwrapped

from flows.cli.generate import as_typed
from model.adapters import add_adapter, read_adapter
from model.transformer import load_model
from model.weights import write_tensors
from tasks.tokenize.tokenizer import load_tokenizer

Smoke = tuple[Path, dict[str, Any]]
Result = subprocess.CompletedProcess[str]
QUESTION = "Where is the river?"


@pytest.fixture(scope="module")
def released(smoke: Smoke) -> tuple[Path, Path]:
    """The home, only read, and the folder of its release."""
    home, report = smoke
    uri = next(stage for stage in report["stages"] if stage["stage"] == "release")["artifact"]["parts"]["release"][
        "uri"
    ]
    return home, Path(uri.removeprefix("file://"))


def llmill_in(home: Path, *arguments: str, stdin: str | bytes = "") -> Result:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    environment = {**os.environ, "LLMILL_HOME": str(home)}
    done = subprocess.run(
        [*llmill_command(), *arguments], input=data, capture_output=True, env=environment, timeout=PATIENCE_SECONDS
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def here(command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """`llmill_in` without a process of its own: what it imports is imported once, and threads stay as they were."""
    threads, handlers = torch.get_num_threads(), {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}

    def run(home: Path, *arguments: str, stdin: str | bytes = "") -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return subprocess.CompletedProcess(arguments, *command(*arguments, home=home))

    yield run
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def answered(released: tuple[Path, Path]) -> dict[str, Any]:
    """What `--json` says of one answer, asked through stdin and from the release's folder."""
    home, folder = released
    done = llmill_in(home, "generate", "-", "--json", "--release", str(folder), stdin=QUESTION + "\n")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(result: Result, *pieces: str) -> None:
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    for piece in pieces:
        assert unwrapped(piece) in unwrapped(result.stderr)


def test_generate_streams_what_json_shows_from_a_reference_as_from_a_folder(
    released: tuple[Path, Path], answered: dict[str, Any]
) -> None:
    plain = llmill_in(released[0], "generate", QUESTION)
    assert plain.returncode == 0 and plain.stderr == ""
    assert plain.stdout == answered["text"] + "\n" and answered["text"]
    assert set(answered) == {"text", "prompt_tokens", "tokens", "finish_reason", "seconds", "tokens_per_second"}
    assert answered["finish_reason"] in ("stop", "length") and answered["tokens"] > 0 and answered["seconds"] > 0


def test_a_prompt_from_windows_is_the_one_that_was_typed(
    released: tuple[Path, Path], answered: dict[str, Any], here: Callable[..., Result]
) -> None:
    home, _ = released
    for prompt, stdin in (("-", b"\xef\xbb\xbf" + QUESTION.encode() + b"\r\n"), (QUESTION + "\r", b"")):
        done = json.loads(here(home, "generate", prompt, "--json", stdin=stdin).stdout)
        assert (done["prompt_tokens"], done["text"]) == (answered["prompt_tokens"], answered["text"])
    chat = here(home, "chat", stdin=b"\xef\xbb\xbf" + QUESTION.encode() + b"\r\n")
    assert chat.stdout == answered["text"] + "\n"


@pytest.fixture(scope="module")
def adapted(released: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An adapter of the release, and the release with it merged."""
    root = tmp_path_factory.mktemp("adapter")
    adapter = write_adapter(root / "adapter", released[1])
    shutil.copytree(released[1], root / "merged")
    model = load_model(released[1])
    add_adapter(model.state_dict(), read_adapter(adapter, model.shape))
    write_tensors(model.state_dict(), root / "merged/model.safetensors")
    (root / "merged/SHA256SUMS").unlink()
    return adapter, root / "merged"


def test_an_adapter_answers_as_its_merged_model_does(
    released: tuple[Path, Path], adapted: tuple[Path, Path], answered: dict[str, Any], here: Callable[..., Result]
) -> None:
    home, _ = released
    adapter, merged = adapted
    plain = here(home, "generate", QUESTION, "--release", str(merged))
    assert plain.returncode == 0 and plain.stdout != answered["text"] + "\n"
    done = here(home, "generate", QUESTION, "--adapter", str(adapter))
    assert (done.returncode, done.stdout, done.stderr) == (0, plain.stdout, "")
    chat = here(home, "chat", "--adapter", str(adapter), stdin=QUESTION + "\n")
    assert (chat.returncode, chat.stdout) == (0, plain.stdout)


def test_an_adapter_of_other_weights_or_none_at_all_is_refused(
    released: tuple[Path, Path], adapted: tuple[Path, Path], here: Callable[..., Result]
) -> None:
    home, folder = released
    adapter, merged = adapted
    other = here(home, "generate", QUESTION, "--release", str(merged), "--adapter", str(adapter))
    refused(other, "this adapter was trained on other weights than those of", "give the model that it was trained on")
    refused(here(home, "generate", QUESTION, "--adapter", str(folder)), "has no adapter_config.json")
    refused(here(home, "generate", QUESTION, "--adapter", "latest/finetune"), "has no adapter_config.json")
    refused(here(home, "generate", QUESTION, "--int8", "--adapter", str(adapter)), "--adapter", "not with --int8")


def test_lines_within_a_prompt_end_as_typed() -> None:
    assert as_typed("\ufeffone\r\ntwo\r\n") == "one\ntwo\n"


def test_a_stop_string_ends_an_answer_of_the_int8_model_too(
    released: tuple[Path, Path], answered: dict[str, Any], here: Callable[..., Result]
) -> None:
    stop = answered["text"][1:3]
    arguments = ("--stop", "never so", "--stop", stop, "--int8")
    ended = json.loads(here(released[0], "generate", QUESTION, "--json", *arguments).stdout)
    assert ended["finish_reason"] == "stop" and stop not in ended["text"] and ended["tokens"] > 0


@pytest.mark.slow
def test_what_cannot_be_generated_from(
    released: tuple[Path, Path], tmp_path: Path, here: Callable[..., Result]
) -> None:
    home, folder = released
    refused(here(home, "generate", "word " * 90), "the prompt has", "shorten it")
    refused(here(home, "generate", "x", "--stop", ""), "--stop", "leave it out")
    refused(here(home, "generate", "x", "--beams", "4", "--temperature", "1"), "--beams", "leave one of them out")
    refused(here(home, "generate", "-", stdin=b"a\xff"), "stdin is not valid UTF-8 (byte 1)")
    refused(here(home, "generate", "x", "--release", str(tmp_path)), "is not a release", "config.json")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    weights = copy / "model.safetensors"
    weights.chmod(0o644)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    refused(here(home, "chat", "--release", str(copy)), "model.safetensors: damaged")
    assert here(tmp_path, "generate", "x").returncode == 2, "no run yet"


def test_a_chat_in_a_pipe_answers_each_line_and_keeps_within_the_context(
    released: tuple[Path, Path], answered: dict[str, Any]
) -> None:
    lines = [QUESTION, "", "/reset", QUESTION, *["And <|end|> the castle?"] * 3, "word " * 90, "/exit", "never read"]
    heard = llmill_in(released[0], "chat", "--max-new-tokens", "30", stdin="\n".join(lines))
    assert heard.returncode == 0, heard.stderr
    answers = heard.stdout.splitlines()
    assert answers[0] == answers[1] and answered["text"].startswith(answers[0]), (
        "a conversation that is reset begins anew"
    )
    assert len(answers) == 5
    assert "the conversation is forgotten" in unwrapped(heard.stderr)
    assert "the context of 64 tokens is full: forgot the oldest" in unwrapped(heard.stderr)
    assert "this message has" in unwrapped(heard.stderr) and "shorten it" in unwrapped(heard.stderr)


@pytest.fixture(scope="module")
def asked_as(released: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | None], Path]:
    """The release with another form of prompts in its settings, or with none."""
    _, folder = released
    root = tmp_path_factory.mktemp("forms")

    def change(form: str | None) -> Path:
        copy = root / str(form)
        shutil.copytree(folder, copy)
        path = copy / "generation_config.json"
        settings = json.loads(path.read_bytes())
        assert settings.pop("prompt_form") == "chat", "the pairs of smoke are not declarations"
        for changed in (path, copy / "SHA256SUMS"):
            changed.chmod(0o644)
        path.write_text(json.dumps(settings | ({"prompt_form": form} if form else {})))
        (copy / "SHA256SUMS").unlink()
        return copy

    return change


def test_a_prompt_is_put_in_the_form_of_the_release(
    released: tuple[Path, Path], asked_as: Callable[[str | None], Path], here: Callable[..., Result]
) -> None:
    tokenizer = load_tokenizer(released[1])
    typed, words = (len(tokenizer.encode(text).ids) for text in ("Paris(France)", "class paris ( france )"))
    assert typed != words

    def tokens(folder: Path, *options: str) -> int:
        done = here(released[0], "generate", "Paris(France)", "--json", "--release", str(folder), *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["prompt_tokens"]

    plain, docstrings, old = asked_as("plain"), asked_as("docstrings"), asked_as(None)
    assert tokens(released[1]) == typed + 3
    assert tokens(docstrings) == words + 3
    assert tokens(plain) == tokens(docstrings, "--raw") == typed + 1
    assert tokens(old) == typed + 3, "it has a chat template"
    (old / "chat_template.jinja").unlink()
    assert tokens(old) == typed + 1

    chat = here(released[0], "chat", "--release", str(plain), stdin="The old\nThe old\n")
    first, second = chat.stdout.splitlines()
    assert first == second and "was not taught to chat" in unwrapped(chat.stderr), "no turn comes before another"


class Terminal:
    """`llmill chat` on a terminal of its own."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "LLMILL_HOME": str(home), "TERM": "dumb"}
        command = [*llmill_command(), "chat", *arguments]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.seen = ""

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt_until(self, pattern: str) -> None:
        """Ctrl-C, and again where one came just before the terminal was read: it is met with the next key only."""
        for _ in range(6):
            self.process.send_signal(signal.SIGINT)
            try:
                self.until(pattern, seconds=20)
            except AssertionError:
                continue
            return
        raise AssertionError(f"no {pattern!r} in {self.seen!r}")

    def until(self, pattern: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Everything up to the pattern, which must come."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.seen!r}"
            if select.select([self.master], [], [], 1.0)[0]:
                self.seen += os.read(self.master, 4096).decode(errors="replace")
        text, self.seen = self.seen[: match.end()], self.seen[match.end() :]
        return text


def test_ctrl_c_stops_an_answer_but_not_the_chat_and_ctrl_d_ends_it(
    released: tuple[Path, Path], tmp_path: Path
) -> None:
    """With a model that says one letter forever, in a context that is long enough for that."""
    from model.transformer import load_model, save_model
    from tasks.tokenize.tokenizer import load_tokenizer

    home, folder = released
    shutil.copytree(folder, tmp_path / "endless")
    for name in ("SHA256SUMS", "model.safetensors", "config.json"):
        (tmp_path / "endless" / name).unlink()
    (letter,) = load_tokenizer(folder).encode("h").ids
    model = load_model(folder)
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.zero_()
    model.model.embed_tokens.weight.fill_(-1.0)
    model.model.embed_tokens.weight[letter] = -3.0
    save_model(model, tmp_path / "endless")
    config = json.loads((tmp_path / "endless" / "config.json").read_bytes())
    (tmp_path / "endless" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 100_000}))
    chat = Terminal(home, "--release", str(tmp_path / "endless"), "--max-new-tokens", "90000")
    try:
        assert "/exit" in chat.until(r"> ")
        chat.send("hello\r")
        chat.until(r"\nh{20}")
        chat.process.send_signal(signal.SIGINT)
        chat.until(r"\(stopped\)[^>]*> ")
        chat.interrupt_until(r"Ctrl-D or /exit ends[^>]*> ")
        chat.send("\x04")
        assert chat.process.wait(PATIENCE_SECONDS) == 0
    finally:
        chat.process.kill()
        os.close(chat.master)
