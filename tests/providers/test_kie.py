"""What is kie.ai's alone: its settings, and which of several ids is the one that counts."""

import json

import httpx
import pytest

from receiver.config.settings import Settings
from receiver.core.errors import ConfigError
from receiver.providers import CONFIG_TYPES, FAMILIES
from receiver.providers.base import HasBalance
from receiver.providers.kie import KieConfig
from tests.providers.recordings import account, answered, asking, submitting

KEY = "a-webhook-hmac-key"


def test_its_secret_and_its_files_host_are_settings() -> None:
    environ = {"KIE_API_KEY": "k", "KIE_WEBHOOK_SECRET": KEY, "KIE_FILES_URL": "https://files.example.com/"}
    config = Settings.load(environ, CONFIG_TYPES).providers["kie"]
    assert isinstance(config, KieConfig)
    assert config.webhook_secret is not None
    assert config.webhook_secret.get_secret_value() == KEY
    assert config.files_url.startswith("https://files.example.com")
    assert KEY not in repr(config)


def test_without_them_nothing_is_verified_and_files_go_where_its_pages_say() -> None:
    config = Settings.load({"KIE_API_KEY": "k"}, CONFIG_TYPES).providers["kie"]
    assert isinstance(config, KieConfig)
    assert config.webhook_secret is None
    assert (config.base_url, config.files_url) == ("https://api.kie.ai", "https://kieai.redpandaai.co")


def test_a_wrong_setting_is_named_and_its_value_is_not() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load({"KIE_API_KEY": "k", "KIE_FILES_URL": "ftp://user:secret@x"}, CONFIG_TYPES)
    assert "KIE_FILES_URL" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_secret_alone_is_no_account() -> None:
    assert Settings.load({"KIE_WEBHOOK_SECRET": KEY}, CONFIG_TYPES).sandbox


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"task_id": "a", "taskId": "b"}, "taskId": "c", "task_id": "d"},
        {"data": {"taskId": "a"}, "taskId": "c", "task_id": "d"},
        {"data": {}, "taskId": "a", "task_id": "d"},
        {"data": None, "task_id": "a"},
        {"data": {"task_id": "", "taskId": "a"}},
    ],
)
def test_the_id_is_looked_for_in_the_order_of_the_signature(body: dict[str, object]) -> None:
    assert answered(submitting(account("kie")), httpx.Response(200, json={"code": 200} | body)).remote_id == "a"
    answer = httpx.Response(200, json={"code": 200} | body)
    assert answered(asking(account("kie")), answer).remote_id == "a"


def test_those_families_tell_a_balance_whose_documents_name_an_endpoint() -> None:
    assert {name for name in FAMILIES if isinstance(account(name), HasBalance)} == {"rivya", "gateway", "kie"}


@pytest.mark.parametrize("model", ["veo3", "veo3_fast", "veo3_lite"])
def test_an_input_cannot_name_another_model_or_another_callback(model: str) -> None:
    """They are refused in an input before; and if they came this far, the order's own would count."""
    given = {"prompt": "x", "model": "another", "callBackUrl": "https://elsewhere.example.com"}
    flow = submitting(account("kie"), model=model, input=given, callback_url="https://hooks.example.com/t")
    body = json.loads(next(flow).content)
    assert (body["model"], body["callBackUrl"]) == (model, "https://hooks.example.com/t")
