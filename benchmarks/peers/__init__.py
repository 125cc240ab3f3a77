"""What a user would pick instead: the same sweep, the way each documentation recommends."""
