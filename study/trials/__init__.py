"""What a trial is while it runs, leaves behind in its record, and is worth among others."""
