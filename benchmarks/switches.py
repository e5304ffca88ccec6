"""What the switches of pretraining do: held-out bits per byte and CPU time a step, against the same steps without.

    python -m benchmarks.switches quick [--seeds 1 2] [--tokens 400000] [--teacher FOLDER] [--only base length]
    python -m benchmarks.switches mixture.yaml --only even late early

Each line is what `llmill run RECIPE --to pretrain` builds with the settings of SWITCHES, for each seed, with one
thread, in the home that LLMILL_HOME names. CPU time is that of the trainer's process less that of a training over two
steps. The last three are for a recipe with sources `docstrings` and `novels`.
"""

import argparse
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
SWITCHES: dict[str, Sequence[str]] = {
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
    "even": ("collect.mix.weights={novels: 1, docstrings: 1}",),
    "novels early": (HALVES.format(3, 1),),
    "novels late": (HALVES.format(1, 3),),
}


def run(recipe: str, settings: Sequence[str]) -> tuple[float, float]:
    """Held-out bits per byte, and the CPU seconds of the trainer's process, 0 where the model is there already."""
    loaded = load_recipe(recipe, settings)
    with Builder(Store(prepare_home()), loaded.execution, Options(to="pretrain")) as engine:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        building(loaded).walk(loaded, engine)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = engine.results[-1]
    bits: float = result.summary["bits_per_byte"]
    return bits, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--teacher", default="")
    parser.add_argument("--only", nargs="+", default=list(SWITCHES), choices=list(SWITCHES), metavar="NAME")
    given = parser.parse_args()
    steps = -(-given.tokens // STEP_TOKENS)
    print(f"{given.tokens:,} tokens, {steps} steps, seeds {given.seeds}, {os.cpu_count()} cores", flush=True)
    fixed = ["pretrain.threads=1"]
    run(given.recipe, [*fixed, f"pretrain.tokens={STEP_TOKENS}"])  # the stages before, in processes of their own
    _, start = run(given.recipe, [*fixed, f"pretrain.tokens={2 * STEP_TOKENS}"])
    for name in given.only:
        bits, seconds = [], []
        for seed in given.seeds:
            settings = [one.replace("TEACHER", given.teacher) for one in SWITCHES[name]]
            settings += [*fixed, f"pretrain.seed={seed}", f"pretrain.tokens={given.tokens}"]
            found, whole = run(given.recipe, settings)
            bits.append(found)
            seconds.append((whole - start) / (steps - 2))
        shown = "  ".join(f"{one:.4f}" for one in bits)
        cost = f"{statistics.mean(seconds):.3f} CPU-s a step"
        print(f"{name:18} {shown}  mean {statistics.mean(bits):.4f}  {cost}", flush=True)


if __name__ == "__main__":
    main()
