"""What a datasheet says: frozen figures, in the order in which the JSON has them."""

from typing import Any

from tasks.engine.reported import Count, Fact, Table

FORMAT = 1


class Missing(Fact):
    """A stage that should have worked on the corpus and has not, or whose data are gone."""

    stage: str
    why: str


class Group(Fact):
    """What is in the corpus of one source, licence or language; `bytes` as filter counted them, 0 where unknown."""

    name: str
    training: int
    heldout: int
    bytes: int = 0
    tokens: int = 0


class Rows(Fact):
    """Supervised rows of the corpus: `part` is pairs, preferences or labels."""

    part: str
    source: str
    training: int
    heldout: int


class Shown(Fact):
    """A document, shortened, without personal data; `instead` is the text that was kept in its place."""

    id: str
    title: str
    source: str
    text: str
    note: str = ""
    instead: str = ""


class Composition(Fact):
    """The corpus as it is in the end."""

    documents: int
    training: int
    heldout: int
    shards: int
    sources: tuple[Group, ...]
    licenses: tuple[Group, ...]
    languages: tuple[Group, ...]  # as stated by the source, else as found
    rows: tuple[Rows, ...]
    examples: tuple[Shown, ...]


class Dropped(Fact):
    """Why a stage dropped documents."""

    name: str
    what: str
    count: int
    examples: tuple[Shown, ...]


class Listed(Fact):
    """Rows of a stage's ledger that are alike: the first ids, in the order of ids, which are hashes."""

    reason: str
    part: str
    action: str
    rows: int
    ids: tuple[str, ...]


class Counts(Fact):
    """Counts below one heading."""

    heading: str
    rows: tuple[Count, ...]


class Treatment(Fact):
    """What one stage did. Counts are None for a stage that treats no documents."""

    stage: str
    title: str
    read: int | None
    kept: int | None
    dropped: int | None
    quarantined: int | None
    reasons: tuple[Dropped, ...]
    ledger: tuple[Listed, ...]
    counts: tuple[Counts, ...]
    tables: tuple[Table, ...]
    figures: dict[str, Any]
    notices: tuple[str, ...]


class PersonalKind(Fact):
    """One kind of personal data. `found` and `documents` are of all documents that were read, also of those dropped
    later; `replaced` is what was replaced in those kept, `in_rows` in supervised rows."""

    kind: str
    name: str
    found: int
    documents: int
    replaced: int
    in_rows: int
    ids: tuple[str, ...]


class Personal(Fact):
    """Personal data, as the stage found them that replaces them."""

    stage: str
    looked_for: tuple[str, ...]
    kinds: tuple[PersonalKind, ...]


class SourceFacts(Fact):
    """A source as the recipe names it; of a local path its last component."""

    kind: str
    name: str
    where: tuple[str, ...]
    license: str
    language: str


class Files(Fact):
    """Files, or versions of packages: digests by name. `digest` is of all, also of those that are not listed."""

    of: str  # stage, or stage/part
    digest: str
    count: int
    listed: dict[str, str]


class Build(Fact):
    """The key of a build, and what it was made of."""

    stage: str
    key: str
    artifact: str
    code: str  # digest of all definitions that the stage reaches
    libraries: dict[str, str]
    settings: dict[str, Any]


class Datasheet(Fact):
    """The datasheet of a corpus."""

    format: int = FORMAT
    name: str
    description: str
    corpus: str  # STAGE/PART
    digest: str  # of that part
    missing: tuple[Missing, ...]
    not_done: tuple[str, ...]  # stages of llmill that treat documents, and are not in this run
    composition: Composition
    tokens: tuple[Table, ...]  # by source and by language, of the run's tokenizer; none where nothing was tokenized
    sources: tuple[SourceFacts, ...]
    personal: Personal | None
    searched: str  # the stage that looked for what benchmarks ask; empty where none did
    treatment: tuple[Treatment, ...]
    mix: tuple[Table, ...]
    builds: tuple[Build, ...]
    observed: tuple[Files, ...]
    parts: tuple[Files, ...]
    open_questions: dict[str, tuple[str, ...]]
