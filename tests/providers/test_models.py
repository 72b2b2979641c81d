"""What the documents say about each family and its models, transcribed a second time."""

from typing import Any, NamedTuple

import pytest

from receiver.core.errors import Invalid
from receiver.providers import FAMILIES
from receiver.providers.base import Rate

DAY = 24 * 3600


class Facts(NamedTuple):
    takes_callbacks: bool = True
    supports_idempotency_keys: bool = False
    needs_confirmation: bool = False
    create_rate: Rate | None = None
    first_check_after: float | None = None
    output_ttl_seconds: float | None = None


FACTS = {
    "rivya": Facts(takes_callbacks=False, supports_idempotency_keys=True, needs_confirmation=True),
    # 15 days on one page, 24 hours on another: the shorter one.
    "apixo": Facts(create_rate=Rate(10_000, 60), first_check_after=180, output_ttl_seconds=DAY),
    "revid": Facts(),
    "gateway": Facts(),
    # 14 days on one page, 24 hours on another.
    "kie": Facts(needs_confirmation=True, create_rate=Rate(20, 10), output_ttl_seconds=DAY),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_described_as_in_its_documents(family: str) -> None:
    kind = FAMILIES[family]
    assert Facts(*(getattr(kind, name) for name in Facts._fields)) == FACTS[family]


RIVYA = {
    "prompt": {"type": "string", "minLength": 1, "maxLength": 10000},
    "n_frames": {"type": "string", "enum": ["10", "15"], "default": "10"},
    "aspect_ratio": {"type": "string", "enum": ["landscape", "portrait"], "default": "landscape"},
    "remove_watermark": {"type": "string", "enum": ["false", "true"], "default": "false"},
    "upload_method": {"type": "string", "enum": ["s3", "oss"], "default": "s3"},
    "referenceMediaItems": {"type": "array", "items": {"type": "object"}, "maxItems": 1},
}
REVID = {
    "prompt": {"type": "string", "minLength": 1, "maxLength": 10000},
    "aspect_ratio": {"type": "string", "enum": ["portrait", "landscape"], "default": "landscape"},
    "n_frames": {"type": "string", "enum": ["10", "15"], "default": "10"},
    "remove_watermark": {"type": "boolean", "default": True},
}
SIZE = {"size": {"type": "string", "enum": ["standard", "high"]}}
GATEWAY = {
    "prompt": {"type": "string", "minLength": 1},
    "images": {"type": "array", "items": {"type": "string"}},
    "aspect_ratio": {"type": "string", "enum": ["16:9", "9:16"]},
    "hd": {"type": "boolean", "default": False},
    "duration": {"type": "string", "enum": ["10", "15", "25", "4", "8", "12"]},
    "watermark": {"type": "boolean"},
    "private": {"type": "boolean"},
}

DOCUMENTED: dict[tuple[str, str], dict[str, Any]] = {
    ("rivya", "sora-2"): RIVYA,
    ("rivya", "sora-2-pro"): RIVYA | SIZE,
    ("apixo", "sora-2"): {
        "prompt": {"type": "string", "minLength": 1, "maxLength": 10000},
        "mode": {"type": "string", "enum": ["text-to-video", "image-to-video"]},
        "duration": {"type": "integer", "enum": [4, 8, 12]},
        "aspect_ratio": {"type": "string", "enum": ["landscape", "portrait"], "default": "landscape"},
        "image_urls": {"type": "array", "items": {"type": "string"}},
        "remove_watermark": {"type": "boolean", "default": True},
        "provider": {"type": "string", "enum": ["official"], "default": "official"},
    },
    ("revid", "sora-2-text-to-video"): REVID,
    ("revid", "sora-2-image-to-video"): REVID,
    ("revid", "sora-2-pro-text-to-video"): REVID | SIZE,
    ("revid", "sora-2-pro-image-to-video"): REVID | SIZE,
    ("revid", "sora-watermark-remover"): {},
    ("revid", "sora-2-pro-storyboard"): {},
    ("gateway", "sora-2"): GATEWAY,
    ("gateway", "sora-2-pro"): GATEWAY,
}


def test_the_models_are_those_of_the_documents() -> None:
    """Those of kie, which are hints, are in `test_kie_models`."""
    found = {(family, model) for family, kind in FAMILIES.items() if family != "kie" for model in kind.models}
    assert found == set(DOCUMENTED)


@pytest.mark.parametrize(("family", "model"), DOCUMENTED, ids="/".join)
def test_a_models_parameters_have_the_documented_types_options_and_defaults(family: str, model: str) -> None:
    schema = FAMILIES[family].models[model].schema()
    plain = {
        name: {key: value for key, value in item.items() if key != "description"}
        for name, item in schema["properties"].items()
    }
    assert repr(sorted(map(by_key, plain.items()))) == repr(sorted(map(by_key, DOCUMENTED[family, model].items())))
    assert schema["required"] == (["prompt"] if plain else [])


def by_key(item: tuple[str, dict[str, Any]]) -> tuple[str, list[tuple[str, Any]]]:
    """Order a schema, so that its spelling can be compared: there `1` and `True` differ."""
    return item[0], sorted(item[1].items())


PRICES = [
    ("rivya", "sora-2", {}, 6),
    ("rivya", "sora-2-pro", {"size": "high", "n_frames": "15"}, 75),
    ("apixo", "sora-2", {}, None),
    ("gateway", "sora-2", {}, None),
    ("revid", "sora-2-text-to-video", {}, 50),
    ("revid", "sora-2-text-to-video", {"n_frames": "15"}, 60),
    ("revid", "sora-2-image-to-video", {"n_frames": "10"}, 50),
    ("revid", "sora-2-image-to-video", {"n_frames": "15"}, 60),
    ("revid", "sora-2-pro-text-to-video", {"size": "standard"}, 200),
    ("revid", "sora-2-pro-text-to-video", {"size": "standard", "n_frames": "15"}, 350),
    ("revid", "sora-2-pro-text-to-video", {"size": "high"}, 500),
    ("revid", "sora-2-pro-text-to-video", {"size": "high", "n_frames": "15"}, 790),
    ("revid", "sora-2-pro-image-to-video", {"size": "standard"}, 200),
    ("revid", "sora-2-pro-image-to-video", {"size": "high", "n_frames": "15"}, 790),
    ("revid", "sora-2-pro-text-to-video", {}, 500),  # no default for its size: the dearer one
    ("revid", "sora-2-pro-text-to-video", {"n_frames": "15"}, 790),
    ("revid", "sora-2-pro-text-to-video", {"size": "huge"}, None),
    ("revid", "sora-watermark-remover", {"video_url": "u"}, 20),
    ("revid", "sora-2-pro-storyboard", {"n_frames": "10"}, 250),
    ("revid", "sora-2-pro-storyboard", {"n_frames": "15"}, 350),
    ("revid", "sora-2-pro-storyboard", {}, 350),
]


@pytest.mark.parametrize(("family", "model", "given", "credits_"), PRICES)
def test_an_estimate_is_the_price_of_the_documents(
    family: str, model: str, given: dict[str, Any], credits_: float | None
) -> None:
    assert FAMILIES[family].models[model].estimate({"prompt": "x"} | given) == credits_


ORDERS = [
    pytest.param("apixo", "sora-2", {"mode": "image-to-video"}, "image_urls", id="an image is needed for its mode"),
    pytest.param("apixo", "sora-2", {"duration": "8"}, "duration", id="a whole number there"),
    pytest.param("revid", "sora-2-text-to-video", {"n_frames": 10}, "n_frames", id="a text here"),
    pytest.param("revid", "sora-2-text-to-video", {"remove_watermark": "true"}, "remove_watermark", id="a flag here"),
    pytest.param("revid", "sora-2-text-to-video", {"size": "high"}, "size", id="no size for the plain model"),
    pytest.param("rivya", "sora-2", {"remove_watermark": True}, "remove_watermark", id="a text there"),
    pytest.param("rivya", "sora-2", {"prompt": "x" * 10001}, "prompt", id="10001 characters"),
    pytest.param("rivya", "sora-2", {"referenceMediaItems": [{}, {}]}, "referenceMediaItems", id="two images"),
    pytest.param("gateway", "sora-2", {"hd": True}, "hd", id="hd is for pro"),
    pytest.param("gateway", "sora-2", {"duration": "25"}, "duration", id="25 seconds are for pro"),
    pytest.param("gateway", "sora-2", {"duration": 10}, "duration", id="a text for a duration"),
    pytest.param("gateway", "sora-2", {"aspect_ratio": "landscape"}, "aspect_ratio", id="a ratio in numbers"),
]


@pytest.mark.parametrize(("family", "model", "given", "name"), ORDERS)
def test_an_order_against_the_documents_is_refused_where_it_is_wrong(
    family: str, model: str, given: dict[str, Any], name: str
) -> None:
    with pytest.raises(Invalid) as caught:
        FAMILIES[family].models[model].validate({"prompt": "x"} | given)
    assert [fault.loc for fault in caught.value.faults] == [("input", name)]


@pytest.mark.parametrize(
    ("family", "model", "given"),
    [
        ("rivya", "sora-2", {"prompt": "x" * 10000}),
        ("apixo", "sora-2", {"mode": "image-to-video", "image_urls": ["u"]}),
        ("revid", "sora-2-image-to-video", {"image_urls": ["u"]}),  # its image parameters are not described
        ("revid", "sora-watermark-remover", {"video_url": "u"}),
        ("gateway", "sora-2", {}),  # text to video: images are needed on the page of image-to-video only
        ("gateway", "sora-2", {"duration": "15", "hd": False}),
        ("gateway", "sora-2-pro", {"duration": "25", "hd": True}),
    ],
)
def test_an_order_that_the_documents_allow_passes(family: str, model: str, given: dict[str, Any]) -> None:
    FAMILIES[family].models[model].validate({"prompt": "x"} | given)
