"""The callback handler that people write by hand, to compare with: FastAPI and SQLModel, one commit a request.

WAL and `synchronous=FULL`, as durable as ours; the driver is the same `pysqlite3`.
"""

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import event
from sqlmodel import Field, Session, SQLModel, create_engine, select

from receiver.store.engine import sqlite_module


class Job(SQLModel, table=True):
    """A job of the handwritten service."""

    id: int | None = Field(default=None, primary_key=True)
    remote_id: str = Field(index=True)
    state: str = "submitted"
    video_url: str | None = None
    updated_at: datetime | None = None


class Received(SQLModel, table=True):
    """A callback as the handwritten service keeps it."""

    id: int | None = Field(default=None, primary_key=True)
    job_id: int = Field(index=True)
    body: str
    at: datetime


engine = create_engine(os.environ["HANDWRITTEN_DATABASE"], module=sqlite_module())


@event.listens_for(engine, "connect")
def prepare(connection: Any, _record: Any) -> None:
    """Make every commit durable."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def session() -> Iterator[Session]:
    """Open a session for one request."""
    with Session(engine) as opened:
        yield opened


app = FastAPI()


@app.post("/callback")
def callback(body: dict[str, Any], db: Annotated[Session, Depends(session)]) -> dict[str, int]:
    """Take one callback."""
    data = body["data"]
    job = db.exec(select(Job).where(Job.remote_id == data["taskId"])).first()
    if job is None or job.id is None:
        raise HTTPException(404)
    db.add(Received(job_id=job.id, body=json.dumps(body), at=datetime.now(UTC)))
    if data["state"] == "success":
        job.state = "succeeded"
        job.video_url = json.loads(data["resultJson"])["resultUrls"][0]
    elif data["state"] == "fail":
        job.state = "failed"
    job.updated_at = datetime.now(UTC)
    db.add(job)
    db.commit()
    return {"code": 200}


def fill(number: int) -> None:
    """Create the tables and so many jobs that await their callback."""
    SQLModel.metadata.create_all(engine)
    with Session(engine) as opened:
        opened.add_all([Job(remote_id=f"remote{position}") for position in range(number)])
        opened.commit()


if __name__ == "__main__":
    fill(int(sys.argv[1]))
