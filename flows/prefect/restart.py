"""What Prefect's server has forgotten when it starts again, so that no run is taken for dead by mistake.

An automation of ours (deployments.py) turns a run Crashed that has sent nothing for a while. Three things of the
server before are wrong after a restart. The silence goes on while nobody could listen: a run that lives on another
machine would be Crashed at once. A run whose end the server before has recorded, but had no time to hear, is waited
for still: a minute and a half later it would be Crashed, its next attempt included. And a change of state is heard only
after the change that it follows, which the new server waits for, a quarter of an hour, since the one before has heard
it: a run that is retried would go on being silent, and turn Crashed beside its new process.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from flows.prefect.deployments import AUTOMATION

FLOW_RUN = "prefect.flow-run."  # before the id of a flow run, in the name of the resource that it is for events


async def resume_listening(silence: timedelta) -> None:
    """Before the server starts: each run may be silent for so long from now on; what is recorded has been heard."""
    from prefect.server.database import provide_database_interface
    from prefect.server.events.ordering import SEEN_EXPIRATION, get_triggers_causal_ordering
    from prefect.types._datetime import now
    from sqlalchemy import inspect, select, update

    database = provide_database_interface()
    engine = await database.engine()
    async with engine.connect() as connection:
        if not await connection.run_sync(lambda sync: inspect(sync).has_table(database.AutomationBucket.__tablename__)):
            return  # a new database
    async with database.session_context(begin_transaction=True) as session:
        await _wait_for_no_ended_run(database, session)
        await session.execute(update(database.AutomationBucket).values(end=now("UTC") + silence))
        recent = select(database.FlowRunState.id).where(database.FlowRunState.timestamp > now("UTC") - SEEN_EXPIRATION)
        heard = (await session.execute(recent)).all()
    ordering = get_triggers_causal_ordering()
    for state in heard:  # the event of a change of state has the state's id
        event: Any = state
        await ordering.record_event_as_seen(event)


async def _wait_for_no_ended_run(database: Any, session: Any) -> None:
    """Delete what our automation still expects of runs that have ended."""
    from prefect.server.schemas.states import TERMINAL_STATES
    from sqlalchemy import delete, select

    bucket, run = database.AutomationBucket, database.FlowRun
    ours = select(database.Automation.id).where(database.Automation.name == AUTOMATION)
    expected = await session.execute(select(bucket.id, bucket.bucketing_key).where(bucket.automation_id.in_(ours)))
    awaited = [(UUID(key.removeprefix(FLOW_RUN)), identity) for identity, (key,) in expected]
    runs = {flow_run for flow_run, _ in awaited}
    known = await session.execute(select(run.id).where(run.id.in_(runs), run.state_type.in_(TERMINAL_STATES)))
    ended = set(known.scalars())
    over = [identity for flow_run, identity in awaited if flow_run in ended]
    await session.execute(delete(bucket).where(bucket.id.in_(over)))
