"""What the report shows of a stage: frozen figures that its `About.report` fills from the parts and the summary.

The report draws them (flows/report/); a stage knows nothing of pages. All of it is JSON, since it is cached: a pass
over the documents is made once for each set of parts, settings and code.
"""

from pydantic import BaseModel, ConfigDict


class Fact(BaseModel):
    """Base of the figures in a report: frozen, and JSON for the cache. Fields that a newer stage adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Example(Fact):
    """A document that was dropped, shortened; `twin` is the text that was kept in its place, `id` the document's own
    (empty for what never became one)."""

    title: str
    source: str
    text: str
    note: str
    twin: str = ""
    id: str = ""


class Reason(Fact):
    """Why documents were dropped: `name` as in the recipe or ledger, `what` for people."""

    name: str
    what: str
    count: int
    examples: tuple[Example, ...] = ()


class Histogram(Fact):
    """Documents by one signal. `counts[i]` lie in `edges[i]` to `edges[i + 1]`; `zeros` are apart where given."""

    signal: str
    label: str  # for people
    logarithmic: bool
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    zeros: int
    documents: int
    median: float
    low: float | None  # limits: documents outside are dropped
    high: float | None
    dropped: int  # by these limits


class Curve(Fact):
    """One training. Points are (step, value); in `unit`, except the rate and the norm of the gradient."""

    heldout: str  # what the model is measured on meanwhile
    note: str = ""
    unit: str = "bits per byte"
    training: tuple[tuple[float, float], ...]
    validation: tuple[tuple[float, float], ...]  # on held-out data; the last one at the end
    rate: tuple[tuple[float, float], ...]
    gradient: tuple[tuple[float, float], ...]
    events: tuple[tuple[float, str], ...] = ()  # steps at which something went wrong, and what


class Count(Fact):
    """How much there is of what."""

    what: str
    count: int


class Table(Fact):
    """Rows of text; the first column names the row, the others are numbers for people."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class Section(Fact):
    """What the report shows of one stage beside its summary; what is empty is left out.

    | field | where it stands |
    |---|---|
    | reasons | why documents were dropped, with examples |
    | histograms | documents by length and quality |
    | counts | tables of counts by their headings; stages that share a heading share the table |
    | tables | with several figures a row |
    | curve | the course of a training |
    """

    reasons: tuple[Reason, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    counts: dict[str, tuple[Count, ...]] = {}
    tables: tuple[Table, ...] = ()
    curve: Curve | None = None
