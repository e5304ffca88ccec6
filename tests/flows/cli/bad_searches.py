"""Bad input in the space of a search: refused before anything runs."""

from bad_input import BadInput

SPACE = "space.yaml"
TUNE = f"tune smoke --space {SPACE} --plain"
HEAD = "figure: finetune.answer_bits_per_byte\nbest: lowest\n"
RATE = "fields: {finetune.matrix_rate: {low: 0.001, high: 0.01}}\n"


def _space(name: str, text: str, *holds: str) -> BadInput:
    return BadInput(name, TUNE, (SPACE, *holds), {SPACE: text})


def _field(name: str, field: str, *holds: str) -> BadInput:
    return _space(name, f"{HEAD}fields: {{{field}}}\n", *holds)


def _figure(name: str, figure: str, *holds: str) -> BadInput:
    return _space(name, f"figure: {figure}\nbest: lowest\n{RATE}", "figure: ", *holds)


FILES = (
    BadInput("space that is not there", "tune smoke --space mine.yaml", ("mine.yaml: cannot be read",)),
    BadInput("no space", "tune smoke", ("--space",)),
    BadInput("no trials", "tune smoke --space a --trials 0", ("--trials", "between 1 and 10000")),
    _space("space of bad YAML", "figure: {", "line 1", "not valid YAML"),
    _space("empty space", "", "a space is a mapping of fields", "figure"),
    _space("space without fields", HEAD, "fields: is required"),
    _space("unknown key in a space", f"{HEAD}{RATE}methode: tpe\n", "methode: unknown key", "did you mean 'method'"),
    _space("unknown method", f"{HEAD}{RATE}method: bayes\n", "method: ", "'grid', 'random' or 'tpe'", "'bayes'"),
    _space("grid without steps", f"{HEAD}{RATE}method: grid\n", "fields.finetune.matrix_rate", "a grid needs choices"),
)

FIELDS = (
    _field(
        "field that does not exist",
        "finetune.matrix_rat: {choices: [1]}",
        "fields.finetune.matrix_rat: unknown key",
        "did you mean 'matrix_rate'",
    ),
    _field(
        "section that does not exist",
        "fintune.steps: {choices: [1]}",
        "fields.fintune: unknown key",
        "did you mean 'finetune'",
    ),
    _field("field below a number", "pretrain.steps.x: {choices: [1]}", "pretrain.steps has no fields"),
    _field("range out of bounds", "finetune.matrix_rate: {low: 0.1, high: 5}", "fields.finetune.matrix_rate", "is 5"),
    _field("choice out of bounds", "finetune.steps: {choices: [4, 0]}", "fields.finetune.steps", "greater", "is 0"),
    _field("choice of another type", "finetune.steps: {choices: [many]}", "fields.finetune.steps", "'many'"),
    _field("fractions of a whole number", "finetune.steps: {low: 1.5, high: 4}", "fields.finetune.steps", "1.5"),
    _field("range upside down", "finetune.steps: {low: 9, high: 4}", "fields.finetune.steps: low (9)", "high (4)"),
    _field("log from zero", "finetune.steps: {low: 0, high: 4, log: true}", "log needs a low above zero"),
    _field("choices and a range", "finetune.steps: {choices: [1], low: 3}", "choices or a range, not both"),
    _field("neither choices nor a range", "finetune.steps: {low: 3}", "give choices, or a range: low and high"),
    _field("choice twice", "finetune.steps: {choices: [1, 1]}", "a choice is given twice"),
    _field(
        "field of a later stage",
        "evaluate.items: {choices: [30, 40]}",
        "fields.evaluate.items: changes nothing that finetune.answer_bits_per_byte depends on",
    ),
    _field(
        "field that changes no result",
        "execution.workers: {choices: [1, 2]}",
        "fields.execution.workers: changes nothing",
    ),
)

FIGURES = (
    _figure("figure of no stage", "fintune.loss", "no stage 'fintune'", "did you mean 'finetune'"),
    _figure(
        "figure that no stage has",
        "finetune.answer_bits",
        "finetune has no such number",
        "did you mean 'answer_bits_per_byte'",
    ),
    _figure("figure that is not a number", "release.name", "release has no number", "Stages with figures: "),
    _figure("score of no benchmark", "evaluate.piqa/acc", "no such number", "evaluate.tasks names: there are none"),
)

ROWS = (*FILES, *FIELDS, *FIGURES)
