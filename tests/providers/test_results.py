"""A success's result is found wherever a relay puts it, and nothing else is taken for one."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.core.messages import Callback, Event, Output
from receiver.core.states import State
from receiver.providers import FAMILIES
from receiver.providers.field_names import MAX_NAME, _interpret
from receiver.providers.file_urls import MAX_OUTPUTS, make_outputs, resolve_url
from receiver.providers.results import MAX_DEPTH, MAX_RESULT, _Location, _Search, drop_inputs, search_message
from tests.providers import hostile
from tests.providers.recordings import account, answered, asking
from tests.providers.shapes import SHAPES, done, record

each_family = pytest.mark.parametrize("family", FAMILIES)
thorough = settings(max_examples=200, deadline=None)

A, B, SONG, PICTURE = (f"https://cdn.example.com/{name}" for name in ("a.mp4", "b.mp4", "c.mp3", "d.png"))
BASE = "https://gateway.example.com"


def event(family: str, body: Any) -> Event:
    """Read a status answer, and the same as a callback: both say the same."""
    told = answered(asking(account(family)), httpx.Response(200, json=body))
    assert account(family).read(Callback({}, json.dumps(body).encode(), 0)) == told
    return told


def urls(told: Event) -> list[str]:
    return [output.url for output in told.outputs]


PLACES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "beside the state": ({"video_url": A}, [A]),
    "in camel case": ({"videoUrl": A}, [A]),
    "in one word": ({"videourl": A}, [A]),
    "result_url": ({"result_url": A, "payload": {"status": "succeeded"}}, [A]),
    "an upstream's record": ({"response": {"id": "u", "status": "completed", "video_url": A}}, [A]),
    "two records down": ({"payload": {"response": {"video": {"url": A}}}}, [A]),
    "a list of texts": ({"outputs": [A, B]}, [A, B]),
    "a list of objects": ({"results": [{"url": A, "outputType": "mp4"}, {"url": B}]}, [A, B]),
    "creations": ({"creations": [{"id": "1", "url": A, "cover_url": PICTURE}]}, [A]),
    "works": ({"works": [{"resource": {"resource": A, "height": 720}, "cover": {"resource": PICTURE}}]}, [A]),
    "a task result": ({"task_result": {"images": [], "videos": [{"id": "v", "url": A, "duration": "5"}]}}, [A]),
    "content": ({"content": {"video_url": A, "last_frame_url": PICTURE}}, [A]),
    "an output that is an object": ({"output": {"video": A, "audio": SONG, "seed": 7}}, [A, SONG]),
    "output results": ({"output": {"results": [{"url": PICTURE}], "task_status": "SUCCEEDED"}}, [PICTURE]),
    "several resolutions": ({"videos": {"720p": A, "480p": B}}, [A, B]),
    "assets": ({"assets": {"video": A, "image": PICTURE}}, [A]),
    "metadata": ({"metadata": {"url": A}}, [A]),
    "uri": ({"generatedSamples": [{"video": {"uri": A}}]}, [A]),
    "a reason that is the URL": ({"fail_reason": A}, [A]),
    "the reason only where nothing else is": ({"fail_reason": B, "payload": {"video_url": A}}, [A]),
    "JSON as text": ({"response": json.dumps({"video_url": A})}, [A]),
    "JSON as text, twice": ({"response": json.dumps(json.dumps({"images": [PICTURE]}))}, [PICTURE]),
    "tracks": ({"tracks": [{"audio_url": SONG, "image_url": PICTURE, "stream_audio_url": B}]}, [SONG]),
    "tracks in camel case": ({"sunoData": [{"audioUrl": SONG, "streamAudioUrl": B, "imageUrl": PICTURE}]}, [SONG]),
    "a video under the name of an image": ({"response": {"imageUrl": A}}, [A]),
    "its preview beside it": ({"info": {"resultVideoUrl": A, "resultImageUrl": PICTURE}}, [A]),
    "without watermark": ({"url_without_watermark": A, "watermark_url": B}, [A]),
    "a free version": ({"noWatermarkUrl": A, "resultWaterMarkUrls": [B]}, [A]),
    "an upstream's address": ({"upstream": {"upstream_url": A}}, [A]),
    "a name of its own with a film behind it": ({"payload": {"mezzanine": A}}, [A]),
    "the nearest of two": ({"video_url": A, "response": {"video_url": B}}, [A]),
    "all of what the nearest is part of": ({"url": A, "response": {"videos": [{"url": A}, {"url": B}]}}, [A, B]),
    "a video further away than its picture": ({"imageUrl": PICTURE, "response": {"video_url": A}}, [A]),
    "an image and no video": ({"imageUrl": PICTURE, "response": {"images": []}}, [PICTURE]),
    "the same twice": ({"video_url": A, "url": A, "response": {"url": A}}, [A]),
    "a scheme of the page's": ({"video_url": "//cdn.example.com/a.mp4"}, [A]),
    "blanks around it": ({"video_url": f" {A}\n"}, [A]),
    "a blank within": ({"video_url": "https://cdn.example.com/my film.mp4"}, ["https://cdn.example.com/my film.mp4"]),
}


@each_family
@pytest.mark.parametrize("place", PLACES)
def test_a_result_is_found_wherever_a_relay_puts_it_and_its_place_is_told(family: str, place: str) -> None:
    fields, expected = PLACES[place]
    told = event(family, done(family, **fields))
    assert (told.state, urls(told)) == (State.SUCCEEDED, expected)
    # A place that is the family's own is not worth telling.
    assert told.found_at is not None or next(iter(fields)) in (
        "video_url",
        "videoUrl",
        "outputs",
        "output",
        "task_result",
    )


NOTHING: dict[str, dict[str, Any]] = {
    "the callback": {"callback_url": A, "callBackUrl": A, "notify_hook": A, "webhook": {"url": A}},
    "what was ordered": {"input": {"video_url": A}, "params": json.dumps({"url": A}), "request": {"images": [PICTURE]}},
    "what was ordered, as it is stored": {"paramJson": json.dumps({"videoUrl": A}), "promptJson": {"url": A}},
    "references": {"reference_image_urls": [PICTURE], "first_frame_url": PICTURE, "image_tail": PICTURE, "mask_url": A},
    "pictures of it": {"cover_url": PICTURE, "thumbnail": {"url": PICTURE}, "poster": PICTURE, "preview_url": A},
    "other versions": {"originUrls": [A], "original_url": A, "resultWaterMarkUrls": [B], "stream_url": A},
    "where to ask": {"urls": {"get": A, "cancel": A, "web": A}, "status_url": A, "response_url": A, "polling_url": A},
    "a link in a message": {"message": f"See {A}", "description": A, "notice": {"docs_url": A, "help": {"url": A}}},
    "somebody's picture": {"user": {"avatar_url": PICTURE}, "author": {"image": PICTURE}, "logo": PICTURE},
    "an error's page": {"error": {"url": A}, "errors": [{"documentation": A}]},
    "words": {"result": "success", "output": "ok", "url": "none", "video": "video/mp4", "data_url": "n/a"},
    "no file": {
        "video_url": "ftp://example.com/a.mp4",
        "url": "javascript:alert(1)",
        "image": "data:image/png;base64,AA",
    },
    "an image as text": {"image": "/9j/4AAQSkZJRgABAQ", "b64_json": "/9j/4AAQ", "images": ["iVBORw0KGgo/AAAA"]},
    "a way up": {"video_url": "/files/../../admin/a.mp4"},
    "our own callback URL": {"url": "https://hooks.example.com/r/callbacks/gateway/tsk_01.abc.mp4"},
    "an unknown name without a film": {"payload": {"where": "https://example.com/page"}},
}


@each_family
@pytest.mark.parametrize("what", NOTHING)
def test_what_comes_with_a_result_and_is_none_is_not_taken(family: str, what: str) -> None:
    told = event(family, done(family, **NOTHING[what]))
    assert (told.state, told.outputs, told.result, told.found_at) == (State.SUCCEEDED, (), None, None)


@each_family
def test_nothing_is_searched_before_the_end(family: str) -> None:
    body = record(family, "running", video_url=A, url=A)
    assert event(family, body).outputs == ()


@each_family
@pytest.mark.parametrize("path", ["/v1/videos/x/content", "/files/a.mp4?sig=1%2F2", "files/a.mp4"])
def test_a_relative_address_is_below_the_base_url_and_its_path_is_kept(family: str, path: str) -> None:
    told = event(family, done(family, video={"url": path}))
    assert urls(told) == [f"{SHAPES[family].base_url}/{path.lstrip('/')}"]
    body = done(family, video={"url": path})
    below = account(family, base_url="https://h.example.com/proxy/v1")
    told = answered(asking(below), httpx.Response(200, json=body))
    assert urls(told) == [f"https://h.example.com/proxy/{path.lstrip('/')}"]


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({"audio_url": "https://c/x"}, ["audio"]),
        ({"image": {"url": "https://c/x"}}, ["image"]),
        ({"images": [{"url": "https://c/x"}]}, ["image"]),
        ({"url": "https://c/x"}, ["video"]),
        ({"image_to_video_url": "https://c/x"}, ["video"]),
        ({"image_url": "https://c/x.mp4"}, ["video"]),
        ({"url": "https://c/x.glb"}, ["file"]),
        ({"urls": ["https://c/x.PNG?y=.mp4", "https://c/y.flac#z"]}, ["image", "audio"]),
    ],
)
def test_the_kind_of_a_file_is_told_by_its_end_and_else_by_the_name_of_its_place(
    fields: dict[str, Any], kinds: list[str]
) -> None:
    assert [output.kind for output in search_message(fields, BASE).outputs] == kinds


LYRICS = [{"text": "[Verse]\nI walk the city", "title": "t", "status": "complete", "errorMessage": ""}]


@each_family
@pytest.mark.parametrize(
    ("fields", "result", "place"),
    [
        ({"response": {"resultObject": {"text": "hello"}}}, {"text": "hello"}, "response.resultObject"),
        ({"response": {"lyricsData": LYRICS}}, LYRICS, "response.lyricsData"),
        ({"response": {"data": LYRICS}}, LYRICS, "response.data"),
        (
            {"response": {"sunoData": [{"title": "t", "lyric": "la"}]}},
            [{"title": "t", "lyric": "la"}],
            "response.sunoData",
        ),
        ({"payload": {"transcript": "Hello there."}}, "Hello there.", "payload.transcript"),
        ({"output": ["A paper ", "boat."]}, ["A paper ", "boat."], "output"),
        ({"output": "A paper boat."}, "A paper boat.", "output"),
    ],
)
def test_what_is_no_file_is_a_result_too(family: str, fields: dict[str, Any], result: Any, place: str) -> None:
    told = event(family, done(family, **fields))
    assert (told.state, told.outputs, told.result) == (State.SUCCEEDED, (), result)
    assert told.found_at is not None
    assert told.found_at.removeprefix("data.") == place


def test_a_result_whose_files_are_still_to_come_is_none_yet() -> None:
    tracks = [{"title": "t", "audioUrl": "", "streamAudioUrl": "https://stream.example.com/one"}]
    assert search_message({"sunoData": tracks}, BASE).result is None
    assert search_message({"sunoData": [track | {"audioUrl": SONG} for track in tracks]}, BASE).outputs == (
        Output(SONG, "audio"),
    )


def test_a_result_that_is_too_large_is_not_stored_and_leaves_a_notice() -> None:
    found = search_message({"resultObject": {"text": "x" * MAX_RESULT}}, BASE)
    assert (found.result, len(found.notices)) == (None, 1)


@each_family
def test_the_family_s_own_fields_come_first(family: str) -> None:
    shape = SHAPES[family]
    others = {} if shape.reads_video_url else {"video_url": B}
    told = event(family, done(family, **others, **shape.result(A)))
    assert (urls(told), told.found_at) == ([A], None)


def test_what_was_ordered_with_is_not_what_was_made() -> None:
    told = Event(State.SUCCEEDED, outputs=(Output(PICTURE, "image"), Output(A, "video")), found_at="images[]")
    ordered = json.dumps({"prompt": "x", "images": [PICTURE]}, separators=(",", ":"))
    assert drop_inputs(told, ordered).outputs == (Output(A, "video"),)
    assert drop_inputs(told, json.dumps({"images": [f"{PICTURE}x"]})) is told


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param([A, B], [(A, "video"), (B, "video")], id="in order"),
        pytest.param([A, f" {A} "], [(A, "video")], id="none twice"),
        pytest.param([None, "", " ", 7, True, [], {}, [A], "later", "a/b"], [], id="URLs only"),
        pytest.param(["https://a/1.PNG?x=.mp4#y"], [("https://a/1.PNG?x=.mp4#y", "image")], id="a picture"),
        pytest.param([SONG], [(SONG, "audio")], id="a sound"),
        pytest.param(["https://a/1"], [("https://a/1", "video")], id="no suffix"),
        pytest.param(["https://a/\0\ud800"], [("https://a/\ufffd\ufffd", "video")], id="cleaned"),
        pytest.param(["https://a/" + "x" * 8192], [], id="too long"),
        pytest.param([f"https://a/{n}" for n in range(200)], [(f"https://a/{n}", "video") for n in range(MAX_OUTPUTS)]),
    ],
)
def test_every_distinct_url_is_an_output_in_order(given: list[Any], expected: list[tuple[str, str]]) -> None:
    assert make_outputs(given, BASE) == tuple(Output(url, kind) for url, kind in expected)


# --- whatever is in it


@thorough
@given(body=hostile.messages)
def test_no_search_ever_raises_and_the_same_message_gives_the_same(body: Any) -> None:
    body = {"data": body}
    found = search_message(body, BASE)
    assert search_message(json.loads(json.dumps(body)), BASE) == found
    assert len(found.outputs) <= MAX_OUTPUTS
    for output in found.outputs:
        assert output.url.startswith(("http://", "https://"))
    json.dumps(found.result, allow_nan=False)


WRAPPINGS = ["data", "response", "result", "output", "results", "videos", "content", "xyz", "images"]
BESIDE = ["callback_url", "notifyHook", "input", "param", "request_body", "prompt", "webhookUrl", "coverUrl", "poster"]


@thorough
@given(
    names=st.lists(st.sampled_from(WRAPPINGS), max_size=5),
    within=st.sampled_from(BESIDE),
    deeper=st.lists(st.sampled_from([*WRAPPINGS, "video_url", "url"]), max_size=4),
    as_list=st.sampled_from(["listed", ""]),
    as_text=st.sampled_from(["spelled", ""]),
)
def test_nothing_within_an_input_or_a_callback_is_ever_a_result(
    names: list[str], within: str, deeper: list[str], as_list: str, as_text: str
) -> None:
    value: Any = A
    for name in [*deeper, within, *names]:
        value = {name: [value] if as_list else value}
        value = {"data": json.dumps(value)} if as_text else value
    assert search_message(value, BASE).outputs == ()


def test_a_name_that_is_too_long_to_say_anything_is_neither_read_nor_remembered() -> None:
    known = _interpret.cache_info().currsize
    for number in range(10):
        assert search_message({f"{'x' * MAX_NAME}{number}_video_url": A}, BASE).outputs == ()
    assert _interpret.cache_info().currsize == known
    assert search_message({f"{'x' * (MAX_NAME - 4)}_url": A}, BASE).outputs == (Output(A, "video"),)


def deep(levels: int) -> Any:
    body: Any = {"video_url": A}
    for _ in range(levels):
        body = {"data": body}
    return body


def test_a_search_is_bounded_however_much_there_is() -> None:
    assert search_message(deep(10), BASE).outputs == (Output(A, "video"),)
    assert search_message(deep(90), BASE).outputs == ()
    wide = {"data": [{"a": n, "b": [n]} for n in range(20_000)], "video_url": A}
    texts = {"data": [json.dumps({"data": json.dumps({"x": n})}) for n in range(5000)], "video_url": A}
    for body in (wide, texts):
        looking = _Search(BASE)
        looking.visit(body, _Location())
        assert looking.values >= -MAX_DEPTH, "it went on behind its bound"
        assert looking.files == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (A, A),
        ("HTTPS://cdn.example.com/A", "HTTPS://cdn.example.com/A"),
        ("https://cdn.example.com", "https://cdn.example.com"),
        *(
            (other, None)
            for other in ("https://", "http:///x", "https://a b", "//", "/", "", "a.mp4", "see https://a/b")
        ),
        ("/x", f"{BASE}/x"),
        ("x/y.mp4", f"{BASE}/x/y.mp4"),
    ],
)
def test_only_a_whole_url_or_a_path_is_an_address(value: str, expected: str | None) -> None:
    assert resolve_url(value, BASE) == expected
