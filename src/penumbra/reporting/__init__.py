"""What a study shows: its context, the one function that formats numbers, captions, and the written report."""
