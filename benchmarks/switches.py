"""What the switches of trainings do: held-out bits per byte and CPU time a step, against the same steps without.

    python -m benchmarks.switches quick [--seeds 1 2] [--tokens 400000] [--teacher FOLDER] [--only base mix]
    python -m benchmarks.switches mixture.yaml --only even "novels late" "novels early"
    python -m benchmarks.switches quick --stage finetune --teacher FOLDER [--shared-words 3]

Each line is what `llmill run RECIPE --to STAGE` builds with the settings of SWITCHES, for each seed, with one thread,
in the home that LLMILL_HOME names. CPU time is that of the trainer's process less that of a training over three steps;
`nan` where a model of the same settings is there already. The last three of pretraining are for a recipe with sources
`docstrings` and `novels`. Fine-tuning starts from the base model of seed 1, and its figure is that of answers.
"""

import argparse
import math
import os
import resource
import statistics
from collections.abc import Sequence

from flows.build import building
from flows.recipe import load_recipe
from storage.home import prepare_home
from storage.store.local import Store
from tasks.engine.builder import Builder
from tasks.engine.planner import Options

STEP_TOKENS = 2048  # of a nano model's step
HALVES = (
    "collect.mix.phases=[{{share: 0.5, weights: {{novels: {0}, docstrings: {1}}}}}, "
    "{{share: 0.5, weights: {{novels: {1}, docstrings: {0}}}}}]"
)
PRETRAINING: dict[str, Sequence[str]] = {
    "base": (),
    "mix": ("collect.mix={}",),
    "short first": ("collect.mix.curriculum={by: length}",),
    "long first": ("collect.mix.curriculum={by: length, first: high}",),
    "prose first": ("collect.mix.curriculum={by: signals.alphabetic_words, first: high}",),
    "prose last": ("collect.mix.curriculum={by: signals.alphabetic_words}",),
    "self at 0.3": ("pretrain.teacher={earlier_self: 0.3, weight: 0.3}",),
    "self at 0.6": ("pretrain.teacher={earlier_self: 0.6, weight: 0.3}",),
    "teacher 0.5 at 1": ("pretrain.teacher={path: TEACHER, weight: 0.5, temperature: 1}",),
    "teacher 0.5 at 2": ("pretrain.teacher={path: TEACHER, weight: 0.5, temperature: 2}",),
    "teacher 0.9 at 2": ("pretrain.teacher={path: TEACHER, weight: 0.9, temperature: 2}",),
    "best fit": ("pretrain.packing=best_fit",),
    "masks": ("pretrain.document_masks=true",),
    "best fit and masks": ("pretrain.packing=best_fit", "pretrain.document_masks=true"),
    "mix, best fit": ("collect.mix={}", "pretrain.packing=best_fit"),
    "mix, masks": ("collect.mix={}", "pretrain.document_masks=true"),
    "mix, both": ("collect.mix={}", "pretrain.packing=best_fit", "pretrain.document_masks=true"),
    "noise": ("augment.noise={share: 0.2}",),
    "dropout": ("augment.dropout={share: 0.2}",),
    "noise and dropout": ("augment.noise={share: 0.2}", "augment.dropout={share: 0.2}"),
    "shuffle": ("augment.shuffle={share: 0.4}",),
    "middle": ("augment.middle={share: 0.5, instead: true}",),
    "rewrite": (
        "augment.rewrite={teacher: {path: TEACHER}, share: 1.0, prompt: '{text}', most_apart: 50, "
        "most_characters: 720, most_answer_tokens: 250, most_requests: 4000}",
    ),
    "even": ("collect.mix.weights={novels: 1, docstrings: 1}",),
    "novels early": (HALVES.format(3, 1),),
    "novels late": (HALVES.format(1, 3),),
}
FINETUNING: dict[str, Sequence[str]] = {
    "base": (),
    "two passes": ("finetune.epochs=2",),
    "short first": ("finetune.curriculum=length",),
    "teacher 0.5 at 2": ("finetune.teacher={path: TEACHER, weight: 0.5, temperature: 2}",),
    "teacher 0.9 at 2": ("finetune.teacher={path: TEACHER, weight: 0.9, temperature: 2}",),
    "self at 0.3": ("finetune.teacher={earlier_self: 0.3, weight: 0.3}",),
}
SWITCHES = {"pretrain": PRETRAINING, "finetune": FINETUNING}
FIGURES = {"pretrain": "bits_per_byte", "finetune": "answer_bits_per_byte"}


def run(recipe: str, stage: str, settings: Sequence[str]) -> tuple[float, int, float]:
    """Held-out bits per byte, steps, and the CPU seconds of the trainer's process, NaN where the model is there."""
    loaded = load_recipe(recipe, settings)
    with Builder(Store(prepare_home()), loaded.execution, Options(to=stage)) as engine:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        building(loaded).walk(loaded, engine)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = engine.results[-1]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    built = result.outcome == "built"
    return float(result.summary[FIGURES[stage]]), int(result.summary["steps"]), seconds if built else math.nan


def steps_of(stage: str, steps: int) -> str:
    """The setting that makes a training so long."""
    return f"pretrain.tokens={steps * STEP_TOKENS}" if stage == "pretrain" else f"finetune.steps={steps}"


def measure(given: argparse.Namespace, name: str) -> None:
    """Build one line for each seed and print it."""
    stage: str = given.stage
    fixed = [one.replace("TEACHER", given.teacher) for one in SWITCHES[stage][name]] + ["pretrain.threads=1"]
    if stage == "finetune":
        fixed += [f"pretrain.tokens={given.tokens}", "pretrain.seed=1"]
        fixed += ["finetune.threads=1", f"finetune.shared_words={given.shared_words}"]
    run(given.recipe, stage, [*fixed, steps_of(stage, 2)])  # the stages before, in processes of their own
    _, few, start = run(given.recipe, stage, [*fixed, steps_of(stage, 3)])
    bits, seconds, steps = [], [], 0
    for seed in given.seeds:
        long = [f"pretrain.tokens={given.tokens}"] if stage == "pretrain" else []
        found, steps, whole = run(given.recipe, stage, [*fixed, *long, f"{stage}.seed={seed}"])
        bits.append(found)
        seconds.append((whole - start) / (steps - few))
    shown = "  ".join(f"{one:.4f}" for one in bits)
    cost = f"{statistics.mean(seconds):.3f} CPU-s a step of {steps:,}"
    print(f"{name:18} {shown}  mean {statistics.mean(bits):.4f}  {cost}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--stage", choices=SWITCHES, default="pretrain")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tokens", type=int, default=400_000, help="of pretraining")
    parser.add_argument("--shared-words", type=int, default=3, help="3 leaves 24,000 pairs of the docstrings' 75,000")
    parser.add_argument("--teacher", default="")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    given = parser.parse_args()
    for name in given.only or ():
        if name not in SWITCHES[given.stage]:
            parser.error(f"--only: {name} is not one of {', '.join(SWITCHES[given.stage])}")
    print(f"{given.tokens:,} tokens of pretraining, seeds {given.seeds}, {os.cpu_count()} cores", flush=True)
    for name in given.only or SWITCHES[given.stage]:
        measure(given, name)


if __name__ == "__main__":
    main()
