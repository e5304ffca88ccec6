"""What the collect stage depends on outside the store, as named digests."""

from storage.source_hashes import hash_files
from tasks.collect.config import CollectConfig
from tasks.collect.discover import RECORD_FORMATS, discover
from tasks.collect.packages import observe_package


def observe_sources(config: CollectConfig) -> dict[str, str]:
    """`source/relative file` -> SHA-256 and `docstrings/package` -> version and digest. Imports no package.

    Touching a file changes nothing, editing, adding or removing one does; upgrading a package does.
    """
    observed = {}
    for number, source in enumerate(config.files):
        for file in hash_files(discover(source.path, f"collect.files[{number}].path")):
            observed[f"{source.name}/{file.name}"] = file.digest
    for number, pairs in enumerate(config.pairs):
        for file in hash_files(discover(pairs.path, f"collect.pairs[{number}].path", RECORD_FORMATS)):
            observed[f"{pairs.name}/{file.name}"] = file.digest
    if config.docstrings:
        for package in config.docstrings.packages:
            observed[f"docstrings/{package}"] = observe_package(package)
    return observed
