"""Bad input in recipes and options: the rows of the table that no file but the recipe is needed for."""

from bad_input import BadInput

RECIPE = "recipe.yaml"
RUN = f"run {RECIPE} --plain"


def _recipe(name: str, text: str | bytes, *holds: str) -> BadInput:
    return BadInput(name, RUN, (RECIPE, *holds), {RECIPE: text})


def _set(name: str, setting: str, *holds: str) -> BadInput:
    return BadInput(name, f"run smoke --plain --set '{setting}'", holds)


FILES = (
    BadInput("unknown recipe", "run quik", ("quik", "did you mean 'quick'")),
    BadInput("recipe that is not there", "run mine.yaml", ("mine.yaml: no such file", "smoke")),
    BadInput("folder for a recipe", "run texts", ("texts: is a folder", "smoke"), {"texts/a.txt": "Text."}),
    _recipe("bad YAML", "collect: {", "line 1", "not valid YAML"),
    _recipe("empty recipe", "", "a recipe is a mapping of sections", "collect"),
    _recipe("list for a mapping", "- collect", "a recipe is a mapping of sections", "collect"),
    _recipe("list for a section", "collect: [synthetic]", "collect: ", "mapping of fields", "synthetic"),
    _recipe("tabs", "collect:\n\tsynthetic: {}\n", "line 2", "not valid YAML", "'\\t'"),
    _recipe("recipe that is not UTF-8", b"collect:\n  # caf\xe9\n", "UTF-8"),
    _recipe("recipe with a NUL", b"collect:\0", "not valid YAML", "#x0000"),
    _recipe("recipe that is too large", "#" * 2_000_000, "1,048,576 bytes"),
    _recipe("recipe nested too deeply", "collect: " + "[" * 5000, "nested too deeply"),
    _recipe("key twice", "collect: {}\ncollect: {}\n", "line 2", "'collect' is given twice"),
    _recipe(
        "key twice below", "collect: {}\nfilter:\n  min_words: 1\n  min_words: 2\n", "line 4", "'min_words' is given"
    ),
    _recipe("alias bomb", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 2", "aliases are not used"),
    _recipe("tag that runs code", "collect: !!python/object/apply:os.system [id]", "line 1", "python/object/apply"),
)

FIELDS = (
    _recipe("missing section", "filter: {}", "collect: is required"),
    _recipe("no source", "collect: {}", "collect: ", "no source: give at least one of files"),
    _recipe("two sources of one name", "collect: {files: [{path: a}, {path: b}]}", "two sources are named files"),
    _recipe("unknown section", "filters: {}", "filters: unknown key", "did you mean 'filter'"),
    _recipe(
        "unknown key at depth",
        "collect: {synthetic: {}, files: [{pth: a}]}",
        "collect.files.0.pth: unknown key",
        "did you mean 'path'",
        "collect.files.0.path: is required",
    ),
    _recipe(
        "unknown key below an optional section",
        "collect: {docstrings: {package: [numpy]}}",
        "collect.docstrings.package: unknown key",
        "did you mean 'packages'",
    ),
    _set("unknown key", "filter.min_word=3", "--set filter.min_word=3: filter.min_word: unknown key", "'min_words'"),
    _set("wrong type", "pretrain.steps=many", "pretrain.steps: ", "valid integer", "'many'"),
    _set("null for a number", "collect.documents_per_shard=null", "collect.documents_per_shard: ", "valid integer"),
    _set("out of bounds", "collect.max_bad_fraction=3", "collect.max_bad_fraction: ", "less than or equal to 1"),
    _set("no number", "pretrain.momentum=.nan", "pretrain.momentum: ", "nan"),
    _set("number that no machine holds", "pretrain.seed=1e999", "pretrain.seed: ", "'1e999'"),
    _set("not one of the choices", "pretrain.size=nanno", "pretrain.size: ", "'nano'", "'nanno'"),
    _set("two budgets", "pretrain.tokens=1000", "pretrain: ", "give steps or tokens, not both"),
    _set(
        "heads that do not divide",
        "pretrain.key_value_heads=3",
        "pretrain: ",
        "must be a multiple of key_value_heads (3)",
    ),
    _set("batch below one row", "pretrain.batch_tokens=32", "pretrain: ", "batch_tokens (32)", "context_length 64"),
    _set("stride over the context", "evaluate.stride=100", "evaluate.stride (100)", "context of 64 tokens"),
)

OPTIONS = (
    _set("--set without =", "filter.min_words", "--set filter.min_words", "path=value"),
    _set("--set of an entry that is not there", "collect.files.0.path=x", "collect.files.0.path=x", "collect.files"),
    _set("--set below a number", "pretrain.steps.x=3", "--set pretrain.steps.x=3", "pretrain.steps has no fields"),
    _set("--set of bad YAML", "collect.files=[", "--set collect.files=[", "not valid YAML"),
    BadInput("unknown stage for --to", "run smoke --to tokeniser", ("--to tokeniser", "did you mean 'tokenizer'")),
    BadInput("unknown stage for --force", "plan smoke --force pretran", ("--force pretran", "did you mean 'pretrain'")),
    BadInput("unknown stage for --keep", "plan smoke --keep x", ("--keep x", "Stages: collect, deduplicate")),
    BadInput("misspelt stage for --keep", "plan smoke --keep fliter", ("--keep fliter", "did you mean 'filter'")),
    BadInput("--force and --keep", "run smoke --force filter --keep filter", ("--force filter", "exclude each other")),
    BadInput(
        "--force behind --to",
        "run smoke --plain --to collect --force filter",
        ("--to collect", "--force filter", "exclude each other"),
    ),
    BadInput("unknown command", "rum smoke", ("rum", "invalid choice", "run")),
    BadInput("unknown option", "run smoke --plane", ("unrecognized arguments: --plane",)),
    BadInput("number out of an option's bounds", "generate x --top-p 2", ("--top-p", "between 0 and 1")),
)

ROWS = (*FILES, *FIELDS, *OPTIONS)
