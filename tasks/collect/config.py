"""What a recipe can set for the stage collect: its section `collect`."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from storage.documents import FEEDBACK
from tasks.collect.encodings import AUTO, known_encoding
from tasks.collect.feedback.config import FeedbackSource
from tasks.collect.pages.config import PageConfig
from tasks.collect.unpack import MAX_WINDOW_BYTES
from tasks.engine.config import LOCATION, StageConfig
from tasks.fetch.config import CrawlSource, DownloadSource, FetchConfig, HuggingFaceSource, SourceName

Text = Annotated[str, StringConstraints(min_length=1)]

STANDARD_LIBRARY = "stdlib"  # among the packages: Python's own library, a group for each of its modules

# Of what llmill's own dependencies always bring (torch brings networkx, mlflow brings scikit-learn, ...): first those
# with much prose for each CPU-second, then those with many pairs for it, then those that are held out.
DEFAULT_PACKAGES = (
    STANDARD_LIBRARY,
    *("torch", "mlflow", "prefect", "scipy", "sqlalchemy", "pandas", "scikit-learn", "matplotlib", "numpy"),
    *("huggingface-hub", "pyarrow", "fsspec", "alembic", "jinja2", "click", "flask", "anyio"),
    *("sympy", "databricks-sdk", "apprise", "redis", "fonttools", "pillow", "pyparsing", "graphql-core", "gunicorn"),
    *("docker", "gitpython", "protobuf", "opentelemetry-sdk", "aiohttp", "httpx", "websockets", "pygments", "lm-eval"),
    *("joblib", "mako", "narwhals", "cryptography", "cyclopts", "requests", "typer", "more-itertools", "jsonschema"),
    *("networkx", "nltk", "datasets", "pydantic", "rich", "werkzeug"),
)
DEFAULT_HELDOUT_PACKAGES = ("networkx", "nltk", "datasets", "pydantic", "rich", "werkzeug")


class OwnFiles(StageConfig):
    """How files of the user's own are found and read."""

    name: SourceName
    path: Text
    group_field: str | None = None
    encoding: str = Field(
        AUTO,
        description="Encoding of the files (cp1252, utf-16, ...), whatever pages and XML say; parts of e-mails, "
        "PDF, EPUB, Word and Parquet have their own. auto: found or guessed; ask: found, else reported.",
    )
    delimiter: str = Field(
        AUTO, description="What separates the fields of .csv and .tsv: one character, `tab`, or auto (found)."
    )
    quote: str = Field(
        AUTO, description="What fields of .csv and .tsv are quoted with: one character, `none`, or auto (found)."
    )
    allow_truncated: bool = Field(
        False, description="Accept a file that is cut or damaged and keep what is before; otherwise the stage fails."
    )

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        return known_encoding(encoding)

    @model_validator(mode="after")
    def _one_character(self) -> Self:
        for field, word in (("delimiter", "tab"), ("quote", "none")):
            value = getattr(self, field)
            if value not in (AUTO, word) and (len(value) != 1 or value.isalnum() or value in "\r\n\0"):
                raise ValueError(f"{field}: {value!r} is neither one character that separates, `{word}` nor `auto`")
        if self.delimiter == self.quote != AUTO:
            raise ValueError("delimiter and quote are the same character")
        return self


