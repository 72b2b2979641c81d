"""The registry of API families: the one place that names concrete providers.

A new family is one module and one entry here; `docs/adding-a-provider.md` says what its tests need.
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
"""The settings of each family, for `Settings.load`."""


def connect(configs: Mapping[str, ProviderConfig]) -> dict[str, Provider]:
    """Return the provider of every configured account, by account name."""
    return {name: FAMILIES[name.split("-", 1)[0]](name, config) for name, config in configs.items()}
