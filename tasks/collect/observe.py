"""What the collect stage depends on outside the store, as named digests."""

from storage.documents import FEEDBACK
from storage.source_hashes import hash_files
from tasks.collect.config import CollectConfig
from tasks.collect.discover import DUMP_FORMATS, WARC_FORMATS, conversation_formats, discover
from tasks.collect.feedback.records import digest_of_records
from tasks.collect.libraries import WARC, WIKITEXT, libraries_of, versions
from tasks.collect.packages import observe_package


def observe_sources(config: CollectConfig) -> dict[str, str]:
    """`source/relative file` -> SHA-256 and `docstrings/package` -> version and digest. Imports no package.

    `feedback` is the digest of what users have said.
    `library/name` is the version of a library that decides the text of some of the sources.

    Touching a file changes nothing, editing, adding or removing one does; upgrading a package does.
    """
    observed: dict[str, str] = {}
    for number, source in enumerate(config.files):
        files = hash_files(discover(source.path, f"collect.files[{number}].path"))
        observed |= {f"{source.name}/{file.name}": file.digest for file in files}
        used = libraries_of(source, [file.name for file in files])
        observed |= {f"library/{name}": version for name, version in used.items()}
    for number, own in enumerate(config.conversations):
        for file in hash_files(discover(own.path, f"collect.conversations[{number}].path", conversation_formats(own))):
            observed[f"{own.name}/{file.name}"] = file.digest
    for number, wikipedia in enumerate(config.wikipedia):
        for file in hash_files(discover(wikipedia.path, f"collect.wikipedia[{number}].path", DUMP_FORMATS)):
            observed[f"{wikipedia.name}/{file.name}"] = file.digest
    for number, warc in enumerate(config.warc):
        if warc.path:  # others are fetched: an input
            for file in hash_files(discover(warc.path, f"collect.warc[{number}].path", WARC_FORMATS)):
                observed[f"{warc.name}/{file.name}"] = file.digest
    libraries = (*(WIKITEXT if config.wikipedia else ()), *(WARC if config.warc or config.web else ()))
    observed |= {f"library/{name}": version for name, version in versions(libraries).items()}
    if config.feedback:
        observed[FEEDBACK] = digest_of_records()
    if config.docstrings:
        for package in config.docstrings.packages:
            observed[f"docstrings/{package}"] = observe_package(package)
    return observed
