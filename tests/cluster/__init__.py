"""Files and rules of clusters, and Ray on this machine."""
