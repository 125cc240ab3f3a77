"""What a user would pick instead: each script does the same sweep, as its own documentation says."""