class FilesSource(OwnFiles):
    """Files of your own: texts, pages, books and e-mails (one document each), records (one document a record).

    Texts are .txt .md .rst, then .html .xml .eml .pdf .epub .docx; records .jsonl .json .csv .tsv .parquet. Each plain
    or packed with .gz, .zst, .bz2 or .xz.
    """

    name: SourceName = Field("files", description="Name of this source in documents, ledgers and figures.")
    path: Text = Field(
        description="A folder (with all below it), a glob such as books/**/*.txt, or one file.",
        json_schema_extra=LOCATION,
    )
    separator: Text | None = Field(
        None,
        description="What is between the documents of a text file, such as <|endoftext|>; empty: a file is one.",
    )
    text_field: str = Field(
        "text", min_length=1, description="Field or column that holds a record's text; a dot leads into it: body.text."
    )
    group_field: str | None = Field(
        None, description="Field that names a record's group (book, site); without it each record is its own group."
    )
    score_field: str | None = Field(
        None, description="Field with a number that says how good or hard a record is: kept as metadata.score."
    )
    pages: PageConfig = Field(PageConfig(), description="How .html, .xml, .eml, .pdf, .epub and .docx are read.")
    repair_unicode: bool = Field(
        False, description="Repair texts that were decoded wrongly (Ã¤ for ä), and count them as `repaired`."
    )
    license: str = Field("", description="Licence of the texts, where a record does not say (field `license`).")
    lang: str = Field("", description="ISO 639-1 language of the texts, where a record does not say (field `lang`).")

    @property
    def repairs(self) -> bool:
        """Whether texts are repaired, as either setting says it."""
        return self.repair_unicode or self.pages.repair_unicode


class WikipediaSource(StageConfig):
    """Articles of Wikipedia, or of any wiki that runs MediaWiki, from its dump (dumps.wikimedia.org).

    Files .xml, plain or packed with .bz2 (also multistream), .gz, .zst or .xz.
    """

    name: SourceName = Field("wikipedia", description="Name of this source in documents, ledgers and figures.")
    path: Text = Field(
        description="A dump (...-pages-articles.xml.bz2), a folder of its parts, or a glob.",
        json_schema_extra=LOCATION,
    )
    lang: str = Field("", max_length=35, description="ISO 639-1 language of the articles; empty: what the dump says.")
    license: str = Field("CC-BY-SA-4.0", description="Licence of the articles (CC-BY-SA-3.0 before June 2023).")
    seconds: float = Field(
        10.0, ge=1, le=600, description="Processor time of an article, in seconds; one that takes longer is lost alone."
    )
    allow_truncated: bool = Field(
        False, description="Accept a dump that is cut or damaged and keep what is before; otherwise the stage fails."
    )


class ArchivedPages(StageConfig):
    """How archived pages become documents.

    Lines that repeat across the pages of a site (navigation, notices of cookies) are removed.
    """

    group_by: Literal["host", "page"] = Field(
        "host", description="What is held out as one: all pages of a host, or each page by itself."
    )
    site_lines: bool = Field(
        True, description="Remove lines that stand on 3 pages and more than 30 % of the pages of a host in a file."
    )
    pages: PageConfig = Field(PageConfig(), title="Pages", description="How HTML is read.")
    license: str = Field("", description="Licence of the pages, where a page does not link one (rel=license).")
    lang: str = Field("", max_length=35, description="ISO 639-1 language of the pages, where a page does not say.")


class WarcSource(DownloadSource, ArchivedPages):
    """Pages of web archives: files .warc, plain or packed with .gz, .zst or .lz4, and the texts of .wet files.

    Local ones by their `path`, or fetched ones by `urls` or `lists`.
    """

    name: SourceName = Field("warc", description="Name of this source in documents, ledgers and figures.")
    path: Text | None = Field(
        None, description="A WARC file, a folder of them (with all below it), or a glob.", json_schema_extra=LOCATION
    )
    allow_truncated: bool = Field(
        False, description="Accept a file that is cut or damaged and keep what is before; otherwise the stage fails."
    )

    @property
    def is_remote(self) -> bool:
        """Whether its files are fetched."""
        return bool(self.urls or self.lists)

    @property
    def where(self) -> str:
        """What messages call its place."""
        return self.path or ", ".join((*self.urls, *self.lists))

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is not None) == self.is_remote:
            raise ValueError("give either path, or urls and lists")
        return self


