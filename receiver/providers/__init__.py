"""The registry of API families: the one place that names concrete providers.

A new family is one file here, one entry below and one folder of recorded messages under `tests/providers/`.
"""

from collections.abc import Mapping

from receiver.config.settings import ProviderConfig
from receiver.providers.apixo import Apixo
from receiver.providers.base import Provider
from receiver.providers.gateway import Gateway
from receiver.providers.kie import Kie
from receiver.providers.revid import Revid
from receiver.providers.rivya import Rivya

FAMILIES: Mapping[str, type[Provider]] = {
    "rivya": Rivya,
    "apixo": Apixo,
    "revid": Revid,
    "gateway": Gateway,
    "kie": Kie,
}

CONFIG_TYPES: Mapping[str, type[ProviderConfig]] = {name: family.config_type for name, family in FAMILIES.items()}
"""What `Settings.load` reads the accounts with."""


def connect(configs: Mapping[str, ProviderConfig]) -> dict[str, Provider]:
    """Make the provider of every configured account, by account name."""
    return {name: FAMILIES[name.split("-", 1)[0]](name, config) for name, config in configs.items()}
