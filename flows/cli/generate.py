"""`llmill generate` and `llmill chat`: a release, asked once or in turn."""

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from flows.cli.options import add_json_option, between, part_folder, print_json
from storage.errors import ConfigError, DataError
from storage.files import is_utf8
from tasks.answer.release import MAX_BEAMS

if TYPE_CHECKING:
    from tasks.answer.release import Release, ReleaseSettings
    from tasks.answer.stream import Answer, Sampling

EXAMPLE_PROMPT = "def add_edge(graph, source, target)"
MAX_PROMPT_BYTES = 1 << 20
CHAT_HELP = "/reset forgets the conversation, /exit or Ctrl-D ends, Ctrl-C stops an answer"

# A model may have learned the codes that move a cursor or rename a window: on a terminal they are shown as a mark.
_CONTROL = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def add_commands(commands: Any) -> None:
    """Declare the commands of this module."""
    generate = commands.add_parser("generate", help="ask the newest release")
    generate.add_argument("prompt", metavar="PROMPT", help=f'such as "{EXAMPLE_PROMPT}"; - reads it from stdin')
    _add_release_options(generate)
    generate.add_argument("--raw", action="store_true", help="continue the text, whatever the model was taught")
    add_json_option(generate)
    generate.set_defaults(command=_generate)

    chat = commands.add_parser("chat", help="talk to the newest release", description=CHAT_HELP)
    _add_release_options(chat)
    chat.set_defaults(command=_chat)


def _add_release_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--release", metavar="REF", default="latest/release", help="default: latest/release; or a release's folder"
    )
    parser.add_argument(
        "--adapter", metavar="REF", help="a LoRA adapter trained on it: a folder, or such as latest/finetune"
    )
    parser.add_argument("--int8", action="store_true", help="its weights in eight bits: a quarter of the memory")
    parser.add_argument("--max-new-tokens", type=between(1, 100_000, int), default=64, help="default: 64")
    parser.add_argument("--temperature", type=between(0, 10, float), default=0.0, help="0 (default): the likeliest")
    parser.add_argument(
        "--beams", type=between(1, MAX_BEAMS, int), help="search for the likeliest answer; default: the release's"
    )
    parser.add_argument("--top-p", type=between(0, 1, float), default=1.0, help="share of the likeliest mass kept")
    parser.add_argument("--seed", type=between(0, 2**31, int), default=0, help="default: 0")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="ends the answer, is not shown; may be repeated"
    )


def _generate(options: argparse.Namespace) -> int:
    from tasks.answer.release import release_settings
    from tasks.answer.stream import Answer

    folder = _folder(options)
    settings = release_settings(folder)
    sampling = _sampling(options, settings)
    prompt = _prompt(options.prompt)
    release = _opened(options, folder)
    started = time.perf_counter()
    ids = release.starting_ids(prompt, "plain" if options.raw else settings.prompt_form)
    answer = Answer(release.model, release.tokenizer, ids, sampling, release.control.ends)
    if not options.json:
        _show(answer)
        return 0
    text = "".join(answer)
    seconds = time.perf_counter() - started
    print_json(
        {
            "text": text,
            "prompt_tokens": len(ids),
            "tokens": len(answer.tokens),
            "finish_reason": answer.finish,
            "seconds": round(seconds, 4),
            "tokens_per_second": round(len(answer.tokens) / seconds, 1),
        }
    )
    return 0


