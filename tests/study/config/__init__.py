"""Tests of a study's configuration, its JSON schema and the reference."""
