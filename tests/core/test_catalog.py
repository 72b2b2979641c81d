"""What is known of a model: every fault of an order at once, documented defaults, prices, and a schema that agrees."""

import json
from typing import Any

import pytest

from receiver.core.catalog import (
    RESERVED_NAMES,
    Model,
    Parameter,
    fixed_price,
    price_by,
    price_per_second,
    refuse_reserved_names,
)
from receiver.core.errors import Fault, Invalid


def _no_long_portraits(given: Any) -> Fault | None:
    if given.get("shape") == "portrait" and given.get("n_frames") == "15":
        return Fault(("input", "n_frames"), 'must be "10" for a portrait')
    return None


PARAMETERS = {
    "prompt": Parameter("string", "What to show.", required=True, max_length=20),
    "n_frames": Parameter("string", "Length in seconds.", options=("10", "15"), default="10"),
    "seconds": Parameter("integer", options=(4, 8, 12)),
    "shape": Parameter("string", options=("landscape", "portrait"), default="landscape"),
    "watermark": Parameter("boolean", default=False),
    "images": Parameter("strings", max_items=2),
    "media": Parameter("objects"),
}
PRICE = price_by({("10",): 50, ("15",): 60}, "n_frames")
MODEL = Model(PARAMETERS, "A model", price=PRICE, rules=(_no_long_portraits,))
BOUNDED = Model(
    {
        "count": Parameter("integer", minimum=4, maximum=15),
        "scale": Parameter("number", default=0.5, minimum=0, maximum=1),
        "any": Parameter("number"),
        "step": Parameter("number", options=(5, 10)),
    }
)
ADVISORY = Model(PARAMETERS, "Advisory", price=PRICE, advisory=True)
OPEN = Model(PARAMETERS, additional_parameters=True)
UNDESCRIBED = Model(price=fixed_price(20))


def faults(model: Model, given: dict[str, Any]) -> dict[str, str]:
    """Validate an input; give the words of each fault by its whole place."""
    try:
        model.validate(given)
    except Invalid as error:
        return {".".join(map(str, fault.loc)): fault.msg for fault in error.faults}
    return {}


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": "a boat"},
        {"prompt": "x" * 20},
        {"prompt": "a", "n_frames": "15", "seconds": 8, "shape": "portrait"} | {"n_frames": "10"},
        {"prompt": "a", "watermark": True, "images": ["u", "v"], "media": [{"url": "u"}]},
        {"prompt": "a", "images": []},
    ],
)
def test_a_good_order_has_no_faults(given: dict[str, Any]) -> None:
    assert faults(MODEL, given) == {}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        pytest.param("prompt", "", "must not be empty", id="empty"),
        pytest.param("prompt", " \n", "must not be empty", id="blank"),
        pytest.param("prompt", "x" * 21, "has 21 characters; the maximum is 20", id="too long"),
        pytest.param("prompt", None, "must be a string, not null", id="null"),
        pytest.param("prompt", ["a"], "must be a string, not a list", id="a list"),
        pytest.param("n_frames", "20", 'must be one of: "10", "15", not "20"', id="not an option"),
        pytest.param("n_frames", 10, 'must be a string, one of "10", "15", not 10', id="a number for a text"),
        pytest.param("seconds", "8", 'must be a whole number, one of 4, 8, 12, not "8"', id="a text for a number"),
        pytest.param("seconds", 8.0, "must be a whole number, one of 4, 8, 12, not 8.0", id="a real number"),
        pytest.param("seconds", True, "must be a whole number, one of 4, 8, 12, not true", id="a flag for a number"),
        pytest.param("seconds", 10**300, "must be one of: 4, 8, 12, not 1000", id="a huge number"),
        pytest.param("watermark", "true", 'must be true or false, not "true"', id="a text for a flag"),
        pytest.param("watermark", 1, "must be true or false, not 1", id="a number for a flag"),
        pytest.param("images", "u", 'must be a list of strings, not "u"', id="a text for a list"),
        pytest.param("images", ["u", 1], "must be a list of strings", id="a number in a list of texts"),
        pytest.param("images", ["u"] * 3, "has 3 items; the maximum is 2", id="too many"),
        pytest.param("media", ["u"], "must be a list of objects", id="a text in a list of objects"),
        pytest.param("media", {"url": "u"}, "must be a list of objects, not an object", id="an object for a list"),
        pytest.param("shape", "potrait", 'did you mean "portrait"?', id="a slip"),
        pytest.param(
            "shap", "portrait", 'is not a parameter of this model; did you mean "shape"?', id="a slip in a name"
        ),
        pytest.param("zzz", 1, "is not a parameter of this model", id="an unknown name"),
    ],
)
def test_a_wrong_value_is_a_fault_that_says_what_is_wrong(name: str, value: Any, words: str) -> None:
    found = faults(MODEL, {"prompt": "a"} | {name: value})
    assert list(found) == [f"input.{name}"]
    assert words in found[f"input.{name}"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        pytest.param("count", 3, "must be at least 4, not 3", id="below"),
        pytest.param("count", 16, "must be at most 15, not 16", id="above"),
        pytest.param("count", 10**400, "must be finite", id="beyond all numbers"),
        pytest.param("count", 4.0, "must be a whole number, not 4.0", id="not whole"),
        pytest.param("scale", -0.01, "must be at least 0, not -0.01", id="a little below"),
        pytest.param("scale", 1.5, "must be at most 1, not 1.5", id="a little above"),
        pytest.param("scale", "0.5", 'must be a number, not "0.5"', id="a text for a number"),
        pytest.param("scale", True, "must be a number, not true", id="a flag for any number"),
        pytest.param("scale", None, "must be a number, not null", id="null for a number"),
        pytest.param("any", float("nan"), "must be finite", id="no number"),
        pytest.param("any", float("inf"), "must be finite", id="infinite"),
        pytest.param("any", [1], "must be a number, not a list", id="a list for a number"),
        pytest.param("step", 7.5, "must be one of: 5, 10, not 7.5", id="not one of the numbers"),
    ],
)
def test_a_number_outside_its_bounds_is_a_fault(name: str, value: Any, words: str) -> None:
    assert faults(BOUNDED, {name: value}) == {f"input.{name}": words}