def _chat(options: argparse.Namespace) -> int:
    from tasks.answer.chat_form import Conversation
    from tasks.answer.prompt_form import prompt_text
    from tasks.answer.release import release_settings
    from tasks.answer.stream import Answer

    signal.signal(signal.SIGTERM, _end)  # Ctrl-C stops an answer only; SIGTERM still ends
    folder = _folder(options)
    settings = release_settings(folder)
    sampling, form = _sampling(options, settings), settings.prompt_form
    release = _opened(options, folder)
    context_length = release.context_length
    chat, room = None if form == "plain" else release.chat_form(), min(sampling.max_new_tokens, context_length // 2)
    talk = Conversation(release.tokenizer, release.control, chat, context_length, room)
    if chat is None:
        _say("this model was not taught to chat: it goes on with each text that you give")
    for line in _lines():
        if line == "/reset":
            talk.turns.clear()
            _say("the conversation is forgotten")
            continue
        prompt = prompt_text(line, form)
        try:
            ids, forgotten = talk.ask(prompt)
        except DataError as error:
            _say(str(error))
            continue
        if forgotten:
            _say(f"the context of {context_length} tokens is full: forgot the oldest {_turns(forgotten)}")
        answer = Answer(release.model, release.tokenizer, ids, sampling, release.control.ends)
        try:
            _show(answer)
        except KeyboardInterrupt:
            print(flush=True)
            _say("stopped")
        talk.answered(prompt, release.tokenizer.decode(answer.tokens, skip_special_tokens=True))
    return 0


def _lines() -> Iterator[str]:
    """What the user types, a line at a time, until /exit or the end; with a prompt and line editing on a terminal."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        import readline  # noqa: F401 (gives `input` its editing and history)

        _say(CHAT_HELP)
    while True:
        try:
            line = (input("> ") if terminal else _piped_line()).strip()
        except EOFError:
            if terminal:
                print()
            return
        except KeyboardInterrupt:
            print()
            if not terminal:
                raise
            _say("Ctrl-D or /exit ends")
            continue
        if line == "/exit":
            return
        if line:
            yield line


def _piped_line() -> str:
    line = sys.stdin.buffer.readline(MAX_PROMPT_BYTES + 1)
    if not line:
        raise EOFError
    return _decoded(line, "a line of stdin")


def _folder(options: argparse.Namespace) -> Path:
    from flows.inspect.references import NoArtifactError

    try:
        return part_folder(options.release, "release")
    except NoArtifactError as error:
        hint = "Only a release can write: a model that tells classes apart is asked with `llmill classify`"
        raise DataError(f"{error}. {hint}") from None


def _opened(options: argparse.Namespace, folder: Path) -> "Release":
    from tasks.answer.release import open_release

    if options.adapter is None:
        return open_release(folder, int8=options.int8)
    if options.int8:
        raise ConfigError(
            "--adapter goes with the weights that it was trained on, not with --int8: leave one of them out"
        )
    return open_release(folder, adapter=part_folder(options.adapter, "adapter"))


def _sampling(options: argparse.Namespace, settings: "ReleaseSettings") -> "Sampling":
    from tasks.answer.stream import Sampling

    if "" in options.stop:
        raise ConfigError("--stop: an empty text would end every answer before it begins; leave it out")
    if options.temperature and (options.beams or 1) > 1:
        raise ConfigError("--beams searches for the likeliest answer, --temperature draws one: leave one of them out")
    return Sampling(
        options.max_new_tokens,
        options.temperature,
        options.top_p,
        options.seed,
        tuple(map(_utf8, options.stop)),
        beams=1 if options.temperature else options.beams or settings.num_beams,
        no_repeat=settings.no_repeat_in_answer,
    )


def _prompt(argument: str) -> str:
    """The prompt itself, or for `-` all of stdin without its last line break."""
    if argument != "-":
        return as_typed(_utf8(argument))
    return _decoded(sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1), "the prompt on stdin").removesuffix("\n")


def as_typed(text: str) -> str:
    """A text as if it had been typed: without the mark that opens a file of Windows, nor its carriage returns.

    `"$(cat prompt.txt)"` leaves the last of these without its line feed.
    """
    return text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\r")


def _decoded(data: bytes, what: str) -> str:
    if len(data) > MAX_PROMPT_BYTES:
        raise DataError(f"{what} is longer than {MAX_PROMPT_BYTES:,} bytes")
    try:
        return as_typed(data.decode())
    except UnicodeDecodeError as error:
        raise DataError(f"{what} is not valid UTF-8 (byte {error.start}): convert it first") from None


def _utf8(argument: str) -> str:
    """An argument of the command line; ConfigError where it holds bytes that are not UTF-8."""
    if not is_utf8(argument):
        raise ConfigError("the prompt and --stop must be UTF-8: check the encoding of the terminal or of the caller")
    return argument


def _show(answer: "Answer | Iterable[str]") -> None:
    """Print the pieces as they come, then a line break."""
    terminal = sys.stdout.isatty()
    for piece in answer:
        print(piece.translate(_CONTROL) if terminal else piece, end="", flush=True)
    print(flush=True)


def _say(message: str) -> None:
    """Print a message of the program itself: on stderr, so that a pipe holds answers only."""
    print(f"({message})", file=sys.stderr, flush=True)


def _turns(count: int) -> str:
    return "turn" if count == 1 else f"{count} turns"


def _end(signal_number: int, frame: Any) -> NoReturn:
    raise SystemExit(128 + signal_number)