class WebSource(CrawlSource, ArchivedPages):
    """Pages of web sites, crawled politely: robots.txt is obeyed, one request at a time to each host."""

    name: SourceName = Field("web", description="Name of this source in documents, ledgers and figures.")
    group_by: Literal["host", "page"] = Field(
        "page", description="What is held out as one: all pages of a host, or each page by itself."
    )

    @property
    def crawl(self) -> CrawlSource:
        """What of it decides which pages are fetched."""
        return CrawlSource.model_validate(self.model_dump(include=set(CrawlSource.model_fields)))


class HubSource(HuggingFaceSource):
    """Texts of a data set of the Hugging Face hub: records of .parquet .jsonl .json .csv .tsv, or texts (.txt).

    The files are fetched once, at one commit. A token is that of the environment (HF_TOKEN).
    """

    text_field: str = Field(
        "text", min_length=1, description="Column that holds a record's text; a dot leads into it: body.text."
    )
    group_field: str | None = Field(
        None, description="Column that names a record's group; without it each record is its own group."
    )
    score_field: str | None = Field(
        None, description="Column with a number that says how good or hard a record is: kept as metadata.score."
    )
    license: str = Field("", description="Licence of the texts, where a record does not say (column `license`).")
    lang: str = Field("", description="ISO 639-1 language of the texts, where a record does not say (column `lang`).")
    allow_truncated: bool = Field(
        False, description="Accept a file that is damaged and keep what is before; otherwise the stage fails."
    )

    @property
    def as_files(self) -> FilesSource:
        """How its files are read, once they are here."""
        return FilesSource(
            path=self.dataset,
            **self.model_dump(
                include={"name", "text_field", "group_field", "score_field", "license", "lang", "allow_truncated"}
            ),
        )


