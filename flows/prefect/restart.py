"""What Prefect's server has forgotten when it starts again, so that no run is taken for dead by mistake.

An automation of ours (deployments.py) turns a run Crashed that has sent nothing for a while. Two things of the server
before are wrong after a restart. The silence goes on while nobody could listen: a run that lives on another machine
would be Crashed at once. And a change of state is heard only after the change that it follows, which the new server
waits for, a quarter of an hour, since the one before has heard it: a run that is retried would go on being silent, and
turn Crashed beside its new process.
"""

from datetime import timedelta
from typing import Any


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
        await session.execute(update(database.AutomationBucket).values(end=now("UTC") + silence))
        recent = select(database.FlowRunState.id).where(database.FlowRunState.timestamp > now("UTC") - SEEN_EXPIRATION)
        heard = (await session.execute(recent)).all()
    ordering = get_triggers_causal_ordering()
    for state in heard:  # the event of a change of state has the state's id
        event: Any = state
        await ordering.record_event_as_seen(event)
