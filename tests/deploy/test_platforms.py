"""The recipes for containers and platforms, checked statically: neither Docker nor a platform is run.

The tests cannot see whether a platform has changed its format.
"""

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from receiver.cli.commands import COMMANDS
from receiver.config.settings import VARIABLES, Settings
from receiver.providers import CONFIG_TYPES
from receiver.web.api.endpoints import OPERATIONS
from tests.deploy.rig import DEPLOY, ROOT, replaced
from tests.deploy.test_systemd import SERVICES, SYSTEMD, needs_root, run

yaml: Any = pytest.importorskip("yaml", reason="PyYAML is not installed")

PAGES = sorted(set((ROOT / "docs" / "deploying").glob("*.md")) - {ROOT / "docs" / "deploying" / "index.md"})
DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text()
FLY = tomllib.loads((DEPLOY / "fly.toml").read_text())
(RENDER,) = yaml.safe_load((DEPLOY / "render.yaml").read_text())["services"]
RAILWAY = json.loads((DEPLOY / "railway.json").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
PATHS = {operation.path for operation in OPERATIONS if operation.method == "GET"}


def environments() -> Iterator[tuple[str, Mapping[str, str]]]:
    """The settings of each recipe, with a domain and a provider key filled in."""
    image = dict(re.findall(r"(\w+)=(\S+)", re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)[0]))
    key = {"REVID_API_KEY": "a-key"}
    yield "image", image | key
    yield "fly", image | FLY["env"] | key
    yield "render", image | key | {each["key"]: each["value"] for each in RENDER["envVars"] if "value" in each}
    compose = COMPOSE["services"]["receiver"]["environment"]
    yield "compose", image | key | {name: re.sub(r"\$\{DOMAIN[^}]*\}", "a.example", compose[name]) for name in compose}
    for name in SERVICES:
        unit = dict(re.findall(r"^Environment=(\w+)=(.*)$", (SYSTEMD / name).read_text(), re.MULTILINE))
        yield name, file_of(SYSTEMD / "receiver.env") | unit | key


def file_of(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize(("name", "environ"), list(environments()))
def test_the_settings_load_and_none_is_unknown(name: str, environ: Mapping[str, str]) -> None:
    settings = Settings.load(environ, CONFIG_TYPES)
    assert not settings.warnings
    assert list(settings.providers) == ["revid"]
    assert settings.data_dir.is_absolute()


def test_the_data_directory_is_the_mounted_disk() -> None:
    mounted = {
        "fly": FLY["mounts"][0]["destination"],
        "render": RENDER["disk"]["mountPath"],
        "compose": COMPOSE["services"]["receiver"]["volumes"][0].split(":")[1],
    }
    directories = {name: environ["RECEIVER_DATA_DIR"] for name, environ in environments()}
    assert mounted == {name: directories[name] for name in mounted}


def test_every_health_check_asks_an_endpoint_that_exists() -> None:
    asked = [check["path"] for check in FLY["http_service"]["checks"]]
    asked += [RENDER["healthCheckPath"], RAILWAY["deploy"]["healthcheckPath"]]
    asked += re.findall(r"'(/\w+)'", DOCKERFILE)
    assert len(asked) == 4
    assert set(asked) <= PATHS


def test_every_recipe_uses_the_port_that_the_image_listens_on() -> None:
    (port,) = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    assert {environ.get("PORT", port) for _, environ in environments()} == {port}
    assert FLY["http_service"]["internal_port"] == int(port)
    assert COMPOSE["services"]["caddy"]["environment"]["UPSTREAM"] == f"receiver:{port}"


def test_the_image_is_built_from_files_that_exist_and_are_not_ignored() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
              for word in line.split() if not word.startswith("--")]  # fmt: skip
    assert copied
    for path in (*copied, "deploy/docker/Dockerfile"):
        assert (ROOT / path).exists(), path
        assert any(path == each or path.startswith(f"{each}/") for each in kept), path