@pytest.mark.parametrize(
    "given",
    [{"count": 4}, {"count": 15}, {"scale": 0}, {"scale": 1.0}, {"scale": 0.25}, {"any": -1e300}, {"step": 5.0}],
)
def test_a_number_within_its_bounds_is_no_fault(given: dict[str, Any]) -> None:
    assert faults(BOUNDED, given) == {}


def test_every_fault_is_reported_at_once_each_with_its_place() -> None:
    with pytest.raises(Invalid) as caught:
        MODEL.validate({"n_frames": 10, "zzz": 1})
    assert {fault.loc for fault in caught.value.faults} == {
        ("input", "prompt"),
        ("input", "n_frames"),
        ("input", "zzz"),
    }
    for part in ("input.prompt: is required", "input.n_frames: ", "input.zzz: "):
        assert part in str(caught.value)


def test_of_very_many_unknown_names_only_the_first_are_listed() -> None:
    given = {"prompt": "x"} | {f"name{n}": 1 for n in range(40_000)}
    assert list(faults(MODEL, given)) == [f"input.name{n}" for n in range(10)]


def test_a_rule_between_parameters_sees_defaults_and_runs_when_nothing_else_is_wrong() -> None:
    wrong = {"prompt": "a", "shape": "portrait", "n_frames": "15"}
    assert faults(MODEL, wrong) == {"input.n_frames": 'must be "10" for a portrait'}
    assert faults(MODEL, wrong | {"watermark": 1}).keys() == {"input.watermark"}
    assert faults(Model(PARAMETERS, rules=(lambda given: Fault(("input",), given["shape"]),)), {"prompt": "a"}) == {
        "input": "landscape"
    }


def test_a_model_with_additional_parameters_accepts_unlisted_names() -> None:
    assert faults(OPEN, {"prompt": "a", "image_urls": ["u"]}) == {}
    assert faults(OPEN, {"prompt": "a", "n_frames": 10}).keys() == {"input.n_frames"}


def test_a_model_without_described_parameters_checks_nothing_and_fills_in_nothing() -> None:
    assert not UNDESCRIBED.is_validated
    assert faults(UNDESCRIBED, {"anything": [None]}) == {}
    assert UNDESCRIBED.with_defaults({"anything": 1}) == {"anything": 1}
    assert MODEL.is_validated


