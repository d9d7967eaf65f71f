"""Check a cluster file offline, before it costs money: ``python -m cluster.check FILE``.

The file is a configuration for ``ray up`` (AWS, or machines by ssh) or a RayJob of KubeRay. Each
finding is a line: place, rule, value, remedy.
"""

import argparse
import sys
from pathlib import Path

from cluster.findings import Finding, Tree
from trainables.configuration.command import command
from trainables.configuration.schema import join
from trainables.configuration.yaml_file import YamlFile, read_yaml

USAGE = "python -m cluster.check"


def findings_of(tree: Tree) -> list[Finding]:
    """Return the findings about the content of a file.

    Raises:
        ValueError: The file is of no supported kind.
    """
    if tree.get("apiVersion") == "ray.io/v1" and tree.get("kind") == "RayJob":
        from cluster.kuberay_rules import check_kuberay

        return list(check_kuberay(tree))
    provider = tree.get("provider")
    kind = provider.get("type") if isinstance(provider, dict) else None
    if kind not in ("aws", "local"):
        raise ValueError(
            "must be a file of `ray up` with provider/type aws or local, or a RayJob "
            f"of ray.io/v1, got provider/type {kind!r} and kind "
            f"{tree.get('kind')!r}."
        )
    from cluster.launcher_rules import check_launcher

    findings = list(check_launcher(tree))
    if kind == "aws" and isinstance(tree.get("available_node_types"), dict):
        from cluster.aws_rules import check_aws

        findings += check_aws(tree)
    return findings


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns:
        Exit code: 0 without findings, 1 with findings, 2 if the file cannot be checked.
    """
    parser = argparse.ArgumentParser(prog=USAGE, description=__doc__)
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    file = read_yaml(options.file)
    try:
        findings = findings_of(file.content)
    except ValueError as error:
        raise ValueError(f"{options.file}: {error}") from error
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is missing: pip install 'syn2real-study[cluster]'."
        ) from error
    for line in dict.fromkeys(_line(file, finding) for finding in findings):
        print(line)
    if not findings:
        print(f"{options.file}: nothing found.")
    return 1 if findings else 0


def _line(file: YamlFile, finding: Finding) -> str:
    """Format a finding with its line in the file."""
    place = f"{join(finding.place)}: " if finding.place else ""
    return f"{file.where(finding.place)}: {place}{finding}"


if __name__ == "__main__":
    sys.exit(main())
