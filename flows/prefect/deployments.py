"""`llmill deploy`: work pool, deployments and the automation that ends dead runs, each can be repeated.

What a deployment has beside the file (a schedule of an earlier file, under another slug) is removed and
reported. On a server that others use too nothing of theirs is touched: our deployments carry a tag, and the automation
ignores runs without it.
"""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from flows.build import Recipe
from flows.prefect.form import BUILD_FIELDS, RETRAIN_FIELDS, TUNE_FIELDS, form_schema
from flows.prefect.servers import HEARTBEAT, HEARTBEAT_SECONDS, POOL, SILENCE_SECONDS, TAG, Server
from flows.validation import explain
from storage.errors import ConfigError
from storage.yaml_files import read_yaml

FOLDER = Path(__file__).parents[2] / "deployments"
SHIPPED = FOLDER / "prefect.yaml"
FORMS = {
    "build": BUILD_FIELDS,
    "build_full": None,
    "retrain": RETRAIN_FIELDS,
    "tune": TUNE_FIELDS,
}  # flow of flows/prefect/deployed.py -> its form
AUTOMATION = "llmill: runs without a heartbeat have crashed"
LIMIT_VARIABLE = "LLMILL_POOL_LIMIT"
TEMPLATES = {"kubernetes": FOLDER / "kubernetes" / "base-job-template.json"}  # of pools that need one of ours


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pool(_Section):
    """Where runs are put until a worker takes them, and the variables that its worker sets for them."""

    name: str = POOL
    type: Literal["process", "kubernetes", "docker"] | None = None
    limit: int = Field(1, ge=1, le=10_000, description="Runs that its workers carry out at once.")
    job_variables: dict[str, Any] = Field(default_factory=dict)

    @property
    def chosen_limit(self) -> int:
        """The limit of the environment, else that of the file; raises ConfigError."""
        given = os.environ.get(LIMIT_VARIABLE) or str(self.limit)
        if not given.isdecimal() or not 1 <= int(given) <= 10_000:
            raise ConfigError(f"{LIMIT_VARIABLE}={given}: write a whole number of runs from 1 to 10,000, or unset it")
        return int(given)


class Schedule(_Section):
    """When a run is started: a cron expression in a time zone."""

    cron: str
    timezone: str = "UTC"
    slug: str | None = None
    active: bool = True

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        from prefect.client.schemas.schedules import CronSchedule

        try:
            CronSchedule(cron=value)
        except ValidationError:
            raise ValueError(
                f"{value!r} is not a cron expression: five fields, minute hour day month weekday, such as '0 3 * * 1'"
            ) from None
        return value

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is not a time zone: write one of the tz database, such as Europe/Berlin")
        return value


class Concurrency(_Section):
    """How many runs of a deployment go on at once, and what happens to one more."""

    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"] = "ENQUEUE"


class Deployment(_Section):
    """A flow with a name, default parameters, a schedule and a work pool."""

    name: str
    entrypoint: str
    description: str = ""
    tags: tuple[str, ...] = ()
    parameters: dict[str, Any] = Field(default_factory=dict)
    schedules: tuple[Schedule, ...] = ()
    concurrency_limit: Concurrency | None = None
    work_pool: Pool = Pool()

    @field_validator("entrypoint")
    @classmethod
    def _is_flow(cls, value: str) -> str:
        module, _, name = value.rpartition(".")
        if module != "flows.prefect.deployed" or name not in FORMS:
            raise ValueError(
                f"{value!r} is not a flow of llmill: {', '.join(f'flows.prefect.deployed.{one}' for one in FORMS)}"
            )
        return value


class DeploymentFile(_Section):
    """The part of Prefect's `prefect.yaml` that llmill uses."""

    name: str = "llmill"
    pull: tuple[()] = ()
    deployments: tuple[Deployment, ...]


def read_deployments(path: Path) -> tuple[Deployment, ...]:
    """The deployments of a file; raises ConfigError that names the file, the field and the fix."""
    try:
        sections = f"sections ({', '.join(DeploymentFile.model_fields)})"
        return DeploymentFile.model_validate(read_yaml(path, "deployment file", sections)).deployments
    except ValidationError as error:
        raise ConfigError(explain(str(path), error, DeploymentFile)) from None


def deploy(
    server: Server, deployments: Sequence[Deployment], recipe: Recipe, settings: Sequence[str]
) -> list[dict[str, Any]]:
    """Make or renew what a server needs to run llmill; returns a row for each deployment.

    The forms begin with a recipe that is known by its name, and with `settings`, lines `path=value`.
    """
    for pool in {deployment.work_pool.name: deployment.work_pool for deployment in deployments}.values():
        _ensure_pool(pool)
    _watch_for_dead_runs()
    return [_apply(server, deployment, recipe, settings) for deployment in deployments]


