"""The queries behind lists: every filter means what it says, and pages lose and repeat nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session

from receiver.core.states import State
from receiver.store import Store, reading, tasks
from receiver.store.reading import Filter
from receiver.store.tables import as_json

from .labels import NUMBERS, assert_found_by_its_text
from .rig import NOW, add_tasks, look, outside, task_row

pytestmark = pytest.mark.anyio


async def found(store: Store, **wanted: Any) -> set[str]:
    """The ids of the tasks that a filter lets through."""
    return set(await page_of(store, Filter(**wanted)))


async def page_of(store: Store, wanted: Filter) -> list[str]:
    return [task.id for task in await store.read(lambda session: reading.listing(session, wanted))]


async def add(store: Store, rows: Mapping[str, Mapping[str, Any]]) -> None:
    await store.write(add_tasks(*(task_row(task_id, **values) for task_id, values in rows.items())))


PROMPTS = {
    "tsk_percent": "100% sure",
    "tsk_under": "snake_case",
    "tsk_back": r"a\b",
    "tsk_plain": "100 sure snakeXcase ab",
    "tsk_quote": """it's "quoted" -- ;""",
    "tsk_none": None,
}


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("%", {"tsk_percent"}),
        ("0%", {"tsk_percent"}),
        ("e_c", {"tsk_under"}),
        ("\\", {"tsk_back"}),
        ("\\%", set()),
        ("SURE", {"tsk_percent", "tsk_plain"}),
        ("it's \"q", {"tsk_quote"}),
        ("tsk_p", {"tsk_percent", "tsk_plain"}),
        ("remote-7", {"tsk_quote"}),
        ("_", set(PROMPTS)),
        ("", set(PROMPTS)),
        ("\udcff", set()),
        ("sure\0", set()),
        ("x" * 500, set()),
    ],
)
async def test_a_search_is_for_the_text_as_it_is(store: Store, q: str, expected: set[str]) -> None:
    rows = {task_id: {"prompt": prompt} for task_id, prompt in PROMPTS.items()}
    await add(store, rows | {"tsk_quote": rows["tsk_quote"] | {"remote_id": "remote-7"}})
    assert await found(store, q=q) == expected


METADATA = {
    "tsk_dots": {"a.b": "x", "a": {"b": "nested"}},
    "tsk_quotes": {'say "hi"': "x", "it's": "y"},
    "tsk_dollar": {"$": "x", "$.a": "x", "[0]": "x", "": "empty"},
    "tsk_words": {"näme 🎬": "wért", "back\\slash": "a\\b", "tab\t": "x"},
    "tsk_types": {"number": 7, "half": 0.5, "yes": True, "no": False, "nothing": None, "list": [1, "a"]},
    "tsk_other": {"a": "x"},
}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("a.b", "x", {"tsk_dots"}),
        ("a.b", "nested", set()),
        ("a", "x", {"tsk_other"}),
        ('say "hi"', "x", {"tsk_quotes"}),
        ("it's", "y", {"tsk_quotes"}),
        ("$", "x", {"tsk_dollar"}),
        ("$.a", "x", {"tsk_dollar"}),
        ("[0]", "x", {"tsk_dollar"}),
        ("", "empty", {"tsk_dollar"}),
        ("näme 🎬", "wért", {"tsk_words"}),
        ("back\\slash", "a\\b", {"tsk_words"}),
        ("tab\t", "x", {"tsk_words"}),
        ("number", "7", {"tsk_types"}),
        ("half", "0.5", {"tsk_types"}),
        ("yes", "true", {"tsk_types"}),
        ("yes", "1", set()),
        ("no", "false", {"tsk_types"}),
        ("nothing", "", set()),
        ("list", '[1,"a"]', {"tsk_types"}),
        ("a", "X", set()),
        ("missing", "x", set()),
        ("x' OR 1=1 --", "x", set()),
        ("\udcff", "\0", set()),
    ],
)
async def test_a_label_is_matched_by_its_exact_key_and_its_values_text(
    store: Store, key: str, value: str, expected: set[str]
) -> None:
    await add(store, {task_id: {"metadata": metadata} for task_id, metadata in METADATA.items()})
    assert await found(store, metadata={key: value}) == expected


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
async def test_a_number_is_found_by_its_text(store: Store, number: float) -> None:
    await assert_found_by_its_text(store, number)


async def test_two_labels_must_both_match(store: Store) -> None:
    await add(store, {"tsk_1": {"metadata": {"a": "x", "b": "y"}}, "tsk_2": {"metadata": {"a": "x"}}})
    assert await found(store, metadata={"a": "x", "b": "y"}) == {"tsk_1"}


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
"""What the API takes for clean text."""


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(key=TEXTS, value=TEXTS)
async def test_any_label_finds_its_task_and_no_other(store: Store, file: Path, key: str, value: str) -> None:
    with outside(file) as other:
        other.execute("DELETE FROM task")
    labels = {"tsk_1": {key: value}, "tsk_2": {key: value + "x"}, "tsk_3": {key + "x": value}}
    await add(store, {task_id: {"metadata": metadata} for task_id, metadata in labels.items()})
    assert await found(store, metadata={key: value}) == {"tsk_1"}


