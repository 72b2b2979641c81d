"""Whether an error says that an order was refused before any upstream got it, or that an upstream may have taken it.

Knows the codes and messages of new-api, one-api and their forks, in both their languages, and of the APIs behind them.
Pure; only `answers` calls it. A message that could also come from an upstream that took the order is no refusal.
"""

import re

from receiver.core.messages import Problem

_CODES = frozenset(
    {
        # no channel, no such model
        *("model_not_found", "no_available_channel", "get_channel_failed", "channel:no_available_key"),
        *("channel:invalid_key", "channel:model_mapped_error", "invalid_api_platform", "invalid_api_type"),
        *("model_not_supported", "model_not_exist", "model_not_available", "modelnotopen", "invalid_model"),
        # an empty account
        *("insufficient_quota", "insufficient_user_quota", "insufficient_balance", "insufficient_credits"),
        *("insufficient_credit", "insufficient_funds", "pre_consume_token_quota_failed", "quota_not_enough"),
        *("user_quota_not_enough", "token_quota_not_enough", "balance_not_enough", "credits_not_enough", "no_balance"),
        *("not_enough_credits", "account_overdue", "billing_hard_limit_reached", "model_price_error"),
        # the key
        *("invalid_api_key", "invalid_token", "invalid_key", "api_key_invalid", "api_key_expired", "api_key_revoked"),
        *("api_key_missing", "token_expired", "token_invalid", "access_denied", "unauthorized", "authentication_error"),
        # moderation at the door
        *("sensitive_words_detected", "sensitive_words", "sensitive_word_detected"),
    }
)
_WORDS = re.compile(
    # no channel, no such model
    r"无可用(的)?渠道|没有可用(的)?渠道|可用渠道(不存在|失败)|无可用(的)?账号|模型.{0,80}(不存在|未找到|未开放|不支持|已下线|未配置)"
    r"|no (available |usable )channels?\b|no channels? (is |are )?available|no available channels?"
    r"|model[ _]not[ _]found|model .{0,80}(does not exist|is not supported|is not available in)"
    # an empty account
    r"|(余额|额度|积分|点数|配额)(不足|不够|已用尽|用尽|已用完|耗尽)|预扣费.{0,20}失败|欠费"
    r"|insufficient[ _](user[ _]|account[ _]|token[ _]|api[ _])?(quota|balance|credits?|funds)"
    r"|(quota|balance|credits?|funds)( is| are| has been)? (not enough|insufficient|exhausted|used up)"
    r"|not enough (quota|balance|credits?|funds)"
    r"|exceeded your current quota, please check your plan"
    # the key
    r"|无效的?(令牌|密钥)|(令牌|密钥).{0,20}(无效|已过期|过期|已禁用|被禁用|不可用|已失效|不存在|无权)|未提供(令牌|密钥)|无权访问|用户.{0,10}(封禁|禁用)"
    r"|(invalid|incorrect|expired|missing) (api[ _-]?key|token\b)"
    r"|(api[ _-]?key|token) (is |has )?(invalid|expired|disabled)"
    # moderation at the door
    r"|敏感词|包含敏感|sensitive words? (detected|found)|contains? sensitive words?",
    re.IGNORECASE,
)
_UPSTREAM_CODES = frozenset(
    {
        *("upstream_error", "bad_response_status_code", "bad_response", "bad_response_body", "do_request_failed"),
        *("fail_to_fetch_task", "read_response_body_failed", "unmarshal_response_body_failed", "empty_response"),
        *("channel:response_time_exceeded", "upstream_timeout", "request_timeout", "aws_invoke_error", "openai_error"),
    }
)
_UPSTREAM_WORDS = re.compile(
    r"bad_response_status_code|do_request_failed|fail_to_fetch_task|upstream_error|bad response status code"
    r"|[(（]retry[)）]",  # another channel was tried before, with an unknown outcome
    re.IGNORECASE,
)
_BUSY_CODES = frozenset({"rate_limit_exceeded", "rate_limited", "rate_limit", "too_many_requests", "rate_limit_error"})
_BUSY_NUMBERS = frozenset({"405", "430"})
_BUSY_WORDS = re.compile(r"\brate\b|frequen|too (many|often|fast)|频率|频繁|限流|过快", re.IGNORECASE)


def is_upstream_error(problem: Problem, kind: str | None = None) -> bool:
    """Return whether an error comes from an upstream that may have taken the order."""
    codes = {problem.code.lower(), (kind or "").lower()}
    return bool(codes & _UPSTREAM_CODES) or _UPSTREAM_WORDS.search(problem.message) is not None


def is_refusal(problem: Problem, kind: str | None = None) -> bool:
    """Return whether an error says that the order reached no upstream, and never will unchanged."""
    if is_upstream_error(problem, kind):
        return False
    codes = {problem.code.lower(), (kind or "").lower()}
    return bool(codes & _CODES) or _WORDS.search(problem.message) is not None


def is_rate_limit(problem: Problem) -> bool:
    """Return whether an error says that orders come too fast, although its code may be a refusal elsewhere."""
    code = problem.code.lower()
    return code in _BUSY_CODES or (code in _BUSY_NUMBERS and _BUSY_WORDS.search(problem.message) is not None)