class ConversationsSource(OwnFiles):
    """Instruction data of your own: records of .jsonl, .json, .csv, .tsv or .parquet in any of the usual forms.

    Told apart by their fields: Alpaca, prompt and completion, messages, ShareGPT, preferences, KTO, text and label.
    """

    name: SourceName = Field("conversations", description="Name of this source in pairs, ledgers and figures.")
    path: Text = Field(description="A folder (with all below it), a glob, or one file.", json_schema_extra=LOCATION)
    prompt_field: Text = Field(AUTO, description="Field with the prompt; auto: prompt, instruction or question.")
    input_field: Text = Field(
        AUTO, description="Field with what the prompt is about, put behind it; auto: input or context; none: no field."
    )
    answer_field: Text = Field(AUTO, description="Field with the answer; auto: answer, output, completion, response.")
    conversation_field: Text = Field(
        AUTO, description="Field with a whole conversation; auto: messages, conversations or conversation."
    )
    text_field: Text = Field(AUTO, description="Field with a text that has a label; auto: text, sentence, tweet, ...")
    label_field: Text = Field(AUTO, description="Field with the label of a text; auto: label, class, category, ...")
    label_folders: bool = Field(
        False, description="Read text files too (.txt, .md, .rst), each labelled by the name of its folder."
    )
    group_field: str | None = Field(
        None, description="Field that names a record's group; without it those with one first question make a group."
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        named = {
            "pairs": (self.prompt_field, self.answer_field),
            "a conversation": (self.conversation_field,),
            "labels": (self.text_field, self.label_field),
        }
        stated = [form for form, fields in named.items() if any(field != AUTO for field in fields)]
        if len(stated) > 1:
            raise ValueError(f"fields of {' and of '.join(stated)} are named; a source that names some has one form")
        return self


class DocstringsSource(StageConfig):
    """Docstrings of installed packages as prose, and declaration -> summary pairs. Nothing is imported."""

    packages: tuple[Text, ...] = Field(
        DEFAULT_PACKAGES, min_length=1, description="Names of distributions or packages; `stdlib` is Python's library."
    )
    heldout_packages: tuple[Text, ...] = Field(
        DEFAULT_HELDOUT_PACKAGES,
        description="Packages held out of training; of stdlib, heldout_fraction of the modules; others are never.",
    )

    @model_validator(mode="after")
    def _no_package_twice(self) -> Self:
        for package in self.packages:
            if self.packages.count(package) > 1:
                raise ValueError(f"packages: {package} is named twice")
        return self


class SyntheticSource(StageConfig):
    """Small documents and pairs that code makes: for the smoke recipe and for tests."""

    documents: int = Field(400, ge=20, le=100_000, description="Number of documents.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the generator.")


class CollectConfig(StageConfig):
    """Where the text comes from, what is held out, how it is cut into shards, how much bad input is allowed."""

    files: tuple[FilesSource, ...] = Field((), description="Files of your own.")
    wikipedia: tuple[WikipediaSource, ...] = Field((), description="Dumps of Wikipedia and other wikis.")
    warc: tuple[WarcSource, ...] = Field((), description="Web archives.")
    web: tuple[WebSource, ...] = Field((), description="Web sites.")
    huggingface: tuple[HubSource, ...] = Field((), description="Data sets of the Hugging Face hub.")
    docstrings: DocstringsSource | None = Field(None, description="Docstrings of installed packages.")
    synthetic: SyntheticSource | None = Field(None, description="Documents that code makes.")
    conversations: tuple[ConversationsSource, ...] = Field((), description="Instruction data of your own.")
    feedback: FeedbackSource | None = Field(
        None,
        title="Feedback",
        description="What users of the model server have said; empty: a retraining takes it, where there is any "
        "(retrain.feedback).",
    )
    heldout_fraction: float = Field(
        0.1, ge=0, le=0.5, description="Share of the groups that is held out of training, by a hash of the name."
    )
    heldout_groups: tuple[str, ...] = Field(
        (), description="Groups that are held out in any case; a file's name holds out all its documents."
    )
    documents_per_shard: int = Field(1000, ge=1, le=1_000_000, description="Documents in a shard, at most.")
    max_bad_fraction: float = Field(
        0.01, ge=0, le=1, description="Share of a source's records that may be bad; more fails the stage."
    )
    max_document_bytes: int = Field(
        8 * 2**20, ge=1, le=2**30, description="Longest document in bytes of UTF-8; a longer one is quarantined."
    )

    max_window_bytes: int = Field(
        MAX_WINDOW_BYTES,
        ge=2**20,
        le=2**31,
        description="Largest window of a .zst file in bytes (zstd --long=29: 2**29); a reader may take as much memory.",
    )

    @property
    def document_sources(self) -> list[str]:
        """Names of the sources that bring documents."""
        sections = (self.files, self.wikipedia, self.warc, self.web, self.huggingface)
        code = [name for name in ("docstrings", "synthetic") if getattr(self, name) is not None]
        return [*(source.name for section in sections for source in section), *code]

    @property
    def fetching(self) -> FetchConfig:
        """What of the sources is fetched."""
        fields = set(HuggingFaceSource.model_fields)
        hub = tuple(HuggingFaceSource(**source.model_dump(include=fields)) for source in self.huggingface)
        fields = set(DownloadSource.model_fields)
        files = tuple(DownloadSource(**one.model_dump(include=fields)) for one in self.warc if one.is_remote)
        return FetchConfig(web=tuple(source.crawl for source in self.web), huggingface=hub, files=files)

    @model_validator(mode="after")
    def _sources(self) -> Self:
        names = [*self.document_sources, *(source.name for source in self.conversations)]
        if not names:
            raise ValueError(
                "no source: give at least one of files, wikipedia, warc, web, huggingface, docstrings, synthetic, "
                "conversations"
            )
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are named {name}: give each a name of its own (`name: ...`)")
        if FEEDBACK in names:
            raise ValueError(f"{FEEDBACK} is the name of what users have said: give the source another (`name: ...`)")
        return self

    def identity(self) -> dict[str, Any]:
        """Without feedback where there is none: a recipe that has none is what it was before there was any."""
        found = super().identity()
        if self.feedback is None:
            del found["feedback"]
        return found
