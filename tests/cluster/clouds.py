"""AWS's interface on this machine, with what aws_setup.sh makes in it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import boto3

from tests.cluster.files import FOLDER, ROOT

REGION = "us-east-1"
BUCKET = "studies"


@dataclass(frozen=True)
class Account:
    """What cluster.yaml is filled in with."""

    subnet: str
    group: str
    image: str


def make_commands(folder: Path) -> Path:
    """A folder with ``aws``, for PATH."""
    folder.mkdir()
    command = folder / "aws"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.cluster.aws_cli "$@"\n')
    command.chmod(0o755)
    return folder


def set_up_account(endpoint: str, home: Path, cidr: str) -> Account:
    """Runs aws_setup.sh in an account that has nothing but a network."""
    home.mkdir()
    ec2 = boto3.client("ec2", endpoint_url=endpoint, region_name=REGION)
    vpc = ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=cidr)["Subnet"]["SubnetId"]
    path = os.pathsep.join(
        [str(make_commands(home / "bin")), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    done = subprocess.run(
        [FOLDER / "aws_setup.sh"],
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
        env={
            **os.environ,
            "PATH": path,
            "HOME": str(home),
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "PYTHONPATH": str(ROOT),
            "BUCKET": BUCKET,
            "VPC": vpc,
            "SSH_FROM": "10.8.0.0/16",
        },
    )
    assert done.returncode == 0, done
    assert (home / ".ray" / "auth_token").read_text().strip() not in done.stdout + done.stderr
    group = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["syn2real"]}])[
        "SecurityGroups"
    ][0]["GroupId"]
    assert done.stdout == (
        f"For cluster.yaml: region {REGION}, SecurityGroupIds [{group}]; storage: s3://{BUCKET}\n"
    )
    image = ec2.describe_images()["Images"][0]["ImageId"]
    return Account(subnet, group, image)
