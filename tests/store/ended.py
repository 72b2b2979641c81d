"""What is held against a store of either database: which sessions it says were ended."""

from receiver.store import Store, ended_sessions

from .rig import NOW


async def assert_ends_and_forgets(store: Store) -> None:
    """End sessions, one of them twice, and one after another is over by itself."""

    async def end(digest: str, until: int, now: int = NOW) -> None:
        await store.write(lambda tx: ended_sessions.end_session(tx, digest, until, now))

    async def ended() -> set[str]:
        return await store.read(lambda session: {name for name in "abc" if ended_sessions.is_ended(session, name)})

    assert await ended() == set()
    await end("a", NOW + 10)
    await end("a", NOW + 10)
    await end("b", NOW + 20)
    assert await ended() == {"a", "b"}
    await end("c", NOW + 30, NOW + 10)
    assert await ended() == {"a", "b", "c"}
    await end("c", NOW + 30, NOW + 11)
    assert await ended() == {"b", "c"}
