"""What one bare GPU shows in seven minutes (``run.sh``), and what it must be given for that (``pack.sh``)."""
