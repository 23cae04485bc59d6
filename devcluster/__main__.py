"""The commands: `python3 -m devcluster COMMAND`. Each ends with 0, or with one sentence and 1."""

import argparse
import json
import os
import pathlib
import sys

from devcluster import backends, build, check, cluster, control_plane, forward, images
from devcluster.settings import Settings
from devcluster.shell import Problem, in_namespace, run, say


def main() -> None:
    """Run one command."""
    args = _parse()
    config = Settings.of_environment()
    try:
        COMMANDS[args.command](config, args)
    except Problem as problem:
        say(f"devcluster: {problem}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="devcluster",
        description="A real Kubernetes here. CLUSTER=embedded (default), current or kind.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring the cluster up, or repair or extend it")
    up.add_argument("--nodes", type=int, default=1, help="real nodes, 1 to 9 (default 1)")
    up.add_argument("--fake-nodes", type=int, default=0, help="nodes simulated by kwok")
    up.add_argument("--kwok-stages", type=pathlib.Path, help="how pods on fake nodes behave")
    up.add_argument("--control-plane-only", action="store_true", help="no nodes at all")
    up.add_argument(
        "--audit",
        action="store_true",
        help="audit everybody, not the operator alone (at the first start)",
    )
    commands.add_parser("down", help="take it down and leave nothing; what was built stays")
    commands.add_parser("status", help="say what runs")
    commands.add_parser("build", help="build the programs and the base image, nothing else")
    commands.add_parser("check", help="see that the cluster does what clusters do, 20 s")
    commands.add_parser("kubeconfig", help="print the path of the kubeconfig")
    commands.add_parser("bin", help="print the folder with kubectl and the other programs")
    made = commands.add_parser("images", help="build the project's images")
    made.add_argument("names", nargs="*", help="operator, mock, cpu, hub (the default), embedded")
    commands.add_parser("load", help="bring the built images into the nodes")
    to = commands.add_parser("forward", help="listen on loopback for a Service of the cluster")
    to.add_argument("name", help="the Service")
    to.add_argument("-n", "--namespace", default="default", help="its namespace")
    to.add_argument("--port", type=int, default=8002, help="port here and there (default 8002)")
    inside = commands.add_parser("run", help="run a command inside the cluster's network")
    inside.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    return parser.parse_args()


def up(config: Settings, args: argparse.Namespace) -> None:
    """Bring the chosen cluster up."""
    chosen = backends.choose(config)
    if not isinstance(chosen, backends.Embedded):
        chosen.up()
        return
    if not 1 <= args.nodes <= 9:
        raise Problem("--nodes takes 1 to 9")
    cluster.up(
        config,
        count=args.nodes,
        fake=args.fake_nodes,
        stages=args.kwok_stages,
        control_plane_only=args.control_plane_only,
        audit=args.audit,
    )


def forward_service(config: Settings, args: argparse.Namespace) -> None:
    """Forward loopback to a Service: unlike `kubectl port-forward` it survives a switch."""
    chosen = backends.choose(config)
    if not isinstance(chosen, backends.Embedded):
        raise Problem("forward is for the embedded cluster; use `kubectl port-forward` elsewhere")
    command = [*control_plane.kubectl(config), "get", "service", args.name, "-n", args.namespace]
    service = json.loads(run(*command, "-o", "json"))
    address = f"{service['spec']['clusterIP']}:{args.port}"
    say(f"http://127.0.0.1:{args.port} is Service {args.namespace}/{args.name}; Ctrl-C ends it")
    try:
        forward.run(f"127.0.0.1:{args.port}", f"/run/netns/{config.namespace(1)}", address)
    except OSError as error:
        raise Problem(f"port {args.port} on loopback: {error.strerror}") from error


def run_inside(config: Settings, args: argparse.Namespace) -> None:
    """Become a command in node 1's namespace, with the kubeconfig that works there."""
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not words:
        raise Problem("say which command, as: python3 -m devcluster run -- curl http://10.96.0.1")
    env = {**os.environ, "KUBECONFIG": str(config.inside_kubeconfig)}
    env["PATH"] = f"{config.bin}{os.pathsep}{env.get('PATH', '')}"
    command = [*in_namespace(config.namespace(1)), *words]
    os.execvpe(command[0], command, env)


COMMANDS = {
    "up": up,
    "down": lambda config, args: cluster.down(config),
    "status": lambda config, args: print(cluster.status(config)),
    "build": lambda config, args: build.build_all(config),
    "check": lambda config, args: check.run_checks(config),
    "kubeconfig": lambda config, args: print(backends.choose(config).kubeconfig()),
    "bin": lambda config, args: print(config.bin),
    "images": lambda config, args: images.build_images(
        config, args.names, os.environ.get("PYTHON") or sys.executable
    ),
    "load": lambda config, args: backends.choose(config).load(),
    "forward": forward_service,
    "run": run_inside,
}

if __name__ == "__main__":
    main()
