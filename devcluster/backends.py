"""Which cluster the commands are about: the embedded one, the kubeconfig's, or kind's.

`CLUSTER=embedded|current|kind`. Kind needs a Docker engine; its command lines are tested, and were
not run on the machines this project is built on.
"""

import dataclasses
import os
import pathlib
import shutil

from devcluster import cluster, images, nodes
from devcluster.settings import Settings
from devcluster.shell import Problem, run, say

KIND_NAME = "chatmodel"


@dataclasses.dataclass(frozen=True)
class Embedded:
    """The cluster of this package."""

    config: Settings

    def up(self) -> None:
        """Bring it up."""
        cluster.up(self.config)

    def kubeconfig(self) -> pathlib.Path:
        """Return its kubeconfig."""
        if not self.config.kubeconfig.exists():
            raise Problem("there is no cluster: run `make cluster-up` first")
        return self.config.kubeconfig

    def load(self) -> None:
        """Import the built images into every node."""
        archives = sorted(self.config.images.glob("*.tar"))
        for home in sorted(self.config.nodes.glob("node-*")):
            done = nodes.load(self.config, int(home.name.removeprefix("node-")), archives)
            say(f"  {home.name}: imported {', '.join(done) or 'nothing new'}")


@dataclasses.dataclass(frozen=True)
class Current:
    """The cluster of the user's kubeconfig; its nodes pull images by themselves."""

    config: Settings

    def up(self) -> None:
        """See that it answers."""
        run(_kubectl(self.config), "get", "--raw", "/readyz")

    def kubeconfig(self) -> pathlib.Path:
        """Return the user's kubeconfig."""
        first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
        return pathlib.Path(first or pathlib.Path.home() / ".kube/config")

    def load(self) -> None:
        """Say what has to be done: images get to a foreign cluster through its registry."""
        say("  CLUSTER=current: push the images to a registry your nodes can pull from")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A cluster made by kind."""

    config: Settings

    def up(self) -> None:
        """Make it unless it is there."""
        if shutil.which("kind") is None or not images.has_docker():
            raise Problem("CLUSTER=kind needs kind and a running Docker engine: install both")
        if KIND_NAME not in run("kind", "get", "clusters").split():
            run(*self.create_command())

    def create_command(self) -> list[str]:
        """Return the command line that makes the cluster."""
        return ["kind", "create", "cluster", "--name", KIND_NAME, "--kubeconfig",
                str(self.kubeconfig()), "--wait", "120s"]  # fmt: skip

    def kubeconfig(self) -> pathlib.Path:
        """Return where kind writes its kubeconfig."""
        return self.config.home.parent / "kind.kubeconfig"

    def load_command(self, archive: pathlib.Path) -> list[str]:
        """Return the command line that loads one image."""
        return ["kind", "load", "image-archive", str(archive), "--name", KIND_NAME]

    def load(self) -> None:
        """Load the built images."""
        for image in images.IMAGES:
            archive = self.config.images / f"{image.name}.tar"
            if archive.exists():
                run(*self.load_command(archive))


Backend = Embedded | Current | Kind
BACKENDS: dict[str, type[Backend]] = {"embedded": Embedded, "current": Current, "kind": Kind}


def choose(config: Settings, name: str | None = None) -> Backend:
    """Return the cluster that CLUSTER names; embedded without it."""
    wanted = name or os.environ.get("CLUSTER") or "embedded"
    if wanted not in BACKENDS:
        raise Problem(f"CLUSTER={wanted} is unknown: use one of {', '.join(BACKENDS)}")
    return BACKENDS[wanted](config)


def _kubectl(config: Settings) -> str:
    return shutil.which("kubectl") or str(config.bin / "kubectl")
