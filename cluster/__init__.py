"""Files that define clusters for studies, and checks of such files."""
