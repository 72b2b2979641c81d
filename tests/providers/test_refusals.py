"""What never reached an upstream is refused, whatever the HTTP status; what may have been bought is not."""

from typing import Any

import httpx
import pytest

from receiver.core.errors import Busy, ProviderError, Refused, Unconfirmed
from receiver.providers import FAMILIES
from tests.providers.recordings import account, answered, submitting

each_family = pytest.mark.parametrize("family", FAMILIES)


def error_of(family: str, status: int, body: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        answered(submitting(account(family)), httpx.Response(status, json=body))
    return caught.value


def relayed(message: str, code: str | None = None, kind: str = "new_api_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": "", "code": code}}


AT_THE_DOOR: dict[str, dict[str, Any]] = {
    "no channel, by code": relayed("...", "model_not_found"),
    "no channel, by its words": relayed("分组 default 下模型 sora-2 无可用渠道（distributor） (request id: 1)"),
    "one-api's words": relayed("当前分组 default 下对于模型 sora-2 无可用渠道", kind="one_api_error"),
    "in English": relayed("No available channel for model sora-2 under group default (distributor)"),
    "no channel got": relayed("获取分组 default 下模型 sora-2 的可用渠道失败（distributor）: x", "get_channel_failed"),
    "no key of a channel": relayed("no available key", "channel:no_available_key"),
    "no such model": {"code": "model_not_found", "message": "The model `x` does not exist", "data": None},
    "no quota": relayed("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
    "the user's quota": relayed("用户额度不足, 剩余额度: ¥0.1", "insufficient_user_quota"),
    "the token's quota": relayed("该令牌额度已用尽 !token.UnlimitedQuota && token.RemainQuota = 0"),
    "before it is spent": relayed(
        "预扣费额度失败, 用户剩余额度: 0, 需要预扣费额度: 1", "pre_consume_token_quota_failed"
    ),
    "a task's quota": {"code": "quota_not_enough", "message": "user quota is not enough", "data": None},
    "a balance": {"code": "insufficient_balance", "message": "..."},
    "a balance in words": relayed("余额不足，请充值", kind="shell_api_error"),
    "an account's balance": relayed("Insufficient account balance"),
    "credits": relayed("The current credits are insufficient. Please top up."),
    "not enough": relayed("Not enough credits"),
    "the key": relayed("无效的令牌", kind="one_api_error"),
    "an old key": relayed("该令牌已过期"),
    "a key by code": relayed("Incorrect API key provided: sk-x", "invalid_api_key"),
    "a key in words": relayed("Invalid token (request id: 1)"),
    "a token's models": relayed("该令牌无权访问模型 sora-2"),
    "a group": relayed("无权访问 vip 分组"),
    "no price": relayed("模型 sora-2 倍率或价格未配置，请联系管理员", "model_price_error"),
    "moderation": relayed("提示词包含敏感词: x", "sensitive_words_detected"),
    "moderation in words": relayed("user sensitive words detected: x"),
}


@each_family
@pytest.mark.parametrize("status", [200, 400, 403, 429, 500, 503])
@pytest.mark.parametrize("what", AT_THE_DOOR)
def test_what_says_that_it_reached_no_upstream_is_refused_at_any_status(family: str, status: int, what: str) -> None:
    error = error_of(family, status, AT_THE_DOOR[what])
    assert type(error) is Refused
    assert error.http_status == status


@pytest.mark.parametrize(("code", "expected"), [("model_not_found", "model_not_found"), (None, "http_503")])
def test_a_refusal_s_code_is_the_provider_s_and_else_the_status_but_no_name_of_software(
    code: str | None, expected: str
) -> None:
    error = error_of("gateway", 503, relayed("分组 default 下模型 x 无可用渠道", code))
    assert error.code == expected


PERHAPS_BOUGHT: dict[str, dict[str, Any]] = {
    "an upstream's error": relayed("upstream error", "upstream_error", "upstream_error"),
    "an upstream's status": relayed("bad response status code 500", "bad_response_status_code"),
    "a request that broke off": relayed("do request failed", "do_request_failed"),
    "a task not fetched": {"code": "fail_to_fetch_task", "message": "model not found", "data": None},
    "an upstream's words about its model": relayed("model not found", "bad_response_status_code", "upstream_error"),
    "an upstream's words about its balance": relayed("余额不足", "bad_response_status_code"),
    "an upstream's words about our input": relayed("invalid response: task required", None, "upstream_error"),
    "a second channel that was not there": relayed(
        "获取分组 default 下模型 sora-2 的可用渠道失败（retry）: x", "get_channel_failed"
    ),
    "a channel that was too slow": relayed("response time exceeded", "channel:response_time_exceeded"),
    "an answer that was not read": relayed("unexpected EOF", "read_response_body_failed"),
    "moderation of what was made": relayed("The generated video may violate our content policy."),
    "load": relayed("当前分组上游负载已饱和，请稍后再试"),
    "nothing told": relayed("Internal server error"),
    "a time": relayed("context deadline exceeded"),
    "overload": relayed("The engine is currently overloaded, please try again later"),
}


@each_family
@pytest.mark.parametrize("status", [200, 500, 502, 503, 504, 524])
@pytest.mark.parametrize("what", PERHAPS_BOUGHT)
def test_what_an_upstream_may_have_taken_is_unconfirmed(family: str, status: int, what: str) -> None:
    assert type(error_of(family, status, PERHAPS_BOUGHT[what])) is Unconfirmed


@each_family
@pytest.mark.parametrize("page", ["<h1>502</h1> invalid token", "insufficient balance", '{"error": insufficient_quota'])
def test_a_page_of_something_in_between_refuses_nothing(family: str, page: str) -> None:
    with pytest.raises(Unconfirmed):
        answered(submitting(account(family)), httpx.Response(502, text=page))


@each_family
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, relayed("Rate limit reached for requests", "rate_limit_exceeded")),
        (429, relayed("当前分组上游负载已饱和，请稍后再试", None, "upstream_error")),
        (429, relayed("Resource has been exhausted (e.g. check quota).", "RESOURCE_EXHAUSTED")),
        (403, relayed("slow down", "too_many_requests")),
        (200, {"code": 430, "msg": "Your call frequency is too high. Please try again later.", "data": None}),
        (200, {"code": 405, "msg": "Rate limit exceeded", "data": None}),
        (200, {"code": 429, "message": "too many requests"}),
        (200, {"code": "rate_limit_exceeded", "message": "..."}),
    ],
)
def test_too_often_is_busy(family: str, status: int, body: dict[str, Any]) -> None:
    assert type(error_of(family, status, body)) is Busy


@each_family
def test_numbers_that_elsewhere_say_too_often_refuse_where_their_words_do_not_say_so(family: str) -> None:
    assert type(error_of(family, 200, {"code": 405, "msg": "Method not allowed"})) is Refused
    assert type(error_of(family, 200, {"code": 429, "msg": "Insufficient credits"})) is Refused
    assert type(error_of(family, 400, relayed("The frame rate limit is 30."))) is Refused