def test_every_recipe_names_the_dockerfile() -> None:
    build = COMPOSE["services"]["receiver"]["build"]
    named = [
        DEPLOY / FLY["build"]["dockerfile"],
        ROOT / RENDER["dockerContext"] / RENDER["dockerfilePath"],
        ROOT / RAILWAY["build"]["dockerfilePath"],
        DEPLOY / "docker" / build["context"] / build["dockerfile"],
    ]
    assert {path.resolve() for path in named} == {DEPLOY / "docker" / "Dockerfile"}


def test_the_proxys_network_is_the_trusted_one() -> None:
    (network,) = COMPOSE["networks"]["proxy"]["ipam"]["config"]
    assert network["subnet"] == COMPOSE["services"]["receiver"]["environment"]["RECEIVER_TRUSTED_PROXIES"]


def test_every_recipe_leaves_ten_seconds_for_a_stop() -> None:
    seconds = [FLY["kill_timeout"], RENDER["maxShutdownDelaySeconds"], int(RAILWAY["deploy"]["drainingSeconds"])]
    seconds.append(int(COMPOSE["services"]["receiver"]["stop_grace_period"].removesuffix("s")))
    seconds += map(int, re.findall(r"^TimeoutStopSec=(\d+)$", (SYSTEMD / "receiver.service").read_text(), re.MULTILINE))
    assert len(seconds) == 5
    assert min(seconds) > 10


def test_every_command_exists() -> None:
    used = re.findall(
        r"^ExecStart=\S+/bin/receiver (\S+)", "".join((SYSTEMD / name).read_text() for name in SERVICES), re.MULTILINE
    )
    used += re.findall(r'^CMD \["(\w+)"', DOCKERFILE, re.MULTILINE)
    used += re.findall(r'^"\$\{RECEIVER:-receiver\}" (\w+)', (SYSTEMD / "receiver-backup").read_text(), re.MULTILINE)
    assert set(used) == {"serve", "poll", "backup"}
    assert set(used) <= set(COMMANDS)


@needs_root
def test_the_images_command_drops_root_and_gives_the_volume_to_its_user(tmp_path: Path) -> None:
    volume = tmp_path / "data"
    volume.mkdir(mode=0o755)
    (volume / "receiver.db").touch()
    changes = {
        "receiver:receiver": "nobody:nogroup",
        "-o receiver -g receiver": "-o nobody -g nogroup",
        "! -user receiver": "! -user nobody",
        "--reuid=receiver --regid=receiver": "--reuid=nobody --regid=nogroup",
        "/opt/receiver/bin/receiver": "/usr/bin/id",
    }
    command = tmp_path / "receiver"
    command.write_text(replaced((DEPLOY / "docker" / "receiver").read_text(), changes))
    command.chmod(0o755)
    done = run(command, "-un", environ={**os.environ, "RECEIVER_DATA_DIR": str(volume)})
    assert (done.returncode, done.stdout) == (0, "nobody\n")
    assert (volume.owner(), (volume / "receiver.db").owner()) == ("nobody", "nobody")
    assert volume.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.stem))
def test_a_page_names_only_files_commands_and_variables_that_exist(page: Path) -> None:
    text = page.read_text()
    for path in set(re.findall(r"\bdeploy/[\w./-]*\w", text)):
        assert (ROOT / path).exists() or path == "deploy/docker/.env", path
    blocks = "".join(re.findall(r"^```sh$(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert "receiver doctor" in blocks
    assert "receiver backup" in text
    assert set(re.findall(r"`receiver ([a-z]+)", text)) <= set(COMMANDS)
    known = {*VARIABLES.values()}
    assert set(re.findall(r"\bRECEIVER_[A-Z_]+[A-Z]\b", text)) <= known


def test_every_file_is_named_on_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    files = {str(path.relative_to(ROOT)) for path in DEPLOY.rglob("*") if path.is_file()}
    assert {name for name in files if name not in text} == set()


def test_the_scripts_parse_and_are_executable() -> None:
    for script in (SYSTEMD / "receiver", SYSTEMD / "receiver-backup", DEPLOY / "docker" / "receiver"):
        assert subprocess.run(["sh", "-n", script], check=False).returncode == 0, script  # noqa: S603, S607 - reads it
        assert os.access(script, os.X_OK), script
