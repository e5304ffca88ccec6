"""Bad input of moderation: lists, labels and thresholds of a recipe, and what `llmill serve --moderation` is given."""

from bad_input import BadInput

RECIPE = "collect:\n  synthetic: {documents: 40}\n"
LABELS = "  labels: [{name: mails, path: rows.jsonl}]\n"
ROWS_OF_BOTH = '{"text": "buy", "label": "spam"}\n{"text": "see you", "label": "ham"}\n' * 40
LIST = "categories: [{name: rude, words: [{path: words.txt}]}]\n"


def _recipe(name: str, moderate: str, *holds: str, labels: str = "", command: str = "plan", **files: str) -> BadInput:
    """A row about a recipe with the section `moderate`; a file's name has its ending behind an underline."""
    named = {file.replace("_", "."): text for file, text in files.items()}
    text = f"{RECIPE}{labels}moderate: {{categories: [{moderate}]}}\n"
    return BadInput(name, f"{command} recipe.yaml", holds, {"recipe.yaml": text, **named})


def _serve(name: str, given: str, *holds: str, **files: str | bytes) -> BadInput:
    named = {file.replace("_", "."): text for file, text in files.items()}
    return BadInput(name, "serve --moderation moderation.yaml", holds, {"moderation.yaml": given, **named})


ROWS = (
    _recipe("a threshold out of range", "{name: a, threshold: 2, detectors: [email]}", "categories.0.threshold"),
    _recipe("a category known by nothing", "{name: a}", "moderate.categories.0", "a: give words, detectors or labels"),
    _recipe("two categories of one name", "{name: a, detectors: [ip]}, {name: a, detectors: [ip]}", "a is named twice"),
    _recipe("a detector of nothing", "{name: a, detectors: [shoe_size]}", "categories.0.detectors.0", "'secret'"),
    _recipe("a list that is not there", "{name: a, words: [{path: no.txt}]}", "no.txt: there is no such file"),
    _recipe(
        "a list without a word",
        "{name: a, words: [{path: words.txt}]}",
        "words.txt: holds no word",
        words_txt="# only a comment\n",
    ),
    _recipe("labels without rows", "{name: a, labels: [spam]}", "categories.0.labels: collect.labels names no rows"),
    _recipe(
        "rows that nothing learns from", "{name: a, detectors: [ip]}", "collect.labels: no category", labels=LABELS
    ),
    _recipe("rows that are not there", "{name: a, labels: [spam]}", "collect.labels[0].path", labels=LABELS),
    _recipe(
        "a label that no row has",
        "{name: a, labels: [scam]}",
        "moderate.categories.0.labels: no row has the label 'scam'. There are: ham, spam",
        labels=LABELS,
        command="run --plain --to moderator",
        rows_jsonl=ROWS_OF_BOTH,
    ),
    _serve("serve with a list of bad bytes", LIST, "words.txt, line 2: not UTF-8", words_txt=b"fool\n\xff\n"),
    _serve("serve with a list that is not there", LIST, "words.txt: there is no such file"),
    _serve("serve with moderation that is no YAML", "categories: [", "moderation.yaml", "line", "not valid YAML"),
    _serve("serve with moderation of nothing", "{}", "moderation.yaml: categories: Field required"),
    _serve(
        "serve with a misspelt field",
        "categories: [{name: a, word: []}]",
        "moderation.yaml: categories.0.word",
        "Extra",
    ),
    _serve(
        "serve with labels and no classifier",
        "categories: [{name: a, labels: [spam]}]",
        "moderation.yaml: categories.0.labels: name the run that has learned them",
    ),
    _serve(
        "serve with a classifier of no run",
        "classifier: nothing\ncategories: [{name: a, labels: [spam]}]",
        "nothing: neither a run nor a digest",
    ),
    BadInput("serve with a run that moderates nothing", "serve --moderation latest", ("no artifact of 'moderator'",)),
    BadInput("serve with an empty moderator", "serve --moderation model", ("moderation.json",), {"model/x": ""}),
    BadInput("allow a key that is not there", "keys allow ada", ("NAME 'ada': there is no such key",)),
)
