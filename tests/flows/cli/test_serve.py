"""`llmill serve` as it is started by a user: what it prints, that it answers, and how it stops."""

import json
import signal
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from open_models import write_adapter, write_qwen
from openai import APIStatusError, OpenAI
from served_home import serving
from support import llmill

from storage.runs import find_run

pytestmark = pytest.mark.slow
PROMPT: Any = [{"role": "user", "content": "Where is the river?"}]


def test_a_run_s_release_is_served_and_says_what_generate_says(smoke: tuple[Path, dict[str, Any]]) -> None:
    home, report = smoke
    generated = json.loads(llmill("generate", PROMPT[0]["content"], "--json", "--beams", "1", home=home).stdout)
    with serving(home) as (process, said):
        assert said["model"] == report["run"] and said["keys"] is False
        client = OpenAI(base_url=f"{said['address']}/v1", api_key="none", max_retries=0)
        made = client.chat.completions.create(model="default", messages=PROMPT, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in made) == generated["text"]
        (model,) = client.models.list().data
        assert model.id == report["run"]
        assert model.created == int(datetime.fromisoformat(find_run(home, model.id)["finished"]).timestamp())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")


def test_a_server_that_is_stopped_ends_its_answers_first(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path / "river", context_length=2048)
    with serving(tmp_path / "home", str(folder)) as (process, said):
        assert said["model"] == "river"
        client = OpenAI(base_url=f"{said['address']}/v1", api_key="none", max_retries=0, timeout=60)
        stream = client.completions.create(
            model="river", prompt="The river", max_tokens=1500, n=4, temperature=2, seed=1, stream=True
        )
        next(stream)
        process.send_signal(signal.SIGTERM)
        status = 200
        while status == 200:  # until the signal has reached it
            try:
                client.completions.create(model="river", prompt="x", max_tokens=1)
            except APIStatusError as error:
                status = error.status_code
        assert status == 503
        ends = [choice.finish_reason for chunk in stream for choice in chunk.choices if choice.finish_reason]
        assert len(ends) == 4, "each answer has its end"
        assert process.wait(60) == 0


def test_a_server_that_is_stopped_ends_the_answers_of_its_adapters_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters as a container names them."""
    folder = write_qwen(tmp_path / "river", context_length=2048)
    write_adapter(tmp_path / "tone", folder)
    monkeypatch.setenv("LLMILL_ADAPTERS", f"tone={tmp_path / 'tone'}  soft={tmp_path / 'tone'}")
    with serving(tmp_path / "home", str(folder)) as (process, said):
        assert [one["model"] for one in said["adapters"]] == ["tone", "soft"]
        client = OpenAI(base_url=f"{said['address']}/v1", api_key="none", max_retries=0, timeout=60)
        asked: Any = {"prompt": "The river", "max_tokens": 700, "temperature": 2, "seed": 1, "stream": True}
        streams = [client.completions.create(model=name, n=3, **asked) for name in ("tone", "river")]
        for stream in streams:
            next(stream)
        process.send_signal(signal.SIGTERM)
        for stream in streams:
            ends = [choice.finish_reason for chunk in stream for choice in chunk.choices if choice.finish_reason]
            assert len(ends) == 3, "each answer has its end"
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")


def test_moderation_is_what_a_file_says(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path / "river", context_length=256)
    (tmp_path / "words.txt").write_text("river\n")
    (tmp_path / "moderation.yaml").write_text("categories: [{name: wet, words: [{path: words.txt}]}]\n")
    with serving(tmp_path / "home", str(folder), "--moderation", str(tmp_path / "moderation.yaml")) as (_, said):
        assert said["moderation"] == ["wet"]
        client = OpenAI(base_url=f"{said['address']}/v1", api_key="none", max_retries=0)
        with pytest.raises(APIStatusError, match="flagged as wet"):
            client.completions.create(model="river", prompt="The RIVER")
        assert client.completions.create(model="river", prompt="The sea", max_tokens=2).choices[0].text


def test_a_port_that_is_taken_is_said(smoke: tuple[Path, dict[str, Any]]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = llmill("serve", "--port", str(port), home=smoke[0])
    assert result.returncode == 2 and f"port {port} is in use" in result.stderr


def test_two_models_are_served_beside_each_other_and_what_is_said_of_them_is_ranked(tmp_path: Path) -> None:
    folders = [write_qwen(tmp_path / name / "river", context_length=128) for name in ("one", "two")]
    (folders[1] / "notes.txt").write_text("the same weights, another folder")
    home = tmp_path / "home"
    with serving(home, str(folders[0]), "--beside", str(folders[1])) as (_, said):
        names = [said["model"], said["beside"]["model"]]
        assert names == ["river", f"river-{said['beside']['digest'][:8]}"], "each has a name of its own"
        client = OpenAI(base_url=f"{said['address']}/v1", api_key="none", max_retries=0, timeout=60)
        assert [model.id for model in client.models.list().data] == names
        replies = [client.chat.completions.create(model=name, messages=PROMPT, max_tokens=4) for name in names]
        assert [reply.model for reply in replies] == names
        ids = [reply.id for reply in replies]
        client.post("/votes", body={"ids": ids, "choice": "b", "consent": True}, cast_to=object)
        client.post("/feedback", body={"id": ids[0], "correction": "Here.", "consent": True}, cast_to=object)
    ranked = json.loads(llmill("votes", "--json", home=home).stdout)
    assert [one["model"] for one in ranked["models"]] == [said["beside"]["digest"], said["digest"]]
