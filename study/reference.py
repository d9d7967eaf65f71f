"""Prints the reference of every key: ``python -m study.reference > docs/reference.md``."""

from study.config.reference import reference

if __name__ == "__main__":
    print(reference(), end="")
