"""What bench/mixed.py is made of: the questions, what answers look like, the replay in process, the replay through a server."""
