"""The files that ship, filled in as a user would."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster"

IMAGE = f"registry.example.org/syn2real-study@sha256:{'0' * 64}"

FILLED = {
    "cluster.yaml": {
        "region": "us-east-1",
        "image": IMAGE,
        "ImageId": "ami-12c6146b",
        "SubnetIds": "subnet-0a",
        "SecurityGroupIds": "sg-0a",
    },
    "onprem.yaml": {
        "head_ip": "10.0.0.1",
        "worker_ips": "10.0.0.2, 10.0.0.3",
        "ssh_user": "me",
        "image": IMAGE,
    },
    "kuberay.yaml": {"entrypoint": "s3://studies/runs", "image": IMAGE},
}


def filled(name: str, **values: str) -> str:
    """A file's text with its fields filled in, some of them by other values than usual."""
    lines = (FOLDER / name).read_text().splitlines()
    for field, value in {**FILLED[name], **values}.items():
        places = [
            i
            for i, line in enumerate(lines)
            if line.lstrip(" -").startswith(f"{field}:") and "FILL_IN" in line
        ]
        assert len(places) == 1, f"{name}: {field}: {places}"
        lines[places[0]] = lines[places[0]].replace("FILL_IN", value)
    text = "\n".join(lines) + "\n"
    assert "FILL_IN" not in text
    return text
