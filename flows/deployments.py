"""`llmill deploy`: work pool, deployments and the automation that ends dead runs, all of them as often as you like."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from flows.recipe import Recipe
from flows.servers import HEARTBEAT_SECONDS, POOL, Server
from flows.yaml_documents import explain, read_yaml
from storage.errors import ConfigError

SHIPPED = Path(__file__).parents[1] / "deployments" / "prefect.yaml"
FLOWS = ("build", "retrain")  # of flows/deployed.py
AUTOMATION = "llmill: runs without a heartbeat have crashed"
SILENCE_SECONDS = 2.5 * HEARTBEAT_SECONDS  # a run whose process is gone turns Crashed after so long


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pool(_Section):
    """Where runs are put until a worker takes them, and what the worker is told about them."""

    name: str = POOL
    job_variables: dict[str, Any] = Field(default_factory=dict)


class Schedule(_Section):
    """When a run is started: a cron line in a time zone."""

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
                f"{value!r} is no cron line: five fields, minute hour day month weekday, such as '0 3 * * 1'"
            ) from None
        return value

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is no time zone: write one of the tz database, such as Europe/Berlin")
        return value


class Concurrency(_Section):
    """How many runs of a deployment go on at once, and what becomes of one more."""

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
        if module != "flows.deployed" or name not in FLOWS:
            raise ValueError(
                f"{value!r} names no flow of llmill: {', '.join(f'flows.deployed.{one}' for one in FLOWS)}"
            )
        return value


class DeploymentFile(_Section):
    """The part of Prefect's `prefect.yaml` that llmill uses."""

    name: str = "llmill"
    pull: tuple[()] = ()
    deployments: tuple[Deployment, ...]


def read_deployments(path: Path) -> tuple[Deployment, ...]:
    """The deployments of a file; raises ConfigError that names the file, the field and the mend."""
    try:
        return DeploymentFile.model_validate(read_yaml(path, DeploymentFile, "deployment file")).deployments
    except ValidationError as error:
        raise ConfigError(explain(str(path), error, DeploymentFile)) from None


def deploy(server: Server, deployments: Sequence[Deployment], recipe: Recipe) -> list[dict[str, Any]]:
    """Make or renew what a server needs to run llmill; returns a row a deployment.

    `recipe` fills the form of every deployment.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        for pool in {deployment.work_pool.name for deployment in deployments}:
            with suppress(ObjectAlreadyExists):
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    _watch_for_dead_runs()
    return [_apply(server, deployment, recipe) for deployment in deployments]


def deployments_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was set up, a deployment a paragraph."""
    paragraphs = [f"{row['deployment']:<24}{row['schedule'] or 'started by hand'}\n  {row['url']}" for row in rows]
    return "\n".join([*paragraphs, "workers: `llmill ui` has one; `llmill worker` starts more"])


def _apply(server: Server, deployment: Deployment, recipe: Recipe) -> dict[str, Any]:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.deployments.runner import EntrypointType  # type: ignore[attr-defined]
    from prefect.flows import load_flow_from_entrypoint
    from prefect.schedules import Cron

    flow: Any = load_flow_from_entrypoint(deployment.entrypoint, use_placeholder_flow=False)
    parameters = {"recipe": recipe.model_dump(mode="json")} | deployment.parameters
    limit = deployment.concurrency_limit
    made: Any = flow.to_deployment(
        deployment.name,
        schedules=[
            Cron(one.cron, timezone=one.timezone, slug=one.slug, active=one.active) for one in deployment.schedules
        ],
        concurrency_limit=ConcurrencyLimitConfig.model_validate(limit.model_dump()) if limit else None,
        parameters=parameters,
        description=deployment.description,
        tags=list(deployment.tags),
        work_pool_name=deployment.work_pool.name,
        job_variables=deployment.work_pool.job_variables,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    identity = made.apply()
    return {
        "deployment": f"{flow.name}/{deployment.name}",
        "schedule": "; ".join(f"{one.cron} {one.timezone}" for one in deployment.schedules) or None,
        "pool": deployment.work_pool.name,
        "url": f"{server.pages}/deployments/deployment/{identity}",
    }


def _watch_for_dead_runs() -> None:
    """A server of one's own has no such automation: without it a run whose worker died stays Running for ever."""
    from prefect.automations import AutomationCore
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    heartbeat = "prefect.flow-run.heartbeat"
    automation = AutomationCore(
        name=AUTOMATION,
        description="Retry such a run from its page: it goes on where it stopped.",
        trigger=EventTrigger(
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
