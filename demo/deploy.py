"""Install the operator into the kubeconfig's cluster, with the hub mirror unless told otherwise."""

import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
SYSTEM = "chatmodel-system"
MIRROR = "http://hub.hub"


def kubectl(*words: str, text: str | None = None) -> str:
    """Run kubectl; end with its words when it fails."""
    done = subprocess.run(
        ["kubectl", *words], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"`kubectl {' '.join(words[:4])}` failed: {done.stderr.strip()}")
    return done.stdout


def change_settings(*, mirror: bool, embedded: str) -> None:
    """Say in the operator's settings where models are; JSON is YAML too."""
    found = json.loads(kubectl("-n", SYSTEM, "get", "cm", "chatmodel-operator", "-o", "json"))
    text = found["data"]["settings.yaml"]
    if mirror:
        text = text.replace("endpoint: null", f"endpoint: {MIRROR}")
    if embedded:
        text += f"embedded: {embedded}\n"
    patch = json.dumps({"data": {"settings.yaml": text}})
    kubectl("-n", SYSTEM, "patch", "cm", "chatmodel-operator", "--type=merge", "-p", patch)


def main() -> None:
    """Apply, point the operator at the hub, and wait until both are there."""
    parser = argparse.ArgumentParser(description="Install operator and hub mirror.")
    parser.add_argument("--real-hub", action="store_true", help="use the Hugging Face hub")
    parser.add_argument(
        "--embedded", default="", help="JSON for the settings: images with models inside"
    )
    args = parser.parse_args()
    apply = ("apply", "--server-side", "--force-conflicts", "-f")
    kubectl(*apply, str(ROOT / "deploy/install.yaml"))
    kubectl("wait", "--for=condition=Established", "crd/instanceclasses.carepath.ai")
    kubectl(*apply, str(ROOT / "deploy/classes.yaml"))
    if not args.real_hub:
        kubectl("apply", "-f", str(ROOT / "tests/support/hub/hub.yaml"))
    change_settings(mirror=not args.real_hub, embedded=args.embedded)
    # New images under the same tag, and settings: both are read at start.
    for where, what in ((SYSTEM, "chatmodel-operator"), ("hub", "hub")):
        if where == "hub" and args.real_hub:
            continue
        kubectl("-n", where, "rollout", "restart", f"deployment/{what}")
        kubectl("-n", where, "rollout", "status", f"deployment/{what}", "--timeout=120s")
    print("the operator runs in namespace chatmodel-system", file=sys.stderr)


if __name__ == "__main__":
    main()