def deployments_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was set up, a paragraph for each deployment."""
    lines = []
    for row in rows:
        lines += [f"{row['deployment']:<28}{row['schedule'] or 'started by hand'}", f"  {row['url']}"]
        lines += [f"  removed: the schedule {gone}" for gone in row["removed"]]
    pools = {row["pool"]: row["pool_limit"] for row in rows}
    lines += [f"pool {name}: {limit} run{'s' * (limit != 1)} at once" for name, limit in pools.items()]
    return "\n".join([*lines, "workers: `llmill ui` has one; `llmill worker` starts more"])


def _ensure_pool(pool: Pool) -> None:
    """Make or update a pool with its limit; raises ConfigError where one of the name is of another type."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    limit, kind = pool.chosen_limit, pool.type or ("process" if pool.name == POOL else None)
    with get_client(sync_client=True) as client:
        if kind is not None:  # asked for before it is looked up: a worker that starts now makes its pool by itself
            template = json.loads(TEMPLATES[kind].read_bytes()) if kind in TEMPLATES else {}
            try:
                client.create_work_pool(
                    WorkPoolCreate(name=pool.name, type=kind, base_job_template=template, concurrency_limit=limit)
                )
                return
            except ObjectAlreadyExists:
                pass
        try:
            known = client.read_work_pool(pool.name)
        except ObjectNotFound:
            raise ConfigError(
                f"work_pool.type: there is no pool {pool.name!r} yet. Set its type: process (workers are "
                f"`llmill worker`), kubernetes or docker"
            ) from None
        if pool.type is not None and known.type != pool.type:
            raise ConfigError(
                f"work_pool.type: the pool {pool.name!r} is of the type {known.type}, not {pool.type}. Name another, "
                f"or delete it first: prefect work-pool delete {pool.name}"
            )
        client.update_work_pool(pool.name, WorkPoolUpdate(concurrency_limit=limit))


def _apply(server: Server, deployment: Deployment, recipe: Recipe, settings: Sequence[str]) -> dict[str, Any]:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.deployments.runner import EntrypointType  # type: ignore[attr-defined]
    from prefect.flows import load_flow_from_entrypoint
    from prefect.schedules import Cron

    flow: Any = load_flow_from_entrypoint(deployment.entrypoint, use_placeholder_flow=False)
    limit = deployment.concurrency_limit
    variables = deployment.work_pool.job_variables
    made: Any = flow.to_deployment(
        deployment.name,
        schedules=[
            Cron(one.cron, timezone=one.timezone, slug=one.slug, active=one.active) for one in deployment.schedules
        ],
        concurrency_limit=ConcurrencyLimitConfig.model_validate(limit.model_dump()) if limit else None,
        parameters=_parameters(deployment, recipe, settings),
        description=deployment.description,
        tags=[*dict.fromkeys((TAG, *deployment.tags))],
        work_pool_name=deployment.work_pool.name,
        job_variables=variables | {"env": {HEARTBEAT: str(HEARTBEAT_SECONDS), **variables.get("env", {})}},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    fields = FORMS[deployment.entrypoint.rpartition(".")[2]]
    if fields is not None:
        made._parameter_openapi_schema.properties = form_schema(fields)
        made._parameter_openapi_schema.definitions = {}
    identity = made.apply()
    return {
        "deployment": f"{flow.name}/{deployment.name}",
        "schedule": "; ".join(f"{one.cron} {one.timezone}" for one in deployment.schedules) or None,
        "removed": _remove_other_schedules(identity, deployment.schedules),
        "pool": deployment.work_pool.name,
        "pool_limit": deployment.work_pool.chosen_limit,
        "url": f"{server.ui}/deployments/deployment/{identity}",
    }


def _parameters(deployment: Deployment, recipe: Recipe, settings: Sequence[str]) -> dict[str, Any]:
    """What the form of a deployment begins with."""
    if FORMS[deployment.entrypoint.rpartition(".")[2]] is None:
        return {"recipe": recipe.model_dump(mode="json")} | deployment.parameters
    return {"recipe": recipe.name, "settings": "\n".join(settings)} | deployment.parameters


def _remove_other_schedules(identity: Any, wanted: Sequence[Schedule]) -> list[str]:
    """Delete the schedules of a deployment that its file does not have; returns them in words."""
    from prefect.client.orchestration import get_client

    left: list[tuple[Any, ...]] = [(one.cron, one.timezone, one.slug) for one in wanted]
    removed = []
    with get_client(sync_client=True) as client:
        for known in client.read_deployment_schedules(identity):
            cron, timezone = (getattr(known.schedule, name, None) for name in ("cron", "timezone"))
            if (cron, timezone, known.slug) in left:
                left.remove((cron, timezone, known.slug))
                continue
            client.delete_deployment_schedule(identity, known.id)
            words = f"{cron} {timezone}" if cron else str(known.schedule)
            removed.append(f"{words} ({known.slug})" if known.slug else words)
    return removed


def _watch_for_dead_runs() -> None:
    """A local server has no such automation: without it a run whose worker died stays Running forever."""
    from prefect.automations import AutomationCore
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    heartbeat = "prefect.flow-run.heartbeat"
    automation = AutomationCore(
        name=AUTOMATION,
        description="Retry such a run from its page: it goes on where it stopped. For runs of llmill only.",
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"},
            after={heartbeat},
            expect={"prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENCE_SECONDS),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="The process of this run is gone.")],
    )
    with get_client(sync_client=True) as client:
        known = [one for one in client.read_automations() if one.name == AUTOMATION]
        if known:
            client.update_automation(known[0].id, automation)
        else:
            client.create_automation(automation)
