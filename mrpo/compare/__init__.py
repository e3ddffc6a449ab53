"""Runs laid side by side: what differs in their settings, what their rewards came to, and whether seeds can tell."""
