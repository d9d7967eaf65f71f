"""The configuration of a study: space files and how they are read, validated and documented."""