async def test_every_filter_narrows(store: Store) -> None:
    rows = {
        "tsk_1": {"provider": "revid", "model": "a", "state": "queued", "created_at": NOW},
        "tsk_2": {"provider": "apixo", "model": "a", "state": "failed", "created_at": NOW + 1},
        "tsk_3": {"provider": "apixo", "model": "b", "state": "running", "created_at": NOW + 2},
    }
    await add(store, rows)
    assert await found(store) == set(rows)
    assert await found(store, provider="apixo") == {"tsk_2", "tsk_3"}
    assert await found(store, provider="apixo", model="a") == {"tsk_2"}
    assert await found(store, states=[State.QUEUED, State.RUNNING]) == {"tsk_1", "tsk_3"}
    assert await found(store, since=NOW + 1) == {"tsk_2", "tsk_3"}, "from that moment on"
    assert await found(store, until=NOW + 1) == {"tsk_1"}, "before that moment"
    assert await found(store, provider="nobody\udcff") == set()


async def test_pages_cover_everything_once_while_new_tasks_come_in(store: Store) -> None:
    names = [f"tsk_{number:026}" for number in range(150)]
    await add(store, {name: {} for name in names})
    seen: list[str] = []
    before = None
    for page in range(1000):
        listed = await page_of(store, Filter(before=before, limit=7))
        seen += listed
        await add(store, {f"tsk_{1000 + page:026}": {}})
        if len(listed) < 7:
            break
        before = listed[-1]
    assert seen == sorted(names, reverse=True), "newest first, each once, nothing that came later"


async def test_the_files_of_many_tasks_come_in_order(store: Store, file: Path) -> None:
    await add(store, {"tsk_1": {}, "tsk_2": {}})

    def outputs(session: Session) -> dict[str, list[str]]:
        return {name: [o.url for o in found] for name, found in reading.outputs(session, ["tsk_1", "tsk_2"]).items()}

    await store.write(lambda tx: tasks.insert_outputs(tx, "tsk_2", [{"url": u, "kind": "video"} for u in "cab"]))
    assert await store.read(outputs) == {"tsk_1": [], "tsk_2": ["c", "a", "b"]}
    assert look(file, "SELECT position FROM output ORDER BY id") == [(0,), (1,), (2,)]


@pytest.mark.parametrize("task_id", ["tsk_missing", "", "\udcff", "\0", "x" * 10_000])
async def test_a_task_that_is_not_there_is_none(store: Store, task_id: str) -> None:
    assert await store.read(lambda session: reading.task(session, task_id)) is None


# --- large tasks


async def test_a_page_of_large_tasks_is_bounded_in_bytes_and_its_cursor_leads_to_all_of_them(store: Store) -> None:
    large = as_json({"prompt": "x" * 300_000})
    await add(store, {f"tsk_{n:02}": {"input": large, "prompt": "x" * 300_000} for n in range(20)})
    await add(store, {f"tsk_{n:02}": {"input": "{}"} for n in range(20, 30)})
    pages: list[list[str]] = []
    cursor = None
    while cursor is not None or not pages:
        wanted = Filter(limit=200, before=cursor)
        rows, cursor = await store.read(lambda session, wanted=wanted: reading.listing_page(session, wanted))  # type: ignore[misc]  # a default binds it
        assert sum(len(as_json(row.input)) for row in rows) <= reading.LIST_BYTES
        pages.append([row.id for row in rows])
    assert [task_id for page in pages for task_id in page] == [f"tsk_{n:02}" for n in reversed(range(30))]
    assert [len(page) for page in pages] == [13, 3, 3, 3, 3, 3, 2]


async def test_a_task_that_is_larger_than_a_page_stands_alone(store: Store) -> None:
    await add(store, {f"tsk_{n}": {"result": as_json("x" * 3_000_000)} for n in range(3)})
    rows, cursor = await store.read(lambda session: reading.listing_page(session, Filter()))
    assert ([row.id for row in rows], cursor) == (["tsk_2"], "tsk_2")


async def test_many_large_outputs_count_too(store: Store) -> None:
    await add(store, {f"tsk_{n}": {} for n in range(5)})
    output = {"url": "x" * 8000, "kind": "video", "expires_at": None}
    for number in range(5):
        await store.write(lambda tx, number=number: tasks.insert_outputs(tx, f"tsk_{number}", [output] * 50))  # type: ignore[misc]
    rows, cursor = await store.read(lambda session: reading.listing_page(session, Filter()))
    assert ([row.id for row in rows], cursor) == (["tsk_4", "tsk_3"], "tsk_3")


async def test_a_list_for_people_reads_no_inputs_and_only_the_beginnings_of_prompts(store: Store) -> None:
    await add(store, {"tsk_1": {"input": as_json({"a": "x" * 300_000}), "prompt": "x" * 300_000}})
    (row,) = await store.read(lambda session: reading.brief_listing(session, Filter()))
    assert row.prompt == "x" * reading.SHOWN_PROMPT
    assert not {"input", "meta", "result", "pending"} & set(row.__dict__)


async def test_metadata_filters_pin_no_compiled_statement(store: Store) -> None:
    await add(store, {"tsk_1": {"metadata": {f"k{n}": n for n in range(20)}}})
    await page_of(store, Filter())
    before = len(store._readers.engine._compiled_cache or ())
    for number in range(1, 20):
        labels = {f"k{n}": str(n) for n in range(number)}
        assert await page_of(store, Filter(metadata=labels)) == ["tsk_1"]
    assert len(store._readers.engine._compiled_cache or ()) <= before + 1
