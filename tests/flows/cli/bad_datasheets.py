"""Bad input of `llmill datasheet`: runs that are unknown or have no corpus, places that cannot be written."""

from bad_homes import add_run
from bad_input import OWN, BadInput

_WITHOUT = [{"stage": "collect", "outcome": "failed"}]

ROWS = (
    BadInput("datasheet of an unknown run", "datasheet nobody", ("'nobody': not known", "llmill runs")),
    BadInput(
        "datasheet of a run without documents",
        "datasheet bare",
        ("run bare", "no stage of it has made documents (collect: failed)", "no corpus to describe"),
        prepare=add_run("bare", stages=_WITHOUT, status="failed"),
        home=OWN,
    ),
    BadInput(
        "datasheet in place of a file",
        "datasheet --output notes.txt",
        ("--output notes.txt", "is a file", "a file that ends with .html or .json"),
        {"notes.txt": "mine"},
    ),
    BadInput("datasheet below a file", "datasheet --output notes/x.json", ("cannot be written",), {"notes": "mine"}),
    BadInput(
        "datasheet into a folder that is no release",
        "datasheet --into texts",
        ("--into texts", "is not this run's release"),
        {"texts/a.txt": "mine"},
    ),
    BadInput("datasheet into a file", "datasheet --into notes/x", ("cannot be written",), {"notes": "mine"}),
)
