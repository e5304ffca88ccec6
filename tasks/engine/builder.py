"""The builder: carries decisions out, walking the same flow function that the planner walks.

It knows nothing of Prefect or MLflow: it notifies listeners of what happens, and the flows layer listens.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from storage.addresses import redacted
from storage.errors import refusal
from storage.fingerprint import reread_code
from storage.retryable import is_transient
from storage.store.artifacts import Artifact
from storage.store.local import DamagedError, Store
from tasks.engine.config import StageConfig
from tasks.engine.context import Execution, Summary
from tasks.engine.decide import Decision, decide, kept_attempt
from tasks.engine.edited import check_loaded, doubts, saved_meanwhile
from tasks.engine.executor import executor_of
from tasks.engine.listener import Listener, StageResult
from tasks.engine.meter import Progress
from tasks.engine.planner import Options, ReachedTarget
from tasks.engine.provenance import host_facts, timestamp
from tasks.engine.retries import Limits, Retry, draw_waits, time_limit
from tasks.engine.stage import Output, Pending, Stage
from tasks.engine.unfinished import take_over, work_folder
from tasks.engine.workspace import Workspace

SHOWN_TRANSFER_BYTES = 32 << 20
DATA_COUNTS = ("read", "kept", "dropped", "quarantined")
ERROR_CHARACTERS = 500  # of the error that led to a retry, in records


class Builder:
    """Carries decisions out: verifies and reuses, or builds under a lock and publishes."""

    def __init__(
        self,
        store: Store,
        execution: Execution,
        options: Options | None = None,
        listeners: Sequence[Listener] = (),
        run: str = "",
    ) -> None:
        reread_code()  # all keys of the run come from what the code is now
        self.store, self.execution, self.options = store, execution, options or Options()
        self._listeners, self.run = list(listeners), run
        self._executor = executor_of(execution)
        self._retries: dict[str, list[Retry]] = {}  # of each stage, those that were needed so far
        self._waits: dict[str, list[float]] = {}
        self.results: list[StageResult] = []
        self.retry: Retry | None = None  # what the last attempt's failure leads to
        self._calls: dict[str, tuple[Stage, StageConfig, Mapping[str, Output]]] = {}  # by what they made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.close()

    def listen(self, listener: Listener) -> None:
        """One more listener, called after those before it."""
        self._listeners.append(listener)

    def call(self, stage: Stage, config: StageConfig, inputs: Mapping[str, Output]) -> Artifact:
        """The stage's artifact, reused or built, after as many retries as its limits allow."""
        while True:
            try:
                return self.attempt(stage, config, inputs)
            except Exception:
                if self.retry is None:
                    raise
                time.sleep(self.retry.seconds)

    def waits(self, stage: str) -> list[float]:
        """Seconds to wait before each retry of a stage, drawn once."""
        if stage not in self._waits:
            retries = self.execution.limits(stage).retries
            self._waits[stage] = draw_waits(retries, self.execution.retry_delay_seconds)
        return self._waits[stage]

    def attempt(self, stage: Stage, config: StageConfig, inputs: Mapping[str, Output]) -> Artifact:
        """One attempt at a stage; its error passes through, noted first: `retry` then says whether to try again."""
        started = time.monotonic()
        why: tuple[str, ...] = ()
        self.retry = None
        try:
            with self.store.unswept():
                decision = self._decide(stage, config, inputs)
                why = decision.why
                if decision.artifact is not None:
                    result = self._note(self._reuse(stage, decision, why, started))
            if decision.artifact is None:
                with self._lock(stage, decision.identity.key):
                    result = self._build_or_reuse(stage, config, inputs, started)
                    self._share(result)
            else:
                self._share(result)
        except BaseException as caught:
            error = refusal(caught, self.store.home) or caught
            with suppress(OSError):  # the run file is on the same full disk
                self._note_failure(stage.name, why, time.monotonic() - started, error)
            if error is caught:
                raise
            raise error from caught
        assert result.artifact is not None
        self._calls[result.artifact.digest] = stage, config, inputs
        if stage.name == self.options.to:
            raise ReachedTarget
        return result.artifact

    def reuse_all(self, decisions: Sequence[tuple[Stage, Decision]]) -> bool:
        """Carry out a plan in which every stage can be reused; it was verified when it was made.

        False where its end turns out to be damaged in a shared store, and has to be built again.
        """
        for stage, decision in decisions:
            self._share(self._note(self._reuse(stage, decision, decision.why, time.monotonic())))
        try:
            self.finish()
        except DamagedError:
            return False
        return True

    def finish(self) -> None:
        """After the last stage: what it made is in this home, and others see all that was built.

        Raises StoreError where something could not be sent.
        """
        last = self.results[-1].artifact if self.results else None
        if last is not None:
            self._fetch(last)
        self.store.share_pending()

    # With a shared store ----------------------------------------------------------------------------------------

    def _lock(self, stage: Stage, key: str) -> AbstractContextManager[None]:
        lease = self.execution.lease_seconds
        return self.store.lock(
            key, lease, lambda holder: self._notify("waits", stage.name, holder), {"run": self.run, "stage": stage.name}
        )

    def _share(self, result: StageResult) -> None:
        if result.record is not None:
            self.store.share(result.record, self._transfer(result.stage))

    def _fetch(self, artifact: Artifact) -> None:
        """Have an artifact's parts in this home; what is damaged in the shared store is built again."""
        show = self._transfer(artifact.stage)
        try:
            self.store.fetch(artifact, show)
        except DamagedError:
            if artifact.digest not in self._calls:
                raise
            healed = self.call(*self._calls[artifact.digest])
            if any(healed[name].digest != part.digest for name, part in artifact.parts.items()):
                raise  # it came out otherwise: what reads it has another key now
            self.store.fetch(artifact, show)

    def _transfer(self, stage: str) -> Callable[[int, int], None]:
        """Progress of a transfer that takes long enough to be shown."""

        def show(done: int, total: int) -> None:
            if total >= SHOWN_TRANSFER_BYTES:
                self._notify("progressed", stage, Progress(done / 1e6, total / 1e6, "MB", None, None, {}))

        return show

    # One attempt ------------------------------------------------------------------------------------------------

    def _decide(self, stage: Stage, config: StageConfig, inputs: Mapping[str, Output]) -> Decision:
        force, keep = stage.name in self.options.force, stage.name in self.options.keep
        return decide(self.store, stage, config, inputs, force=force, keep=keep)

    def _reuse(self, stage: Stage, decision: Decision, why: tuple[str, ...], started: float) -> StageResult:
        record = dict(decision.record or {})
        if record.get("key") != decision.identity.key:  # kept though the code has changed: adopted on the record
            adopted = {**record, "key": decision.identity.key, "identity": decision.identity.record()}
            adopted |= {"adopted_from": record["key"], "finished": timestamp(), "run": self.run}
            self.store.record_build(adopted)
            self.store.record_jobs(stage.kind, decision.identity.key, self.store.jobs_of(stage.kind, record["key"]))
            record = adopted
        seconds = time.monotonic() - started
        return StageResult(stage.name, "reused", why, seconds, decision.artifact, record.get("summary", {}), record)

    def _build_or_reuse(
        self, stage: Stage, config: StageConfig, inputs: Mapping[str, Output], started: float
    ) -> StageResult:
        """Under the key's lock: another run may have built it while this one waited for the lock."""
        with self.store.unswept():
            decision = self._decide(stage, config, inputs)
            if decision.artifact is not None:
                return self._note(self._reuse(stage, decision, ("built by another run",), started))
            check_loaded(stage, decision.identity)
            kept = stage.name in self.options.keep
            if kept and (attempt := kept_attempt(self.store, decision.identity)) is not None:
                take_over(attempt, work_folder(self.store.work, stage.kind, decision.identity.key))
            for listener in self._listeners:
                listener.started(stage, config, decision)
            workspace = Workspace(
                self.store,
                decision.identity,
                stage.parts,
                stage.name in self.options.force,
                kept,
                self.execution,
                self._executor,
                lambda progress: self._notify("progressed", stage.name, progress),
                lambda rows: self._notify("measured", stage.name, rows),
            )
        return self._build(stage, config, inputs, decision, workspace, started)

    def _build(
        self,
        stage: Stage,
        config: StageConfig,
        inputs: Mapping[str, Output],
        decision: Decision,
        workspace: Workspace,
        started: float,
    ) -> StageResult:
        identity, begun = decision.identity, timestamp()
        read = {name: _declared(output, stage.reads[name]) for name, output in inputs.items()}
        if stage.programs:
            self._executor.close()  # idle workers hold memory that the child program may need
        for artifact in read.values():
            self._fetch(artifact)
        limits, retries = self.execution.limits(stage.name), self._retries.get(stage.name, [])
        with time_limit(limits.timeout_minutes, _out_of_time(stage.name, limits)):
            summary = stage.function(config, *(read.get(name) for name in stage.reads), context=workspace)
        check_counts(stage.name, summary)
        doubtful = doubts(stage, config, identity)
        with self.store.unswept():
            artifact = self.store.publish_artifact(stage.kind, workspace.publish())
            seconds = time.monotonic() - started
            record = {
                "format": 1,
                "stage": stage.kind,
                "key": identity.key,
                "identity": identity.record(),
                "artifact": artifact.digest,
                "parts": {name: part.digest for name, part in artifact.parts.items()},
                "parents": [artifact.digest for artifact in read.values()],
                "summary": summary,
                "why": list(decision.why),
                "started": begun,
                "finished": timestamp(),
                "seconds": round(seconds, 3),
                "run": self.run,
                "host": host_facts(),
                "attempts": len(retries) + 1,
                **workspace.shards(),
            }
            if retries:
                record["retries"] = [retry.record() for retry in retries]
            if workspace.resumed:
                record["resumed"] = True  # the seconds are those since then
            if identity.reach.unresolved:
                record["unresolved"] = list(identity.reach.unresolved)
            if doubtful:  # nobody knows which of the two was read: good for this run, built again by the next
                record["doubtful"] = doubtful
            if changed := [*doubtful, *saved_meanwhile(stage, config, identity)]:
                record["changed_meanwhile"] = changed
            for listener in self._listeners:
                record |= listener.provenance(stage.name)
            self.store.record_jobs(stage.kind, identity.key, workspace.jobs)
            self.store.record_build(record)
            workspace.remove()
            attempts = len(retries) + 1
            built = StageResult(stage.name, "built", decision.why, seconds, artifact, summary, record, None, attempts)
            return self._note(built)

    def _note_failure(self, stage: str, why: tuple[str, ...], seconds: float, error: BaseException) -> None:
        """Work out what follows from a failed attempt, and notify the listeners."""
        retries, waits = self._retries.setdefault(stage, []), self.waits(stage)
        number = len(retries) + 1
        if number > len(waits) or not is_transient(error):
            self._note(StageResult(stage, "failed", why, seconds, error=describe(error), attempts=number))
            return
        message = redacted(" ".join(describe(error).split()))[:ERROR_CHARACTERS]
        self.retry = Retry(stage, number, len(waits), waits[number - 1], message)
        retries.append(self.retry)
        self._notify("retrying", self.retry)

    def _notify(self, method: str, *arguments: Any) -> None:
        for listener in self._listeners:
            getattr(listener, method)(*arguments)

    def _note(self, result: StageResult) -> StageResult:
        others = [other for other in self.results if other.stage != result.stage]
        self.results = [*others, result]  # of a retry, the last
        self._notify("finished", result)
        return result


