"""From records to figures. Pure: nothing is drawn, printed or run."""
