"""The part of AWS's command line that aws_setup.sh uses, on the endpoint of the environment.

Like the real one, it takes services, operations, parameters and their types from botocore's
description of them, so a misspelt one fails.
"""

import json
import sys
from pathlib import Path
from typing import Any

import botocore.session
import jmespath
from botocore import xform_name


def main(arguments: list[str]) -> int:
    """Calls an operation and prints what ``--query`` asks for."""
    session = botocore.session.get_session()
    if arguments == ["configure", "get", "region"]:
        print(session.get_config_variable("region"))
        return 0
    service, operation, *rest = arguments
    client = session.create_client({"s3api": "s3"}.get(service, service))
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    query, output = options.pop("--query", None), options.pop("--output", "json")
    method = operation.replace("-", "_")
    shape = client.meta.service_model.operation_model(
        client.meta.method_to_api_mapping[method]
    ).input_shape
    names = {"--" + xform_name(name, "-"): name for name in shape.members}
    parameters = {
        names[option]: _value(text, shape.members[names[option]].type_name)
        for option, text in options.items()
    }
    answer = getattr(client, method)(**parameters)
    answer.pop("ResponseMetadata")
    found = jmespath.search(query, answer) if query else answer
    if found:
        print(found if output == "text" else json.dumps(found, default=str))
    return 0


def _value(text: str, kind: str) -> Any:
    if text.startswith("fileb://"):
        return Path(text.removeprefix("fileb://")).read_bytes()
    return json.loads(text) if kind in ("structure", "list", "map") else text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