def test_advisory_parameters_refuse_nothing_and_send_no_defaults_but_are_shown_and_priced() -> None:
    wrong = {"n_frames": "15", "zzz": 1, "seconds": "8", "shape": "round"}
    assert not ADVISORY.is_validated
    assert faults(ADVISORY, wrong) == {}
    assert ADVISORY.with_defaults(wrong) == wrong
    assert ADVISORY.with_defaults({}) == {}
    assert (ADVISORY.estimate(wrong), ADVISORY.estimate({})) == (
        60,
        50,
    )  # the provider fills in what is not sent
    assert ADVISORY.schema() == MODEL.schema() | {"additionalProperties": True}


def test_defaults_are_filled_in_where_documents_give_them_and_never_over_what_was_given() -> None:
    given = {"prompt": "a", "n_frames": "15", "other": None}
    assert MODEL.with_defaults(given) == given | {"shape": "landscape", "watermark": False}
    assert given == {"prompt": "a", "n_frames": "15", "other": None}


@pytest.mark.parametrize(
    ("model", "given", "credits_"),
    [
        (MODEL, {"prompt": "a"}, 50),
        (MODEL, {"prompt": "a", "n_frames": "15"}, 60),
        (MODEL, {"prompt": "a", "n_frames": "25"}, None),
        (MODEL, {"prompt": "a", "n_frames": ["10"]}, None),
        (MODEL, {"prompt": "a", "n_frames": {}}, None),
        (UNDESCRIBED, {}, 20),
        (OPEN, {"prompt": "a"}, None),
    ],
)
def test_an_estimate_is_the_documented_price_or_none(
    model: Model, given: dict[str, Any], credits_: float | None
) -> None:
    assert model.estimate(given) == credits_


@pytest.mark.parametrize(
    ("given", "credits_"),
    [
        ({"size": "s", "duration": 5}, 12.5),
        ({"size": "s", "duration": "5"}, 12.5),
        ({"size": "s", "duration": 4.5}, 11.25),
        ({"size": "l", "duration": 1}, 19),
        ({"size": "s", "duration": 0}, None),
        ({"size": "s", "duration": -5}, None),
        ({"size": "s", "duration": True}, None),
        ({"size": "s", "duration": "five"}, None),
        ({"size": "s", "duration": 10**400}, None),
        ({"size": "s"}, None),
        ({"size": "m", "duration": 5}, None),
        ({"size": ["s"], "duration": 5}, None),
    ],
)
def test_a_price_a_second_counts_the_seconds_as_number_or_text(given: dict[str, Any], credits_: float | None) -> None:
    assert Model(price=price_per_second({("s",): 2.5, ("l",): 19}, "size")).estimate(given) == credits_


def test_the_schema_says_what_validation_holds_an_order_to() -> None:
    assert MODEL.schema() == {
        "type": "object",
        "properties": {
            "prompt": {"type": "string", "description": "What to show.", "minLength": 1, "maxLength": 20},
            "n_frames": {"type": "string", "description": "Length in seconds.", "enum": ["10", "15"], "default": "10"},
            "seconds": {"type": "integer", "enum": [4, 8, 12]},
            "shape": {"type": "string", "enum": ["landscape", "portrait"], "default": "landscape"},
            "watermark": {"type": "boolean", "default": False},
            "images": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
            "media": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["prompt"],
        "additionalProperties": False,
    }
    assert OPEN.schema()["additionalProperties"] is True
    assert UNDESCRIBED.schema() == {"type": "object", "properties": {}, "required": [], "additionalProperties": True}
    assert BOUNDED.schema()["properties"] == {
        "count": {"type": "integer", "minimum": 4, "maximum": 15},
        "scale": {"type": "number", "default": 0.5, "minimum": 0, "maximum": 1},
        "any": {"type": "number"},
        "step": {"type": "number", "enum": [5, 10]},
    }
    json.dumps(MODEL.schema())


OWNED_NAMES = ["model", "callBackUrl", "callback_url", "request_type", "notify_hook", "client_request_id"]


@pytest.mark.parametrize("name", OWNED_NAMES)
def test_a_name_that_the_adapter_fills_in_is_refused_in_an_input(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        refuse_reserved_names({"prompt": "a", name: "b"})
    assert [fault.loc for fault in caught.value.faults] == [("input", name)]


def test_no_other_name_is_refused_for_that_reason() -> None:
    assert set(OWNED_NAMES) == RESERVED_NAMES
    refuse_reserved_names({"prompt": "a", "provider": "official", "Model": 1})
