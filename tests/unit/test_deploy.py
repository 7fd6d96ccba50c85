"""The manifests in deploy/ say what this version of Tessera and Ray need."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]  # it has no types of its own

from actors.cluster.ray_node import ENVIRONMENT, OBJECT_STORE_BYTES, RESOURCE

DEPLOY: Final = Path(__file__).parents[2] / "deploy"


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_kubernetes_has_this_version_tuned() -> None:
    cluster, *others = documents("kubernetes/tessera.yaml")
    assert cluster["spec"]["rayVersion"] == version("ray")
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    deployments = [one["spec"] for one in others if one["kind"] == "Deployment"]
    containers = [one["template"]["spec"]["containers"][0] for one in (*groups, *deployments)]
    assert {one["image"].rpartition(":")[2] for one in containers} == {version("tessera")}
    for group, container in zip(groups, containers, strict=False):
        tuned = {one["name"]: one.get("value") for one in container["env"]}
        assert ENVIRONMENT.items() <= tuned.items()
        assert group["rayStartParams"]["object-store-memory"] == str(OBJECT_STORE_BYTES)
    assert json.loads(json.loads(groups[1]["rayStartParams"]["resources"])).keys() == {RESOURCE}


def test_machines_of_a_cloud_have_this_version_and_room_for_shards() -> None:
    (cluster,) = documents("ray/cluster.yaml")
    assert f"=={version('tessera')}'" in cluster["setup_commands"][0]
    assert cluster["available_node_types"]["shards"]["resources"][RESOURCE] > 0
    assert RESOURCE not in cluster["available_node_types"]["head"]["resources"]
    assert str(OBJECT_STORE_BYTES) in cluster["worker_start_ray_commands"][0]
