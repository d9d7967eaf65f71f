"""Prints the JSON schema of a space: ``python -m study.schema``."""

import json

from study.config.json_schema import space_schema

if __name__ == "__main__":
    print(json.dumps(space_schema(), indent=1, ensure_ascii=False))