def builder(home: Path, execution: Execution | None = None) -> Builder:
    """A builder for tests and notebooks: `with builder(home) as b, engine_in_force(b): collect(config)`."""
    return Builder(Store(home), execution or Execution())


def check_counts(stage: str, summary: Summary) -> None:
    """Every document read was kept, dropped or quarantined; a stage that loses count has a bug."""
    if all(name in summary for name in DATA_COUNTS):
        read, kept, dropped, quarantined = (summary[name] for name in DATA_COUNTS)
        if read != kept + dropped + quarantined:
            raise RuntimeError(
                f"stage {stage} lost count: read {read}, kept {kept}, dropped {dropped}, quarantined {quarantined}"
            )


def describe(error: BaseException) -> str:
    """One line about an error: its message, or its kind where it has none."""
    return str(error) or type(error).__name__


def _out_of_time(stage: str, limits: Limits) -> str:
    minutes = limits.timeout_minutes or 0.0
    return (
        f"{stage}: stopped after {minutes:g} minutes, which {limits.timeout_field} allows. Raise it, or find out what "
        "held the stage up. Finished shards and checkpoints are kept: the same command goes on from there"
    )


def _declared(output: Output, names: tuple[str, ...]) -> Artifact:
    """An input reduced to the parts that its reader declares: what is not in the key cannot be read."""
    if isinstance(output, Pending):
        raise RuntimeError(f"stage {output.stage} is pending: a builder never meets one")
    return output.only(names)
